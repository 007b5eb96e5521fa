package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

var (
	// ErrEnded means that the release has ended and takes no more updates.
	ErrEnded = errors.New("the release has ended")
	// ErrNotPinned means that an environment is not pinned.
	ErrNotPinned = errors.New("not pinned")
)

// A Kind classifies an Error by its remedy.
type Kind string

// Kinds of errors. The zero Kind stands for all other errors of Temporal.
const (
	Unreachable      Kind = "unreachable"
	NoNamespace      Kind = "no such namespace"
	Denied           Kind = "permission denied"
	MissingAttribute Kind = "search attribute not registered"
	NotFound         Kind = "no such workflow"
)

// An Error is the error of a call to Temporal.
type Error struct {
	Op        string // the operation: "read release/shop/4f2d1c0b9a8e"
	Kind      Kind
	Address   string
	Namespace string
	Err       error
}

func (e *Error) Error() string {
	switch e.Kind {
	case Unreachable:
		return fmt.Sprintf("Temporal does not answer at %s: %v", e.Address, e.Err)
	case NoNamespace:
		return fmt.Sprintf("%s: Temporal at %s has no namespace %q", e.Op, e.Address, e.Namespace)
	case Denied:
		return fmt.Sprintf("%s: Temporal at %s denies it: %v", e.Op, e.Address, e.Err)
	case NotFound:
		return fmt.Sprintf("%s: Temporal has no such workflow (any more): %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Op, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// A RefusedError is the error of an update that the workflow refused.
type RefusedError struct {
	ID     string
	Type   string // type of the workflow's error: release.KindEnded, …
	Reason string
}

func (e *RefusedError) Error() string { return view.Ref(e.ID) + ": " + e.Reason }

// An UnderWayError means that a different release with the same ID is running.
type UnderWayError struct {
	ID     string
	Reason string // follows "is under way"
}

func (e *UnderWayError) Error() string { return view.Ref(e.ID) + " is under way " + e.Reason }

// A NoReleaseError means that no release matches a reference.
type NoReleaseError struct{ Ref string }

func (e *NoReleaseError) Error() string { return fmt.Sprintf("no release %q", e.Ref) }

// An AmbiguousError means that several releases match a reference.
type AmbiguousError struct {
	Ref string
	IDs []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%q is ambiguous; it may be any of:\n  %s", e.Ref, strings.Join(e.IDs, "\n  "))
}

// kindOf returns the kind of an error of the SDK.
func kindOf(err error) Kind {
	var unavailable *serviceerror.Unavailable
	var namespace *serviceerror.NamespaceNotFound
	var denied *serviceerror.PermissionDenied
	var invalid *serviceerror.InvalidArgument
	switch {
	case errors.As(err, &unavailable), errors.Is(err, context.DeadlineExceeded):
		return Unreachable
	case errors.As(err, &namespace):
		return NoNamespace
	case errors.As(err, &denied):
		return Denied
	case errors.As(err, &invalid) && strings.Contains(err.Error(), "search attribute"):
		return MissingAttribute
	case isNotFound(err):
		return NotFound
	}
	return ""
}

// isNotFound reports whether err means that no workflow, or no open workflow, has that
// ID.
func isNotFound(err error) bool {
	var unknown *serviceerror.NotFound
	return errors.As(err, &unknown)
}

// isWithoutWorker reports whether err means that no worker responds for a workflow while
// the Temporal server does.
func isWithoutWorker(ctx context.Context, err error) bool {
	var late *serviceerror.DeadlineExceeded
	var failed *serviceerror.QueryFailed
	var update *client.WorkflowUpdateServiceTimeoutOrCanceledError
	if ctx.Err() != nil || errors.As(err, &failed) {
		return false
	}
	var precondition *serviceerror.FailedPrecondition // no worker has polled for a while
	return errors.As(err, &late) || errors.As(err, &update) || errors.As(err, &precondition) || errors.Is(err, context.DeadlineExceeded)
}

// isEnded reports whether err means that the workflow has ended.
func isEnded(err error) bool {
	var refused *RefusedError
	var failed *Error
	return errors.As(err, &refused) && refused.Type == release.KindEnded || errors.As(err, &failed) && failed.Kind == NotFound
}

// asRefused returns err as the error of a workflow that refused an update, or nil if it
// is another error.
func asRefused(id string, err error) *RefusedError {
	var failed *temporal.ApplicationError
	if !errors.As(err, &failed) {
		return nil
	}
	return &RefusedError{ID: id, Type: failed.Type(), Reason: failed.Message()}
}
