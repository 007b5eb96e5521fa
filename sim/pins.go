package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/microbima/release/release"
)

// pin notes that the pin with that workflow ID is open, until the function that
// it returns is called.
func (c *checker) recordPin(id string) (open func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pins[id] = time.Now()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pins, id)
	}
}

// pinned returns since when the pin with that workflow ID is open.
func (c *checker) findPin(id string) (since time.Time, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, open = c.pins[id]
	return since, open
}

// unpin is what somebody does who lets releases change everything again.
func (ops *operators) removePins() {
	ops.sim.checker.mu.Lock()
	ids := slices.Sorted(maps.Keys(ops.sim.checker.pins))
	ops.sim.checker.mu.Unlock()
	for _, id := range ids {
		if err := ops.sim.temporal.SignalWorkflowByID(id, release.UnpinSignal, release.Unpinning{By: "ben", Reason: "simulated"}); err != nil {
			ops.sim.addViolation("%s could not be taken away: %v", id, err)
		}
	}
}

// isOvertaken reports whether the environment was found to be at a newer version
// than the rollout was for, or a machine ran one when it began.
func (c *checker) isOvertaken(r *rolloutRun) bool {
	c.mu.Lock()
	found := slices.ContainsFunc(c.rollouts, func(is *rolloutRun) bool { // says that the environment is at its revision
		return is.environment == r.environment && is.report != nil && (is.report.Outcome == release.Unchanged || is.report.Outcome == release.Promoted && is.req.Whole) && versionOf(is.req.Revision.Commit) > versionOf(r.req.Revision.Commit)
	})
	c.mu.Unlock()
	return found || r.isOlderThanFound()
}

// olderThanWhatRan reports whether a machine ran a newer version than the
// rollout was for, when it began.
func (r *rolloutRun) isOlderThanFound() bool {
	for _, machines := range r.found {
		for _, m := range machines {
			if v := versionOf(m.Metadata()[release.MetaRevision]); v > versionOf(r.req.Revision.Commit) {
				return true
			}
		}
	}
	return false
}
