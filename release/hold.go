package release

// A HoldReason is the kind of situation in which a rollout is held.
type HoldReason string

const (
	HoldUnverified   HoldReason = "unverified"   // a verdict is unknown
	HoldUnreported   HoldReason = "unreported"   // an earlier rollout ended without a report
	HoldNotRestored  HoldReason = "not restored" // the baseline could not be restored
	HoldNotRemoved   HoldReason = "not removed"  // the new version is healthy, and the old machines remain
	HoldIrreversible HoldReason = "irreversible" // a release command ran whose migrations cannot be undone
)

// Hold is the reason why a rollout is held, and its possible resolutions.
type Hold struct {
	Reason   HoldReason `json:"reason"`
	Why      string     `json:"why"`      // the reason with its cause, in a sentence
	Machines []string   `json:"machines"` // a sentence for each machine
	Choices  []Choice   `json:"choices"`
	// Number is the number of the hold, from 1. A resolution names it.
	Number int `json:"number"`
}
