package release

import "strings"

const holderRunSeparator = ", run "

// Holder returns what the leases of a rollout say of it: for which release, and
// in which run.
func Holder(release, run string) string { return "release " + release + holderRunSeparator + run }

// HolderRun returns the run ID in a lease's description. ok is false where no
// rollout wrote it.
func HolderRun(description string) (run string, ok bool) {
	if !strings.HasPrefix(description, "release ") {
		return "", false
	}
	_, run, ok = strings.Cut(description, holderRunSeparator)
	return run, ok && run != ""
}
