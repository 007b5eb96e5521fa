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

// heartbeat sends heartbeats until the returned function is called. Without them
// neither an abort nor the death of a worker would be noticed in time. Most
// activities end before the first one is due.
func heartbeat(ctx context.Context) (stop func()) {
	return heartbeatWith(ctx, func() []any { return nil })
}

// heartbeatWith is heartbeat with details, which are read for each heartbeat. It
// continues when ctx ends, so that the attempt is not given up before it returns: a
// change that was sent is still confirmed, and the command of an aborted release is
// stopped.
func heartbeatWith(ctx context.Context, details func() []any) (stop func()) {
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
		timeout = time.Hour // no heartbeat is required
	}
	return release.HeartbeatInterval(timeout)
}

// A waitReporter reports in heartbeats what an activity waits for.
type waitReporter struct {
	every time.Duration

	mu       sync.Mutex
	reasons  map[string]string // by what is waited for
	reported string
	sent     time.Time
}

// newWaitReporter sends heartbeats with the reasons that are set, until the returned
// function is called.
func newWaitReporter(ctx context.Context) (*waitReporter, func()) {
	w := &waitReporter{every: heartbeatInterval(ctx), reasons: map[string]string{}, sent: time.Now()}
	return w, heartbeatWith(ctx, func() []any { return []any{w.report()} })
}

// set records why the activity of ctx waits for the thing of that name; "" ends the
// wait. A new reason is sent with the next heartbeat, or at once if the last one is
// older than half an interval. Safe for concurrent use.
func (w *waitReporter) set(ctx context.Context, name, reason string) {
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
func (w *waitReporter) report() release.Heartbeat {
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
func (w *waitReporter) text() string {
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
