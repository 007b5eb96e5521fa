package fly

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Fly's published limits: one request a second per action and machine (per
// app, where there is no machine yet) with a burst of 3; 5 a second with a
// burst of 10 for reads.
const (
	changesPerSecond, changesBurst = 1, 3
	readsPerSecond, readsBurst     = 5, 10
)

// limits keeps them. It remembers only what was busy lately.
type limits struct {
	mu   sync.Mutex
	seen map[limitKey]*limit
}

type limitKey struct{ app, machine, action string }

type limit struct {
	*rate.Limiter
	used time.Time
}

// wait blocks until a request of that kind is within the limits.
func (l *limits) wait(ctx context.Context, key limitKey, read bool) error {
	return l.limiter(key, read).Wait(ctx)
}

func (l *limits) limiter(key limitKey, read bool) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.seen) > 4096 {
		for k, old := range l.seen {
			if now.Sub(old.used) > time.Minute {
				delete(l.seen, k)
			}
		}
	}
	if l.seen == nil {
		l.seen = map[limitKey]*limit{}
	}
	found := l.seen[key]
	if found == nil {
		found = &limit{Limiter: rate.NewLimiter(changesPerSecond, changesBurst)}
		if read {
			found.Limiter = rate.NewLimiter(readsPerSecond, readsBurst)
		}
		l.seen[key] = found
	}
	found.used = now
	return found.Limiter
}
