package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// Exit codes are a stable interface for scripts.
const (
	ExitOK         = 0 // also: promoted, unchanged, restored
	ExitFailed     = 1 // also: stopped before the first change
	ExitUsage      = 2
	ExitRolledBack = 3
	ExitDetached   = 4 // no longer watching; the release continues
	ExitPerson     = 5 // held, kept or stranded: needs an operator
	ExitSuperseded = 6 // a newer revision runs there or waits for it
)

// An ExitError is an error with an exit code. If Err is nil, the program prints nothing,
// because the command has printed the reason.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Usage returns a usage error with exit code 2.
func Usage(format string, args ...any) error {
	return &ExitError{Code: ExitUsage, Err: fmt.Errorf(format, args...)}
}

// ExitWith returns an error that sets the exit code and prints nothing, or nil for ExitOK.
func ExitWith(code int) error {
	if code == ExitOK {
		return nil
	}
	return &ExitError{Code: code}
}

// codeOfOutcome returns the exit code for an outcome.
func codeOfOutcome(o release.Outcome) int {
	switch o {
	case release.Promoted, release.Unchanged, release.Restored:
		return ExitOK
	case release.Stopped:
		return ExitFailed
	case release.RolledBack:
		return ExitRolledBack
	case release.Superseded:
		return ExitSuperseded
	}
	return ExitPerson
}

// CodeOf returns the exit code of a release that has ended or is held.
func CodeOf(s client.Snapshot) int {
	if s.Failed != "" || s.Held != nil {
		return ExitPerson
	}
	return codeOfOutcome(s.Outcome)
}

// addRemedy adds the remedy to an error of package client.
func addRemedy(err error) error {
	var failed *client.Error
	var underWay *client.UnderWayError
	var unknown *client.NoReleaseError
	var ambiguous *client.AmbiguousError
	switch {
	case errors.As(err, &underWay):
		return fmt.Errorf("%w; wait for it (release watch %[2]s) or stop it (release abort %[2]s) first", err, view.Ref(underWay.ID))
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; `release list` shows those there are", err)
	case errors.As(err, &ambiguous):
		return Usage("%w\nuse a longer prefix", err)
	case !errors.As(err, &failed):
		return err
	}
	switch failed.Kind {
	case client.Unreachable:
		return fmt.Errorf("%w; start one with `release dev`, or set TEMPORAL_ADDRESS", err)
	case client.NoNamespace:
		return fmt.Errorf("%w; set TEMPORAL_NAMESPACE", err)
	case client.Denied:
		return fmt.Errorf("%w; check TEMPORAL_API_KEY and the TLS settings", err)
	case client.MissingAttribute:
		return fmt.Errorf("%w; `release worker` registers the search attributes if it may, else: temporal operator search-attribute create --type Keyword --name %s", err, strings.Join(client.SearchAttributes(), " --name "))
	}
	return err
}
