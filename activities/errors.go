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

// permanent wraps err as a non-retryable application error of the given kind.
func permanent(kind string, err error, details ...any) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), kind, err, details...)
}

func tooLarge(err error) error { return permanent(release.KindTooLarge, err) }

// classify returns err as Temporal should treat it. Errors of the driver, Fly, git and
// registries that a retry does not cure are permanent. All others are retried, at
// growing delays: the delay is chosen here and not by the retry policy, which also
// applies to workers that died, whose activities must begin again at once.
func classify(ctx context.Context, err error) error {
	if final, ok := err.(*driver.Error); ok {
		if f, ok := final.Failure(); ok {
			return permanent(final.Kind, f, f)
		}
		return permanent(final.Kind, final.Err)
	}
	var app *temporal.ApplicationError
	var final *driver.Error
	switch {
	case err == nil, errors.As(err, &app):
		return err
	case errors.As(err, &final): // beside other errors, as of CloseRollout, it is retried with them
		return err
	case errors.Is(err, fly.ErrTooLong):
		return tooLarge(fmt.Errorf("%w: the machines of one Fly app, with their configs, are more than this program reads; make the files in the configs smaller, or split the app", err))
	case driver.IsPermanent(err), errors.Is(err, git.ErrUnknown), errors.Is(err, git.ErrUnsafe), errors.Is(err, git.ErrNotRepository), isRegistryFinal(err):
		return permanent(release.KindRefused, err)
	}
	if ctx.Err() != nil {
		return err // the caller decides what follows
	}
	delay := retryDelay(activity.GetInfo(ctx))
	var answer *fly.Error
	if errors.As(err, &answer) && answer.RetryAfter > 0 {
		delay = answer.RetryAfter
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), "", temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: delay})
}

// isRegistryFinal reports whether a registry would answer the same again.
func isRegistryFinal(err error) bool {
	return errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrUnauthorized) || errors.Is(err, image.ErrReference) || errors.Is(err, image.ErrPlatform)
}

// retryDelay returns the delay before the attempt after this one. Tests and builds
// have ten attempts, in some five minutes.
func retryDelay(attempt activity.Info) time.Duration {
	first, growth, most := time.Second, 1.5, 15*time.Second
	if attempt.TaskQueue == release.BuildQueue {
		first, growth, most = 2*time.Second, 2, time.Minute
	}
	return time.Duration(min(float64(first)*math.Pow(growth, float64(attempt.Attempt-1)), float64(most)))
}
