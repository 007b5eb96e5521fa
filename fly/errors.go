package fly

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Kinds of failure a caller may act on. Test with errors.Is; an Error may be
// of several kinds. Nobody reads its text.
var (
	ErrNotFound     = errors.New("not found")             // 404
	ErrConflict     = errors.New("held by another")       // 409: somebody else's lease
	ErrPrecondition = errors.New("changed meanwhile")     // 412: current version, secrets version
	ErrRateLimited  = errors.New("rate limited")          // 429, or our own limiter could not wait long enough
	ErrInvalid      = errors.New("rejected by Fly")       // 400, 422: time will not cure it
	ErrUnauthorized = errors.New("token refused")         // 401, 403
	ErrTimeout      = errors.New("timed out at Fly")      // 408: a wait elapsed, or a host did not answer
	ErrUnavailable  = errors.New("no service from Fly")   // 5xx, or no connection
	ErrNoCapacity   = errors.New("no room at Fly")        // whatever the status; nothing was changed: its host has no room for the machine, or takes none now
	ErrNameTaken    = errors.New("name taken")            // there is a machine of that name
	ErrMalformed    = errors.New("answer not understood") // a success whose body is none
	ErrTooLong      = errors.New("answer too long")       // a list of more than maxAnswer: time will not cure it

	// ErrUnknownOutcome: it was asked to change something, and it is not known
	// whether that happened. Read back before trying again.
	ErrUnknownOutcome = errors.New("outcome unknown")
)

// An Error is a request that did not succeed. It never holds the token.
type Error struct {
	Op         string        // what was tried: "update machine 3d8d…"
	Status     int           // HTTP status; 0 if there was no answer
	Code       string        // Fly's status word, e.g. "insufficient_capacity"
	Message    string        // Fly's words
	RequestID  string        // what Fly support asks for
	RetryAfter time.Duration // how long Fly asks to wait; 0 if it does not say

	mutation bool  // it was asked to change something
	unsent   bool  // the request cannot have reached Fly
	kind     error // a kind that the status does not say
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

// Unwrap returns what went wrong on our side of the wire, e.g. context.Canceled.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether e is of that kind.
func (e *Error) Is(kind error) bool {
	if kind != nil && e.kind == kind {
		return true
	}
	if e.kind == ErrNoCapacity {
		return false // Fly says it with 400, 412, 422, 500 or 503: the status means nothing else then
	}
	switch kind {
	case ErrUnknownOutcome:
		return e.hasUnknownOutcome()
	case ErrNameTaken:
		return e.Code == "name_taken"
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrConflict:
		return e.Status == http.StatusConflict
	case ErrPrecondition:
		return e.Status == http.StatusPreconditionFailed
	case ErrRateLimited:
		return e.Status == http.StatusTooManyRequests
	case ErrInvalid:
		return e.Status == http.StatusBadRequest || e.Status == http.StatusUnprocessableEntity
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	case ErrTimeout:
		return e.Status == http.StatusRequestTimeout
	case ErrUnavailable:
		return e.Status >= 500 || e.Status == 0 && e.kind == nil
	}
	return false
}

// outcomeUnknown: a host that did not answer (408), a server that broke (5xx),
// a connection that was lost or an answer that cannot be read may all follow a
// change that was made. Not so where Fly says that it found no room.
func (e *Error) hasUnknownOutcome() bool {
	if !e.mutation || e.unsent {
		return false
	}
	return e.Status == 0 || e.Status == http.StatusRequestTimeout || e.Status >= 500 || e.kind == ErrMalformed
}

// neverSent says whether err means that no connection was made.
func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
