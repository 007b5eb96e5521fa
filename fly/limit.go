package fly

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Fly's published limits: one request a second per action and machine (per app,
// where it is not about one machine) with a burst of 3. Reading one machine is
// the exception, 5 a second with a burst of 10: lists and waits are not.
const (
	perSecond, burst          = 1, 3
	getsPerSecond, getsAtOnce = 5, 10
	getMachine                = "get"
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
func (l *limits) wait(ctx context.Context, key limitKey) error {
	return l.limiter(key).Wait(ctx)
}

func (l *limits) limiter(key limitKey) *rate.Limiter {
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
		found = &limit{Limiter: rate.NewLimiter(perSecond, burst)}
		if key.action == getMachine {
			found.Limiter = rate.NewLimiter(getsPerSecond, getsAtOnce)
		}
		l.seen[key] = found
	}
	found.used = now
	return found.Limiter
}
