package fly

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/microbima/release/internal/sleep"
)

// Fly's published limits: one request per second per action and machine (per
// app, for actions not on one machine) with a burst of 3. The exception is
// reading one machine, 5 per second with a burst of 10; it does not include
// lists and waits.
//
// Fly does not enforce all of them everywhere. So requests of an action on an
// app are paced only after Fly has refused one with 429, and for pacedFor.
const (
	perSecond, burst          = 1, 3
	getsPerSecond, getsAtOnce = 5, 10
	getMachine                = "get"
	pacedFor                  = 10 * time.Minute
)

// limits keeps the limits that Fly enforces. It drops entries that were not
// used lately.
type limits struct {
	mu    sync.Mutex
	paced map[pacedKey]time.Time // → end of pacing
	seen  map[limitKey]*limit
}

// A pacedKey is an action on an app that Fly has refused with 429.
type pacedKey struct{ app, action string }

type limitKey struct{ app, machine, action string }

type limit struct {
	*rate.Limiter
	lastUsed  time.Time
	notBefore time.Time // from Fly's Retry-After
}

// wait blocks until a request of that kind is within the limits. It returns at
// once while Fly has not refused one of its app and action.
func (l *limits) wait(ctx context.Context, key limitKey) error {
	limiter, held := l.limiterFor(key)
	if limiter == nil {
		return nil
	}
	if sleep.For(ctx, time.Until(held)) != nil {
		return ctx.Err()
	}
	return limiter.Wait(ctx)
}

// limiterFor returns the limiter for key, nil while it is not paced, and the
// time before which no request may be sent.
func (l *limits) limiterFor(key limitKey) (*rate.Limiter, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !time.Now().Before(l.paced[pacedKey{key.app, key.action}]) {
		return nil, time.Time{}
	}
	found := l.findLimit(key)
	return found.Limiter, found.notBefore
}

// startPacing paces the action of key on its app from now on, after Fly has
// refused a request with 429 and Retry-After after. It uses up the burst of
// key.
func (l *limits) startPacing(key limitKey, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.paced == nil {
		l.paced = map[pacedKey]time.Time{}
	}
	l.paced[pacedKey{key.app, key.action}] = now.Add(pacedFor)
	found := l.findLimit(key)
	found.AllowN(now, int(found.TokensAt(now)))
	if held := now.Add(after); held.After(found.notBefore) {
		found.notBefore = held
	}
}

// findLimit returns the entry of key, and creates it if necessary. The lock
// must be held.
func (l *limits) findLimit(key limitKey) *limit {
	now := time.Now()
	if len(l.seen) > 4096 {
		for k, old := range l.seen {
			if now.Sub(old.lastUsed) > time.Minute {
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
	found.lastUsed = now
	return found
}
