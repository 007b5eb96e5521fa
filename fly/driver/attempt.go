package driver

import (
	"context"
	"time"
)

// An Attempt is what the caller knows of the operation that it runs: an operation
// that failed, or whose caller died, is run again as another attempt.
type Attempt struct {
	Number    int       // 1 is the first attempt; 0 counts as 1
	Scheduled time.Time // when the first attempt was asked for; zero is now
	// Waiting, if set, is told what the operation waits for, by a name for it; ""
	// ends a wait.
	Waiting func(ctx context.Context, name, reason string)
	Log     Logger // nil: nothing is logged
	// Aborted reports whether ctx ended because the operation is not wanted any
	// more. If it only ended here, the next attempt continues. nil: each end of the
	// context is an abort.
	Aborted func(ctx context.Context) bool
	// RunEnded reports whether a run, as release.Holder names it in a lease, has
	// ended, and is not the caller's own. nil: none has.
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

// attemptOf returns the attempt that ctx belongs to: a first one unless WithAttempt
// was called.
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

// reportWaiting tells the caller of ctx what is waited for; "" ends the wait.
func reportWaiting(ctx context.Context, name, reason string) {
	if a := attemptOf(ctx); a.Waiting != nil {
		a.Waiting(ctx, name, reason)
	}
}

type noLog struct{}

func (noLog) Info(string, ...any) {}
func (noLog) Warn(string, ...any) {}
