package release

import "strings"

const holderRunSeparator = ", run "

// Holder returns the description of the leases of a rollout: its release and its run.
func Holder(release, run string) string { return "release " + release + holderRunSeparator + run }

// HolderRun returns the run ID in the description of a lease. ok is false if the
// description was not written by a rollout.
func HolderRun(description string) (run string, ok bool) {
	if !strings.HasPrefix(description, "release ") {
		return "", false
	}
	_, run, ok = strings.Cut(description, holderRunSeparator)
	return run, ok && run != ""
}
