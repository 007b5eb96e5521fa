package release

import (
	"errors"
	"fmt"
)

var (
	// ErrPlanStale: what Fly runs is no longer what the plan was made for.
	ErrPlanStale = errors.New("the plan no longer fits what Fly runs")
	// ErrGateExpired: the gate's timeout passed.
	ErrGateExpired = errors.New("nobody decided")
	// ErrAborted: a person ordered the release to stop.
	ErrAborted = errors.New("aborted")
)

// Rejected is the error of a release that a person said no to.
type Rejected struct{ Decision }

func (e *Rejected) Error() string {
	if e.Reason == "" {
		return "rejected by " + e.By
	}
	return fmt.Sprintf("rejected by %s: %s", e.By, e.Reason)
}

// Kinds of failure that time will not cure, as they are written into histories.
// An activity's error carries one as its type.
const (
	KindFailure   = "Failure"   // a machine or a target is bad; details: Failure…
	KindConflict  = "Conflict"  // somebody else changed the machine
	KindNoRoom    = "NoRoom"    // a machine's host has no room for its new version; details: Failure
	KindRefused   = "Refused"   // Fly or git will not do it, however often it is asked
	KindConfig    = "Config"    // the files at the revision are wrong
	KindPreflight = "Preflight" // what the release needs is not there
	KindTest      = "Test"      // the tests failed; details: TestResult
	KindBuild     = "Build"     // the build failed; details: BuildResult
	KindScan      = "Scan"      // an image may not run; details: ScanResult
	KindTooLarge  = "TooLarge"  // more than Temporal stores as one value, or of one workflow
	KindStranded  = "Stranded"  // given up while neither new nor back
	KindOver      = "Over"      // an update came too late: the release has ended
)
