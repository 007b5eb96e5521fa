package sleep_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/microbima/release/internal/sleep"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := sleep.For(t.Context(), time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Errorf("it returned %v after %s, want nil after a minute", err, time.Since(start))
		}
		lost := errors.New("the lease is lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(lost) })
		start = time.Now()
		if err := sleep.For(ctx, time.Minute); err != lost || time.Since(start) != time.Second {
			t.Errorf("it returned %v after %s, want the cause after a second", err, time.Since(start))
		}
		if err := sleep.For(ctx, 0); err != lost {
			t.Errorf("it returned %v, want the cause", err)
		}
		if err := sleep.For(t.Context(), -time.Second); err != nil {
			t.Errorf("it returned %v, want nil", err)
		}
	})
}
