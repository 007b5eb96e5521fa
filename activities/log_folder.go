package activities

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
)

// The outputs of a run are kept for keepLogs, and all of them together in maxLogs
// bytes: the oldest are removed first. They are pruned every pruneEvery.
const (
	keepLogs   = 90 * 24 * time.Hour
	maxLogs    = 5 << 30
	pruneEvery = time.Hour
	youngLogs  = 24 * time.Hour // no test or build takes as long
)

// A logFolder has the outputs of tests and builds; "" is none.
type logFolder struct {
	dir    string
	pruned *atomic.Int64 // when it was pruned last, in Unix seconds
}

// create creates the log of one activity of one run. The caller of a workflow chooses
// its ID, so no file outside of the log folder is opened for it.
func (f logFolder) create(ctx context.Context, title string) (*output, error) {
	if f.dir == "" {
		return &output{}, nil
	}
	w := activity.GetInfo(ctx).WorkflowExecution
	name := filepath.Join("logs", filepath.FromSlash(w.ID), w.RunID, title+".log")
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	defer root.Close()
	f.prune(root)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	file, err := root.Create(name)
	if err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	return &output{name: filepath.ToSlash(name), file: file}, nil
}

// prune removes outputs that are too old or too many. One that cannot be removed is
// left for the next time.
func (f logFolder) prune(root *os.Root) {
	now := time.Now()
	last := f.pruned.Load()
	if now.Sub(time.Unix(last, 0)) < pruneEvery || !f.pruned.CompareAndSwap(last, now.Unix()) {
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
