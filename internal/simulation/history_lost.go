package simulation

import (
	"slices"

	"github.com/microbima/release/release"
)

// historyLost is the kind of trouble in which Temporal has deleted the history of a
// terminated rollout.
const historyLost = "history lost"

// findLostPredecessor returns the terminated rollout before r if its history is lost
// and no rollout has changed the environment since. Otherwise it returns nil.
func (c *checker) findLostPredecessor(r *rolloutRun) *rolloutRun {
	if !c.sim.hasTrouble(historyLost) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, past := range slices.Backward(c.rollouts) {
		switch {
		case past == r || past.environment != r.environment || past.ended.IsZero() || past.ended.After(r.started):
		case past.isTerminated():
			return past
		case past.report == nil || !past.report.Outcome.ChangedNothing():
			return nil
		}
	}
	return nil
}

// checkToldStateUnknown reports a violation if r changes a machine after the history
// of its predecessor was lost, and the gate did not tell the reviewers of its plan.
func (c *checker) checkToldStateUnknown(r *rolloutRun, step release.Step) {
	if r.req.TakeOver || r.req.Rollback || c.sim.operators.wasToldStateUnknown(r.req.Plan.Hash) {
		return
	}
	if lost := c.findLostPredecessor(r); lost != nil {
		c.sim.addViolation("%s: the state before %s is unknown, because the history of %s is lost, but the gate did not show it", step, r.runID, lost.runID)
	}
}

// saysStateUnknown reports whether a gate shows that the state before the rollout is
// unknown.
func saysStateUnknown(gate *release.GateStatus) bool {
	return gate.UnreadRollout != "" && len(gate.Reasons) > 0
}
