package git

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// A mirror that nothing was fetched from or checked out of for keepMirror is
// removed: the next release of that repository fetches it again. They are looked
// through every pruneEvery.
const (
	keepMirror = 60 * 24 * time.Hour
	pruneEvery = 24 * time.Hour
)

// prune removes the mirrors that are not used any more. What cannot be removed is
// left for the next time.
func (m *Mirror) prune(ctx context.Context, now time.Time) {
	last := m.pruned.Load()
	if now.Sub(time.Unix(last, 0)) < pruneEvery || !m.pruned.CompareAndSwap(last, now.Unix()) {
		return
	}
	found, err := filepath.Glob(filepath.Join(m.Dir, "*", "lock"))
	if err != nil {
		return
	}
	for _, name := range found {
		info, err := os.Stat(name)
		if err != nil || now.Sub(info.ModTime()) < keepMirror || ctx.Err() != nil {
			continue
		}
		lock := flock.New(name)
		if free, err := lock.TryLock(); err == nil && free {
			_ = removeAll(filepath.Dir(name))
			_ = lock.Unlock()
		}
	}
}
