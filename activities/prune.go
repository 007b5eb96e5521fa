package activities

import (
	"cmp"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// The outputs of a run are kept for keepLogs, and all of them together in
// maxLogs bytes: the oldest go first. They are looked through every pruneEvery.
const (
	keepLogs   = 90 * 24 * time.Hour
	maxLogs    = 5 << 30
	pruneEvery = time.Hour
	youngLogs  = 24 * time.Hour // no test or build takes as long
)

// pruneLogs removes outputs that are too old or too many. What cannot be removed
// is left for the next time.
func (a *Activities) pruneLogs(root *os.Root) {
	now := time.Now()
	last := a.pruned.Load()
	if now.Sub(time.Unix(last, 0)) < pruneEvery || !a.pruned.CompareAndSwap(last, now.Unix()) {
		return
	}
	for _, name := range oldLogs(root.FS(), now, maxLogs) {
		if root.Remove(name) == nil {
			for dir := path.Dir(name); dir != "logs" && dir != "." && root.Remove(dir) == nil; dir = path.Dir(dir) {
				continue // one that is empty now
			}
		}
	}
}

// oldLogs returns the outputs to remove: those that are too old, and the oldest
// of those that are more than limit bytes together. One of the last day stays: it
// may be written to.
func oldLogs(fsys fs.FS, now time.Time, limit int64) (names []string) {
	type file struct {
		name string
		size int64
		age  time.Duration
	}
	var files []file
	total := int64(0)
	_ = fs.WalkDir(fsys, "logs", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".log") {
			return nil // gone, or none
		}
		if info, err := d.Info(); err == nil {
			files = append(files, file{name, info.Size(), now.Sub(info.ModTime())})
			total += info.Size()
		}
		return nil
	})
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(b.age, a.age) })
	for _, f := range files {
		if f.age > keepLogs || f.age > youngLogs && total > limit {
			names = append(names, f.name)
			total -= f.size
		}
	}
	return names
}
