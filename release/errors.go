package release

import (
	"errors"
	"fmt"
)

var (
	// ErrPlanStale means that the machines on Fly changed since the plan was made.
	ErrPlanStale = errors.New("the plan no longer fits what Fly runs")
	// ErrGateExpired means that the timeout of the gate passed without a review.
	ErrGateExpired = errors.New("nobody decided")
	// ErrAborted means that a user aborted the release.
	ErrAborted = errors.New("aborted")
)

// A StaleError is an ErrPlanStale with the reason why the plan no longer matches.
type StaleError struct{ Reason string }

func newStaleError(format string, args ...any) error {
	return &StaleError{fmt.Sprintf(format, args...)}
}

func (e *StaleError) Error() string { return e.Reason }
func (e *StaleError) Unwrap() error { return ErrPlanStale }

// Rejected is the error of a release whose plan was rejected.
type Rejected struct{ Review }

func (e *Rejected) Error() string {
	if e.Reason == "" {
		return "rejected by " + e.By
	}
	return fmt.Sprintf("rejected by %s: %s", e.By, e.Reason)
}

// Kinds of permanent errors, stored in histories. The error of an activity has one of
// them as its type.
const (
	KindFailure   = "Failure"   // a machine or a target is unhealthy; details: Failure…
	KindConflict  = "Conflict"  // another client changed the machine
	KindHostFull  = "HostFull"  // the host of a machine has no room for its new version; details: Failure
	KindPermanent = "Permanent" // Fly or git refuses the request permanently
	KindConfig    = "Config"    // the files at the revision are invalid
	KindPreflight = "Preflight" // a precondition of the release is not met
	KindTest      = "Test"      // the tests failed; details: TestResult
	KindBuild     = "Build"     // the build failed; details: BuildResult
	KindScan      = "Scan"      // an image failed its scan; details: ScanResult
	KindTooLarge  = "TooLarge"  // larger than Temporal's limit for one value or one workflow
	KindStranded  = "Stranded"  // abandoned while neither on the plan nor on the baseline
	KindEnded     = "Ended"     // an update arrived after the end of the release
)
