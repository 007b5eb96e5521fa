package simulation

import (
	"errors"
	"slices"
	"time"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// inheritedBaseline returns the machines from before a terminated or stranded rollout,
// by Fly app, if no later rollout has changed the environment. Otherwise it returns
// nil. The caller holds c.mu.
func (c *checker) inheritedBaseline(environment string) (before map[string][]fly.Machine) {
	if c.sim.hasTrouble(historyLost) {
		return nil // the baseline can't be read
	}
	for _, r := range c.rollouts {
		switch {
		case r.environment != environment || r.ended.IsZero():
		case r.err != nil && before == nil && !r.lastChange.IsZero(): // terminated or stranded
			before = r.before
		case r.report != nil && !r.report.Outcome.ChangedNothing():
			before = nil
		}
	}
	return before
}

// checkTakeoverChoices checks that a takeover is held only while no other rollout has
// changed the environment, and that it offers a rollback if the baseline is known. The
// caller holds c.mu.
func (c *checker) checkTakeoverChoices(r *rolloutRun, h release.Hold) {
	if r.isTakeoverLate(c.rollouts) {
		c.sim.addViolation("%s is held for a terminated rollout, but another rollout has changed %s since", r.id, r.environment)
	}
	isGoingBack := h.Reason == release.HoldNotRestored
	if c.inheritedBaseline(r.environment) != nil && !isGoingBack && !slices.Contains(h.Choices, release.ChoiceRollback) {
		c.sim.addViolation("%s takes over a rollout that has changed machines, but does not offer a rollback: %q, %s", r.id, h.Choices, h.Why)
	}
}

// isTakeoverLate reports whether r takes over a terminated rollout after another
// release has changed the environment.
func (r *rolloutRun) isTakeoverLate(runs []*rolloutRun) bool {
	return r.req.TakeOver && slices.ContainsFunc(runs, func(other *rolloutRun) bool {
		return other.environment == r.environment && other.req.Release != r.req.Release && other.report != nil && !other.report.Outcome.ChangedNothing() &&
			slices.ContainsFunc(runs, func(lost *rolloutRun) bool {
				return lost.runID == r.req.PredecessorRun && !other.started.Before(lost.ended)
			})
	})
}

// mayOverlapTerminated reports whether activities of a terminated rollout may still
// have run when r started.
func (c *checker) mayOverlapTerminated(r *rolloutRun) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.rollouts, func(before *rolloutRun) bool {
		return before.environment == r.environment && before.isTerminated() && !before.ended.After(r.started) && r.started.Sub(before.ended) < 15*time.Second
	})
}

// checkAsked checks the end of a release whose rollout was terminated after its first
// change. An operator must have been asked. The outcome must not be stopped, unless
// another rollout has changed the environment since.
func (c *checker) checkAsked(id string, report *release.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rollouts {
		if r.req.Release != id || !r.isTerminated() || r.lastChange.IsZero() {
			continue
		}
		if report != nil && report.Outcome == release.Stopped && c.inheritedBaseline(r.environment) != nil {
			c.sim.addViolation("the outcome of %s is stopped, but its rollout was terminated after its first change", id)
		}
		if !c.sim.operators.hasAnswered(r.id) && !c.sim.operators.aborted[id] {
			c.sim.addViolation("%s ended without a question, but its rollout was terminated after its first change", id)
		}
		if report != nil && report.Outcome == release.Kept && !c.hasFailedCleanup(id) {
			c.checkStoppedAgain(r)
		}
	}
}

// hasFailedCleanup reports whether a release or one of its rollouts reports something
// that could not be removed. The caller holds c.mu.
func (c *checker) hasFailedCleanup(id string) bool {
	return c.failedCleanups[id] || slices.ContainsFunc(c.rollouts, func(r *rolloutRun) bool {
		return r.req.Release == id && hasEvent(r.events, release.EventCleanupFailed)
	})
}

// checkStoppedAgain checks that a terminated rollout left no machine running that was
// stopped before. The caller holds c.mu.
func (c *checker) checkStoppedAgain(r *rolloutRun) {
	for app, before := range r.before {
		a, _, _ := c.sim.findApp(app)
		if c.sim.hasTrouble(historyLost) || a.AutoStop || !c.changedByOthers[app].IsZero() {
			continue // others start machines too
		}
		for _, now := range c.listMachines(app) {
			i := slices.IndexFunc(before, func(m fly.Machine) bool { return m.ID == now.ID })
			if i >= 0 && before[i].State == "stopped" && !hasCrashed(before[i]) && isRunning(now) {
				c.sim.addViolation("%s was kept, but machine %s of %s was stopped before and is left %s", r.id, now.ID, app, now.State)
			}
		}
	}
}

// checkLeaseHolder reports a violation if a rollout did not get its leases because a
// rollout that has ended still holds them.
func (c *checker) checkLeaseHolder(in activities.LeaseInput, err error) {
	if other := new(driver.LeasedError); !errors.As(err, &other) {
		return // it failed for another reason, or the holder could not be read
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var last string
	for _, m := range in.Machines {
		held := c.sim.fly.Leases(m.FlyApp)[m.Machine]
		run, ours := release.ParseLeaseHolder(held.Description)
		ended := slices.ContainsFunc(c.rollouts, func(r *rolloutRun) bool { return r.runID == run && !r.ended.IsZero() })
		switch {
		case held.Nonce == "" || held.Description == in.Holder:
		case !ours || !ended:
			return // someone else holds the lease
		default:
			last = held.Description
		}
	}
	if last != "" {
		c.sim.addViolation("%s did not get a lease, because %s holds it and has ended: %v", in.Holder, last, err)
	}
}
