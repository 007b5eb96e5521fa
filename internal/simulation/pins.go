package simulation

import (
	"maps"
	"slices"
	"time"

	"github.com/microbima/release/release"
)

// recordPin records that the pin with that workflow ID is open. The returned function
// records its end.
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

// findPin returns the start of the open pin with that workflow ID, and whether there
// is one.
func (c *checker) findPin(id string) (since time.Time, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, open = c.pins[id]
	return since, open
}

// removePins removes all pins, so that releases may change all environments again.
func (ops *operators) removePins() {
	ops.sim.checker.mu.Lock()
	ids := slices.Sorted(maps.Keys(ops.sim.checker.pins))
	ops.sim.checker.mu.Unlock()
	for _, id := range ids {
		if err := ops.sim.temporal.SignalWorkflowByID(id, release.UnpinSignal, release.Unpinning{By: "ben", Reason: "simulated"}); err != nil {
			ops.sim.addViolation("%s could not be removed: %v", id, err)
		}
	}
}

// isOvertaken reports whether a newer version than that of r was found in the
// environment, either by another rollout or when r started.
func (c *checker) isOvertaken(r *rolloutRun) bool {
	c.mu.Lock()
	found := slices.ContainsFunc(c.rollouts, func(other *rolloutRun) bool { // an outcome that confirms the version of the environment
		return other.environment == r.environment && other.report != nil && (other.report.Outcome == release.Unchanged || other.report.Outcome == release.Promoted && other.req.SetsHead) && versionOf(other.req.Revision.Commit) > versionOf(r.req.Revision.Commit)
	})
	c.mu.Unlock()
	return found || r.isOlderThanFound()
}

// isOlderThanFound reports whether a machine ran a newer version than that of r when r
// started.
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
