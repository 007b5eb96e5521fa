// Package sleep pauses a goroutine.
package sleep

import (
	"context"
	"time"
)

// For waits for d. If ctx ends first, it returns the cause. It does not wait if d is not
// positive.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
