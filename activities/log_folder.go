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

// Outputs are kept for keepLogs and up to maxLogs bytes in total: the oldest are
// removed first, every pruneEvery.
const (
	keepLogs   = 90 * 24 * time.Hour
	maxLogs    = 5 << 30
	pruneEvery = time.Hour
	youngLogs  = 24 * time.Hour // longer than any test or build
)

// A logFolder stores the output of tests and builds. With an empty dir it stores
// nothing.
type logFolder struct {
	dir    string
	pruned *atomic.Int64 // time of the last pruning, in Unix seconds
}

// create creates the log file of one activity of one run. The caller of a workflow
// chooses its ID, so the file is opened below the root of the log folder.
func (f logFolder) create(ctx context.Context, title string) (*output, error) {
	if f.dir == "" {
		return &output{}, nil
	}
	w := activity.GetInfo(ctx).WorkflowExecution
	name := filepath.Join("logs", filepath.FromSlash(w.ID), w.RunID, title+".log")
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("store the output: %w", err)
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return nil, fmt.Errorf("store the output: %w", err)
	}
	defer root.Close()
	f.prune(root)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("store the output: %w", err)
	}
	file, err := root.Create(name)
	if err != nil {
		return nil, fmt.Errorf("store the output: %w", err)
	}
	return &output{name: filepath.ToSlash(name), file: file}, nil
}

// prune removes outputs that are too old or too many. It retries failed removals next
// time.
func (f logFolder) prune(root *os.Root) {
	now := time.Now()
	last := f.pruned.Load()
	if now.Sub(time.Unix(last, 0)) < pruneEvery || !f.pruned.CompareAndSwap(last, now.Unix()) {
		return
	}
	for _, name := range oldLogs(root.FS(), now, maxLogs) {
		if root.Remove(name) == nil {
			for dir := path.Dir(name); dir != "logs" && dir != "." && root.Remove(dir) == nil; dir = path.Dir(dir) {
				continue // the parent may be empty now
			}
		}
	}
}

// oldLogs returns the outputs to remove: the too old ones, and the oldest ones while
// the total is more than limit bytes. Outputs of the last day stay: they may still be
// written.
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
			return nil // not an output, or removed meanwhile
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
