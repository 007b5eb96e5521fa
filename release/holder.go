package release

import "strings"

const holderRunSeparator = ", run "

// LeaseHolder returns the description of the leases of a rollout: its release and its
// run.
func LeaseHolder(release, run string) string { return "release " + release + holderRunSeparator + run }

// ParseLeaseHolder returns the run ID in the description of a lease. ok is false if the
// description was not written by a rollout.
func ParseLeaseHolder(description string) (run string, ok bool) {
	if !strings.HasPrefix(description, "release ") {
		return "", false
	}
	_, run, ok = strings.Cut(description, holderRunSeparator)
	return run, ok && run != ""
}
