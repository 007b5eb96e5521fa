package activities

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/release"
)

// beat sends heartbeats until the returned function is called. Without them
// neither an abort nor the death of a worker would be noticed in time. Most
// activities end before the first one is due.
func beat(ctx context.Context) (stop func()) {
	return beatWith(ctx, func() []any { return nil })
}

// beatWith is beat with details, which are read for each heartbeat. It goes on when
// ctx ends: a change that was sent is still seen through, and the command of a
// release that is aborted is stopped. Until then the attempt is not given up.
func beatWith(ctx context.Context, details func() []any) (stop func()) {
	ctx = context.WithoutCancel(ctx)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		t := time.NewTicker(heartbeatInterval(ctx))
		defer t.Stop()
		for {
			select {
			case <-t.C:
				activity.RecordHeartbeat(ctx, details()...)
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-stopped }
}

// heartbeatInterval returns how often the activity of ctx sends heartbeats: the
// workflow decides with the heartbeat timeout.
func heartbeatInterval(ctx context.Context) time.Duration {
	timeout := activity.GetInfo(ctx).HeartbeatTimeout
	if timeout <= 0 {
		timeout = time.Hour // nobody misses a heartbeat
	}
	return release.HeartbeatInterval(timeout)
}

// A waiter reports in heartbeats what an activity waits for.
type waiter struct {
	every time.Duration

	mu       sync.Mutex
	reasons  map[string]string // by what is waited for
	reported string
	sent     time.Time
}

type waiterKey struct{}

// beatWaiting is beat for an activity that waits: the returned context is for
// reportWaiting.
func beatWaiting(ctx context.Context) (context.Context, func()) {
	w := &waiter{every: heartbeatInterval(ctx), reasons: map[string]string{}, sent: time.Now()}
	stop := beatWith(ctx, func() []any { return []any{w.report()} })
	return context.WithValue(ctx, waiterKey{}, w), stop
}

// reportWaiting reports why the activity of ctx waits for the thing of that
// name; "" says that it no longer does. A new reason is sent with the next
// heartbeat, or at once when the last one is older than half an interval. It
// does nothing without beatWaiting. Safe for concurrent use.
func reportWaiting(ctx context.Context, name, reason string) {
	w, ok := ctx.Value(waiterKey{}).(*waiter)
	if !ok {
		return
	}
	w.mu.Lock()
	if w.reasons[name] = reason; reason == "" {
		delete(w.reasons, name)
	}
	due := time.Since(w.sent) >= w.every/2 && w.text() != w.reported
	w.mu.Unlock()
	if due {
		activity.RecordHeartbeat(ctx, w.report())
	}
}

// report returns the details of the next heartbeat.
func (w *waiter) report() release.Heartbeat {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reported, w.sent = w.text(), time.Now()
	return release.Heartbeat{Waiting: w.reported}
}

// cutText returns text cut to n bytes.
func cutText(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

// maxReasons is how many reasons one heartbeat has.
const maxReasons = 3

// text returns the reasons in one line. w.mu is held.
func (w *waiter) text() string {
	names := slices.Sorted(maps.Keys(w.reasons))
	var parts []string
	for _, name := range names[:min(maxReasons, len(names))] {
		parts = append(parts, cutText(w.reasons[name], 300))
	}
	if more := len(names) - maxReasons; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, "; ")
}
