package activities

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// permanentError returns err as a non-retryable application error of the given kind.
func permanentError(kind string, err error, details ...any) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), kind, err, details...)
}

// tooLargeError returns err as a permanent error of KindTooLarge.
func tooLargeError(err error) error { return permanentError(release.KindTooLarge, err) }

// classifyError returns err as Temporal should treat it. Errors of the driver, Fly, git
// and registries that a retry does not change are permanent. Others are retried at
// growing delays. The delay is set here, because the retry policy also applies to
// workers that died, whose activities must start again at once.
func classifyError(ctx context.Context, err error) error {
	if final, ok := err.(*driver.Error); ok {
		if f, ok := final.Failure(); ok {
			return permanentError(final.Kind, f, f)
		}
		return permanentError(final.Kind, final.Err)
	}
	var app *temporal.ApplicationError
	var final *driver.Error
	switch {
	case err == nil, errors.As(err, &app):
		return err
	case errors.As(err, &final): // joined with other errors (CloseRollout), so all are retried
		return err
	case errors.Is(err, fly.ErrTooLong):
		return tooLargeError(fmt.Errorf("%w: the machines of one Fly app, with their configs, are more than this program reads; make the files in the configs smaller, or split the app", err))
	case driver.IsPermanent(err), errors.Is(err, git.ErrUnknown), errors.Is(err, git.ErrUnsafe), errors.Is(err, git.ErrNotRepository), isRegistryFinal(err):
		return permanentError(release.KindPermanent, err)
	}
	if ctx.Err() != nil {
		return err // the attempt has ended
	}
	delay := retryDelay(activity.GetInfo(ctx))
	var answer *fly.Error
	if errors.As(err, &answer) && answer.RetryAfter > 0 {
		delay = answer.RetryAfter
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), "", temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: delay})
}

// isRegistryFinal reports whether a retry of a registry request fails in the same way.
func isRegistryFinal(err error) bool {
	return errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrUnauthorized) || errors.Is(err, image.ErrReference) || errors.Is(err, image.ErrPlatform)
}

// retryDelay returns the delay before the next attempt. Tests and builds have ten
// attempts in about five minutes.
func retryDelay(attempt activity.Info) time.Duration {
	first, growth, most := time.Second, 1.5, 15*time.Second
	if attempt.TaskQueue == release.BuildQueue {
		first, growth, most = 2*time.Second, 2, time.Minute
	}
	return time.Duration(min(float64(first)*math.Pow(growth, float64(attempt.Attempt-1)), float64(most)))
}
