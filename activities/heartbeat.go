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

// startHeartbeat sends heartbeats until the returned function is called. They deliver
// an abort, and their absence reveals the death of a worker. Most activities end before
// the first.
func startHeartbeat(ctx context.Context) (stop func()) {
	return startHeartbeatWith(ctx, func() []any { return nil })
}

// startHeartbeatWith is startHeartbeat with details, which it reads for each heartbeat.
// It continues after ctx ends, so that the attempt does not time out before it returns:
// it still confirms a change that was sent, and stops the command of an aborted
// release.
func startHeartbeatWith(ctx context.Context, details func() []any) (stop func()) {
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

// heartbeatInterval returns the interval of the heartbeats of ctx's activity, which
// follows from its heartbeat timeout.
func heartbeatInterval(ctx context.Context) time.Duration {
	timeout := activity.GetInfo(ctx).HeartbeatTimeout
	if timeout <= 0 {
		timeout = time.Hour // no heartbeat is required
	}
	return release.HeartbeatInterval(timeout)
}

// A waitReporter reports in heartbeats what the activity waits for.
type waitReporter struct {
	every time.Duration

	mu       sync.Mutex
	reasons  map[string]string // by name of the wait
	reported string
	sent     time.Time
}

// newWaitReporter returns a reporter and sends its reasons in heartbeats until the
// returned function is called.
func newWaitReporter(ctx context.Context) (*waitReporter, func()) {
	w := &waitReporter{every: heartbeatInterval(ctx), reasons: map[string]string{}, sent: time.Now()}
	return w, startHeartbeatWith(ctx, func() []any { return []any{w.report()} })
}

// setReason sets the reason of a wait; "" ends the wait. A new reason is sent with the
// next heartbeat, or at once if the last one is older than half an interval. It is safe
// for concurrent use.
func (w *waitReporter) setReason(ctx context.Context, name, reason string) {
	w.mu.Lock()
	if w.reasons[name] = reason; reason == "" {
		delete(w.reasons, name)
	}
	due := time.Since(w.sent) >= w.every/2 && w.joinReasons() != w.reported
	w.mu.Unlock()
	if due {
		activity.RecordHeartbeat(ctx, w.report())
	}
}

// report returns the details of the next heartbeat.
func (w *waitReporter) report() release.Heartbeat {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reported, w.sent = w.joinReasons(), time.Now()
	return release.Heartbeat{Waiting: w.reported}
}

// cutText returns text cut to n bytes.
func cutText(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

// maxReasons is the maximum number of reasons in one heartbeat.
const maxReasons = 3

// joinReasons returns the reasons in one line. The caller holds w.mu.
func (w *waitReporter) joinReasons() string {
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
