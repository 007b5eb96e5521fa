package fly

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Kinds of failure that a caller may act on. Test for them with errors.Is; an
// Error may be of several kinds. Don't compare its text.
var (
	ErrNotFound     = errors.New("not found")               // 404
	ErrConflict     = errors.New("leased by someone else")  // 409: someone else has the lease
	ErrPrecondition = errors.New("changed by someone else") // 412: current version, secrets version
	ErrRateLimited  = errors.New("rate limited")            // 429, or ctx ended while our own limiter waited
	ErrInvalid      = errors.New("rejected by Fly")         // 400, 422: permanent
	ErrUnauthorized = errors.New("token refused")           // 401, 403
	ErrTimeout      = errors.New("timed out at Fly")        // 408: a wait elapsed, or a host did not respond
	ErrUnavailable  = errors.New("service unavailable")     // 5xx, or no connection
	ErrNoCapacity   = errors.New("no capacity at Fly")      // any status; nothing was changed: the host has no capacity for the machine or is closed to changes
	ErrNameTaken    = errors.New("name taken")              // a machine has this name
	ErrMalformed    = errors.New("malformed response")      // a success with an invalid body
	ErrTooLong      = errors.New("response too long")       // a response of more than maxAnswer bytes: permanent

	// ErrUnknownOutcome: a change was requested, and it is unknown whether it
	// was made. Read it back before trying again.
	ErrUnknownOutcome = errors.New("outcome unknown")
)

// An Error is a request that failed. Its text never contains the token.
type Error struct {
	Op         string        // the attempted operation: "update machine 3d8d…"
	Status     int           // HTTP status; 0 if there was no response
	Code       string        // Fly's status code, e.g. "insufficient_capacity"
	Message    string        // Fly's message
	RequestID  string        // needed by Fly support
	RetryAfter time.Duration // the delay that Fly asks for; 0 if none

	mutation bool  // the request was to change something
	unsent   bool  // the request cannot have reached Fly
	kind     error // a kind that does not follow from the status
	cause    error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "fly: %s: ", e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&b, "%d ", e.Status)
	}
	switch {
	case e.Message != "":
		b.WriteString(e.Message)
	case e.cause != nil:
		b.WriteString(e.cause.Error())
	default:
		b.WriteString(strings.ToLower(http.StatusText(e.Status)))
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", e.RequestID)
	}
	return b.String()
}

// Unwrap returns the error on our side, e.g. context.Canceled.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether e is of the given kind.
func (e *Error) Is(kind error) bool {
	if kind != nil && e.kind == kind {
		return true
	}
	if e.kind == ErrNoCapacity {
		return false // Fly sends it with 400, 412, 422, 500 or 503, which have no other meaning here
	}
	switch kind {
	case ErrUnknownOutcome:
		return e.hasUnknownOutcome()
	case ErrNameTaken:
		return e.Code == "name_taken"
	case ErrUnavailable:
		return e.Status >= 500 || e.Status == 0 && e.kind == nil
	}
	return kind != nil && kind == e.statusKind()
}

// statusKind returns the kind of a 4xx status; nil for other statuses.
func (e *Error) statusKind() error {
	switch e.Status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return ErrInvalid
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrUnauthorized
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusRequestTimeout:
		return ErrTimeout
	case http.StatusConflict:
		return ErrConflict
	case http.StatusPreconditionFailed:
		return ErrPrecondition
	case http.StatusTooManyRequests:
		return ErrRateLimited
	}
	return nil
}

// hasUnknownOutcome reports whether the change may have been made: so it may
// after a timeout of the host (408), a server error (5xx), a lost connection or
// a malformed response. It was not made if Fly had no capacity.
func (e *Error) hasUnknownOutcome() bool {
	if !e.mutation || e.unsent {
		return false
	}
	return e.Status == 0 || e.Status == http.StatusRequestTimeout || e.Status >= 500 || e.kind == ErrMalformed
}

// isDialError reports whether err means that no connection was made.
func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
