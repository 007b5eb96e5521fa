package driver

import (
	"errors"
	"fmt"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// An Error is a failure that a retry of the operation does not cure.
type Error struct {
	// Kind is release.KindConflict, KindFailure, KindNoRoom, KindRefused or
	// KindConfig.
	Kind string
	Err  error // a release.Failure where a machine is the reason
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error that has a kind.
func (e *Error) Unwrap() error { return e.Err }

// Failure returns the evidence of what is wrong with a machine, if e has it.
func (e *Error) Failure() (f release.Failure, ok bool) {
	f, ok = e.Err.(release.Failure)
	return f, ok
}

// IsPermanent reports whether a retry would fail in the same way as err.
func IsPermanent(err error) bool {
	var final *Error
	return errors.As(err, &final) || errors.Is(err, fly.ErrTooLong) ||
		errors.Is(err, fly.ErrInvalid) || errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrUnauthorized)
}

// failure returns an Error of that kind with its evidence.
func failure(kind string, f release.Failure) error { return &Error{Kind: kind, Err: f} }

// conflict returns the error of a machine that is not what the plan was made for.
// Such a machine is never overwritten.
func conflict(s release.Step, format string, args ...any) error {
	return failure(release.KindConflict, release.Failure{
		Target: s.Target, Machine: s.Machine, Group: s.Group, Reason: fmt.Sprintf(format, args...),
	})
}

// isForbidden reports whether Fly refuses a request of this token for good.
func isForbidden(err error) bool {
	return errors.Is(err, fly.ErrUnauthorized) || errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrInvalid)
}

// isRetryable reports whether a read that failed may succeed a moment later.
func isRetryable(err error) bool {
	return errors.Is(err, fly.ErrUnavailable) || errors.Is(err, fly.ErrTimeout) || errors.Is(err, fly.ErrRateLimited) || errors.Is(err, fly.ErrMalformed)
}

// isTransient reports whether a failed read of a machine is worth another one right
// away: just after a create, Fly may not know the machine yet.
func isTransient(err error) bool {
	return errors.Is(err, fly.ErrNotFound) || isRetryable(err)
}
