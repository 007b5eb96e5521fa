package driver

import (
	"context"
	"time"
)

// An Attempt describes one attempt of an operation. An operation that failed, or whose
// caller died, is called again as another attempt.
type Attempt struct {
	Number    int       // 1 is the first attempt; 0 counts as 1
	Scheduled time.Time // start of the first attempt; zero is now
	// Waiting, if set, is called with the name and the reason of each wait; an empty
	// reason ends the wait.
	Waiting func(ctx context.Context, name, reason string)
	Log     Logger // nil: nothing is logged
	// Aborted reports whether ctx ended because the operation was aborted. Otherwise
	// the next attempt continues. nil: each end of the context is an abort.
	Aborted func(ctx context.Context) bool
	// RunEnded reports whether a run, as release.LeaseHolder names it in a lease, has
	// ended and is not the caller's own. nil: no run has ended.
	RunEnded func(ctx context.Context, run string) bool
}

// A Logger logs a message with pairs of key and value.
type Logger interface {
	Info(msg string, keyvals ...any)
	Warn(msg string, keyvals ...any)
}

type attemptKey struct{}

// WithAttempt returns a context for operations that are part of a.
func WithAttempt(ctx context.Context, a Attempt) context.Context {
	return context.WithValue(ctx, attemptKey{}, a.withDefaults())
}

// attemptOf returns the attempt of ctx, or a first attempt without WithAttempt.
func attemptOf(ctx context.Context) Attempt {
	if a, ok := ctx.Value(attemptKey{}).(Attempt); ok {
		return a
	}
	return Attempt{}.withDefaults()
}

func (a Attempt) withDefaults() Attempt {
	a.Number = max(a.Number, 1)
	if a.Scheduled.IsZero() {
		a.Scheduled = time.Now()
	}
	if a.Log == nil {
		a.Log = noLog{}
	}
	if a.Aborted == nil {
		a.Aborted = func(ctx context.Context) bool { return ctx.Err() != nil }
	}
	if a.RunEnded == nil {
		a.RunEnded = func(context.Context, string) bool { return false }
	}
	return a
}

// reportWaiting reports the reason of a wait to the caller of ctx; "" ends the wait.
func reportWaiting(ctx context.Context, name, reason string) {
	if a := attemptOf(ctx); a.Waiting != nil {
		a.Waiting(ctx, name, reason)
	}
}

type noLog struct{}

func (noLog) Info(string, ...any) {}
func (noLog) Warn(string, ...any) {}
