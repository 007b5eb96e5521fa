package git

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// Every pruneInterval, the mirrors that were not used for maxUnused are removed.
// The next release of such a repository fetches it again.
const (
	maxUnused     = 60 * 24 * time.Hour
	pruneInterval = 24 * time.Hour
)

// removeUnused removes the mirrors that were not used for maxUnused. A mirror that
// can't be removed is left for the next call.
func (m *Mirror) removeUnused(ctx context.Context, now time.Time) {
	last := m.pruned.Load()
	if now.Sub(time.Unix(last, 0)) < pruneInterval || !m.pruned.CompareAndSwap(last, now.Unix()) {
		return
	}
	found, err := filepath.Glob(filepath.Join(m.Dir, "*", "lock"))
	if err != nil {
		return
	}
	for _, name := range found {
		info, err := os.Stat(name)
		if err != nil || now.Sub(info.ModTime()) < maxUnused || ctx.Err() != nil {
			continue
		}
		lock := flock.New(name)
		if free, err := lock.TryLock(); err == nil && free {
			_ = removeAll(filepath.Dir(name))
			_ = lock.Unlock()
		}
	}
}
