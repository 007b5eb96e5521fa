package driver

import (
	"errors"
	"fmt"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// An Error is a failure that a retry of the operation does not change.
type Error struct {
	// Kind is release.KindConflict, KindFailure, KindHostFull, KindPermanent or
	// KindConfig.
	Kind string
	Err  error // a release.Failure if a machine is the reason
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Failure returns the failure of a machine, if e has one.
func (e *Error) Failure() (f release.Failure, ok bool) {
	f, ok = e.Err.(release.Failure)
	return f, ok
}

// IsPermanent reports whether a retry fails in the same way as err.
func IsPermanent(err error) bool {
	var final *Error
	return errors.As(err, &final) || errors.Is(err, fly.ErrTooLong) ||
		errors.Is(err, fly.ErrInvalid) || errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrUnauthorized)
}

// failureError returns an *Error of that kind with f.
func failureError(kind string, f release.Failure) error { return &Error{Kind: kind, Err: f} }

// conflictError returns the error of a machine that differs from the one in the plan.
// The driver never overwrites such a machine.
func conflictError(s release.Step, format string, args ...any) error {
	return failureError(release.KindConflict, release.Failure{
		Target: s.Target, Machine: s.Machine, Group: s.Group, Reason: fmt.Sprintf(format, args...),
	})
}

// isForbidden reports whether Fly permanently refuses a request with this token.
func isForbidden(err error) bool {
	return errors.Is(err, fly.ErrUnauthorized) || errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrInvalid)
}

// isRetryable reports whether a failed read may succeed soon.
func isRetryable(err error) bool {
	return errors.Is(err, fly.ErrUnavailable) || errors.Is(err, fly.ErrTimeout) || errors.Is(err, fly.ErrRateLimited) || errors.Is(err, fly.ErrMalformed)
}

// isTransient reports whether a failed read of a machine should be repeated at once:
// after a create, Fly may not find the machine yet.
func isTransient(err error) bool {
	return errors.Is(err, fly.ErrNotFound) || isRetryable(err)
}
