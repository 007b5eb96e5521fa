package driver

import (
	"context"
	"errors"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/sleep"
)

const (
	// readLimit is how long one failed read is repeated before the attempt fails.
	readLimit = 20 * time.Second
	// limitedFor is how long one change is repeated while Fly limits it.
	limitedFor = time.Minute
	// staleFor is how long a read with an older version than written is treated as
	// stale.
	staleFor = 15 * time.Second
)

// RetryRead returns the result of read. It repeats a failed read with backoff, for at
// most 20 s, while Fly limits reads, is unavailable or sends malformed responses, so
// that the other reads of an operation need not be repeated.
func RetryRead[T any](ctx context.Context, read func() (T, error)) (T, error) {
	begun := time.Now()
	defer reportWaiting(ctx, "read", "")
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 2*time.Second) {
		got, err := read()
		wait := max(backoff, retryAfter(err))
		if err == nil || !isRetryable(err) || ctx.Err() != nil || time.Since(begun)+wait > readLimit || isFlyAway(ctx, err) {
			return got, err
		}
		reportWaiting(ctx, "read", "read from Fly again: "+err.Error())
		if sleep.For(ctx, wait) != nil {
			return got, err
		}
	}
}

// isFlyAway reports whether Fly was unavailable during a whole earlier attempt and
// still is. Then only the caller retries.
func isFlyAway(ctx context.Context, err error) bool {
	return attemptOf(ctx).Number > 1 && !errors.Is(err, fly.ErrRateLimited)
}

// retryLimited sends a change, and repeats it while Fly refuses it with 429, which
// means that nothing was changed.
func retryLimited[T any](ctx context.Context, send func() (T, error)) (T, error) {
	begun := time.Now()
	for backoff := 250 * time.Millisecond; ; backoff = min(2*backoff, 2*time.Second) {
		got, err := send()
		wait := max(backoff, retryAfter(err))
		if !errors.Is(err, fly.ErrRateLimited) || ctx.Err() != nil || time.Since(begun)+wait > limitedFor {
			return got, err
		}
		if sleep.For(ctx, wait) != nil {
			return got, err
		}
	}
}

// retryAfter returns the delay that Fly asks for, or 0.
func retryAfter(err error) time.Duration {
	var answer *fly.Error
	if errors.As(err, &answer) {
		return answer.RetryAfter
	}
	return 0
}

// readMachine reads one machine. A result older than version is stale: it reads again,
// and returns it only after staleFor.
func readMachine(ctx context.Context, r MachineReader, app, id, version string) (fly.Machine, error) {
	begun := time.Now()
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 2*time.Second) {
		m, err := RetryRead(ctx, func() (fly.Machine, error) { return r.Machine(ctx, app, id) })
		if err != nil || !m.IsOlder(version) || time.Since(begun) > staleFor {
			return m, err
		}
		if err := sleep.For(ctx, backoff); err != nil {
			return m, err
		}
	}
}
