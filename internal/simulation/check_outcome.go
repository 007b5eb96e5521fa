package simulation

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// checkRolloutEnd records the end of r, and checks its outcome and report.
func (c *checker) checkRolloutEnd(r *rolloutRun, report *release.Report, err error) {
	c.mu.Lock()
	r.ended, r.report, r.err = time.Now(), report, err
	delete(c.openRollouts, r.environment)
	if r.isTerminated() {
		r.recordTerminated()
	}
	c.mu.Unlock()
	close(r.closed)
	var failed *temporal.ApplicationError
	switch {
	case r.isTerminated():
		// checkAsked checks it when the release ends.
	case err != nil && errors.As(err, &failed) && failed.Type() == release.KindStranded:
		c.recordRemarks(r)
		c.checkStrandedError(r, err)
		if !c.sim.operators.hasAnswered(r.id) {
			c.sim.addViolation("%s is stranded, but no operator abandoned it: %v", r.id, err)
		}
	case err != nil:
		c.sim.addViolation("%s failed: %v", r.id, err)
	case report == nil:
		c.sim.addViolation("%s ended without a report", r.id)
	default:
		c.checkOutcome(r, *report)
		c.checkStatusViews(report.Status)
		c.recordRemarks(r)
		c.checkReport(*report)
	}
}

// checkOutcome compares the outcome of r with the machines on Fly.
func (c *checker) checkOutcome(r *rolloutRun, report release.Report) {
	switch report.Outcome {
	case release.Promoted, release.Restored:
		if (report.Outcome == release.Restored) != (r.req.Restores != nil) {
			c.sim.addViolation("the outcome of %s is %s, but a restore was requested: %t", r.id, report.Outcome, r.req.Restores != nil)
		}
		if report.Outcome == release.Restored {
			c.checkRestored(r)
		}
		c.checkPromoted(r)
	case release.RolledBack, release.Stopped, release.Superseded:
		c.checkUndone(r, report)
	case release.Unchanged:
		if !r.req.Unchanged {
			c.sim.addViolation("%s is unchanged, but its plan had %d waves", r.id, len(r.req.Plan.Waves))
		}
		c.checkRestoredState(r, report)
	case release.Kept:
		if !c.sim.operators.hasAnswered(r.id) {
			c.sim.addViolation("%s was kept, but no operator requested it", r.id)
		}
	default:
		c.sim.addViolation("%s ended with outcome %q", r.id, report.Outcome)
	}
}

// checkUndone checks a rollout after which every machine has to be as before it.
func (c *checker) checkUndone(r *rolloutRun, report release.Report) {
	if report.Outcome == release.Superseded && !c.isOvertaken(r) {
		c.sim.addViolation("%s was superseded, but nothing newer than %s ran", r.id, versionOf(r.req.Revision.Commit))
	}
	hasAnswered := c.sim.operators.hasAnswered(r.id)
	if r.req.TakeOver && report.Outcome == release.Stopped && hasAnswered {
		return // after a retry, a late request of the terminated rollout may still change a machine
	}
	if report.Outcome != release.RolledBack || !hasAnswered || !c.hasForeignChange(r) {
		c.checkRestoredState(r, report)
	}
}

// hasForeignChange reports whether someone else changed an app of r.
func (c *checker) hasForeignChange(r *rolloutRun) bool {
	for app := range r.before {
		if c.isChangedByOthers(app) {
			return true
		}
	}
	return false
}

// isChangedByOthers reports whether someone else has changed the app.
func (c *checker) isChangedByOthers(app string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.changedByOthers[app].IsZero()
}

// checkPromoted checks the machines after a promotion. Each must run the image and
// config of the revision, be healthy, and be started, stopped or cordoned as before.
func (c *checker) checkPromoted(r *rolloutRun) {
	if baked := time.Since(r.lastChange); baked < time.Duration(r.req.Bake) && !r.lastChange.IsZero() {
		c.sim.addViolation("%s was promoted %s after its last change, before the end of its bake of %s", r.id, baked, r.req.Bake)
	}
	if r.hasKeptOld() {
		return
	}
	if r.req.Plan.Revision == "" {
		return // a rollback: checkRestored checks the result
	}
	for app, before := range r.before {
		if read := c.lastVerifyRead(app); read.Before(r.lastChange) && len(before) > 0 {
			c.sim.addViolation("%s was promoted, but its machines were not read after the last change, %s before", app, time.Since(r.lastChange))
		}
		now := c.listMachines(app)
		if len(now) == 0 && len(before) > 0 && !c.sim.hasTrouble("machine destroyed by a person") {
			c.sim.addViolation("%s was promoted, but %s has no machines; it had %d", r.id, app, len(before))
		}
		if c.isChangedByOthers(app) {
			continue
		}
		c.checkPromotedMachines(r, app, now)
		c.checkNewVersionRan(r, app, now)
		c.checkGroupSizes(r, app, now)
	}
}

// checkPromotedMachines checks image, config and health of each machine.
func (c *checker) checkPromotedMachines(r *rolloutRun, app string, now []fly.Machine) {
	a, _, _ := c.sim.findApp(app)
	version := versionOf(r.req.Revision.Commit)
	for _, m := range now {
		if m.ImageRef.Digest != a.imageDigest(version) {
			c.sim.addViolation("%s was promoted to %s, but machine %s runs %s", app, version, m.ID, m.ImageRef.Digest)
		}
		if got := readLevel(m); got != a.contentVersion(version) && m.HostStatus != "unreachable" {
			c.sim.addViolation("%s was promoted to %s, but machine %s has the config of %q", app, version, m.ID, got)
		}
		c.checkMachineHealth(r, app, m)
	}
}

// checkGroupSizes checks that each group has as many machines as before the rollout. A
// group that had none must have a warning.
func (c *checker) checkGroupSizes(r *rolloutRun, app string, now []fly.Machine) {
	a, env, _ := c.sim.findApp(app)
	before := r.before[app]
	growth := c.groupGrowth(now, before)
	for _, g := range a.Groups {
		inGroup := func(m fly.Machine) bool { return c.groupName(m) == g.Name }
		if len(before) > 0 && !slices.ContainsFunc(before, inGroup) {
			if !slices.ContainsFunc(r.found[app], inGroup) { // else a terminated rollout made the machines
				c.checkGroupWarning(r, app, g.Name, growth[g.Name])
			}
			continue
		}
		if n := growth[g.Name]; n != 0 && !env.Empty && !c.isLeftMixed(r.environment) {
			c.sim.addViolation("%s was promoted, but the number of machines in group %[3]s changed by %+[2]d", app, n, g.Name)
		}
	}
}

// lastVerifyRead returns the last time at which Verify listed the machines of an app.
func (c *checker) lastVerifyRead(app string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastVerifyReads[app]
}

// groupGrowth returns, by group, how many machines were added.
func (c *checker) groupGrowth(now, before []fly.Machine) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := map[string]int{}
	for _, m := range now {
		count[c.groupNameLocked(m)]++
	}
	for _, m := range before {
		count[c.groupNameLocked(m)]--
	}
	return count
}

// checkGroupWarning checks that the report warns of n new machines in a group that had
// none.
func (c *checker) checkGroupWarning(r *rolloutRun, app, group string, n int) {
	warned := func(e release.EnvironmentStatus) bool {
		return len(e.Warnings) > 0 && slices.ContainsFunc(e.Targets, func(t release.TargetStatus) bool { return t.FlyApp == app && slices.Contains(t.NewGroups, group) })
	}
	if n > 0 && !slices.ContainsFunc(r.report.Environments, warned) {
		c.sim.addViolation("%s was promoted and has %d machines in group %s, which had none, without a warning: %q", app, n, group, r.report.Environments[0].Warnings)
	}
}

// isLeftMixed reports whether a rollout left the environment with machines of two
// versions: it was kept or abandoned, or it was terminated.
func (c *checker) isLeftMixed(environment string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.rollouts, func(r *rolloutRun) bool { return r.leavesMixed(environment) })
}

// checkMachineHealth checks that a machine of a promoted target is in the same
// condition as before the rollout. It ignores changes that are too recent for the last
// verdict.
func (c *checker) checkMachineHealth(r *rolloutRun, app string, m fly.Machine) {
	x := c.compareMachine(r, app, m)
	switch {
	case c.mayProxyStop(app) && (isStoppedOrStopping(m) || x.existed && isStoppedOrStopping(x.before)):
		// Fly's proxy may have stopped or started it since.
	case m.HostStatus == "unreachable":
		// Its health can't be read.
	case x.isCordonChanged() && (!x.existed || !x.isRecent && !c.isLeftMixed(r.environment)):
		c.sim.addViolation("%s was promoted, but machine %s is cordoned: %t", app, m.ID, m.Cordoned)
	default:
		c.checkRunning(r, app, x)
	}
}

// checkRunning checks that a machine of a promoted target runs and is healthy, or is
// stopped or unhealthy as before the rollout.
func (c *checker) checkRunning(r *rolloutRun, app string, x comparedMachine) {
	m := x.now
	switch {
	case x.hadCrashed && !x.isFoundCrashed:
		// A rollback has stopped it since, and it must stay stopped.
	case x.wasDown():
		if isRunning(m) && !x.isRecent && !r.hasMachineEvent(release.EventMachineLeftAwake, m.ID) {
			c.sim.addViolation("%s was promoted, but machine %s was %s and is %s", app, m.ID, x.before.State, m.State)
		}
	case x.isUntouched() && (!isHealthy(x.before) || x.isFoundUnhealthy || wasFailing(m, r.baselineRead)):
		// It failed before the rollout, and the plan does not change it.
	case !isHealthy(m) && !x.isRecent && (x.existed || isRunning(m)):
		c.sim.addViolation("%s was promoted, but machine %s is %s with checks %v", app, m.ID, m.State, m.Checks)
	}
}

// A comparedMachine is a machine now and before a rollout.
type comparedMachine struct {
	now, before fly.Machine
	existed     bool // in the baseline
	hadCrashed  bool // in the baseline
	// isFoundCrashed and isFoundUnhealthy tell how the rollout found it. After a
	// terminated rollout that is not the baseline.
	isFoundCrashed, isFoundUnhealthy bool
	isRecent                         bool // it changed too late for the last verdict
}

// compareMachine compares a machine of an app with itself before r.
func (c *checker) compareMachine(r *rolloutRun, app string, m fly.Machine) comparedMachine {
	x := comparedMachine{now: m}
	x.before, x.existed = findMachine(r.before[app], m.ID)
	x.hadCrashed = x.existed && hasCrashed(x.before)
	if found, ok := findMachine(r.found[app], m.ID); ok {
		x.isFoundCrashed, x.isFoundUnhealthy = hasCrashed(found), !isHealthy(found)
	}
	seen := c.lastSeen(r, app)
	x.isRecent = m.UpdatedAt.After(seen) || slices.ContainsFunc(m.Checks, func(check fly.Check) bool { return check.UpdatedAt.After(seen) })
	return x
}

// hasCrashed reports whether m is stopped because its process failed.
func hasCrashed(m fly.Machine) bool { return m.Crashed() && driver.Describe(m).Crashed }

func findMachine(machines []fly.Machine, id string) (fly.Machine, bool) {
	i := slices.IndexFunc(machines, func(m fly.Machine) bool { return m.ID == id })
	if i < 0 {
		return fly.Machine{}, false
	}
	return machines[i], true
}

// isCordonChanged reports whether the machine is cordoned and was not, or the reverse.
func (x comparedMachine) isCordonChanged() bool {
	return x.now.Cordoned != (x.existed && x.before.Cordoned)
}

// wasDown reports whether the machine was stopped on purpose before the rollout.
func (x comparedMachine) wasDown() bool {
	return x.existed && !isRunning(x.before) && x.before.State != "failed" && !x.hadCrashed
}

// isUntouched reports whether the machine still has the version of before the rollout.
func (x comparedMachine) isUntouched() bool {
	return x.existed && x.now.InstanceID == x.before.InstanceID
}

// wasFailing reports whether a check of m fails now and failed at that time.
func wasFailing(m fly.Machine, then time.Time) bool {
	return slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" && !c.UpdatedAt.After(then) })
}

// lastSeen returns a time from which changes of an app can be missing in the last
// verdicts of r.
func (c *checker) lastSeen(r *rolloutRun, app string) time.Time {
	seen := r.lastVerified
	if known := r.knownListTimes[app]; known.Before(seen) {
		seen = known
	}
	return seen.Add(-5*time.Second - 6*time.Duration(c.sim.Poll))
}

// readLevel returns the version in the config of m: the value of the env var LEVEL.
func readLevel(m fly.Machine) string {
	var c struct{ Env map[string]string }
	if json.Unmarshal(machineConfig(m), &c) != nil {
		return ""
	}
	return c.Env["LEVEL"]
}

// machineConfig returns the config of m, or the incomplete one that Fly returns for an
// unreachable host.
func machineConfig(m fly.Machine) json.RawMessage {
	if len(m.Config) > 0 {
		return m.Config
	}
	return m.IncompleteConfig
}

// checkRestoredState checks that each machine is exactly as it was when the rollout
// started.
func (c *checker) checkRestoredState(r *rolloutRun, report release.Report) {
	base := r.before
	if report.Outcome != release.RolledBack {
		base = r.found // it must not have changed anything
		if c.mayOverlapTerminated(r) {
			base = nil // late requests of a terminated rollout may have changed machines
			if !r.lastChange.IsZero() {
				c.sim.addViolation("%s %s, but it has changed machines", r.id, report.Outcome)
			}
		}
	}
	for app, before := range base {
		if c.isChangedByOthers(app) || c.sim.hasTrouble("stale list") { // stale lists hide the difference from the rollout
			continue
		}
		now := c.listMachines(app)
		for _, was := range before {
			i := slices.IndexFunc(now, func(m fly.Machine) bool { return m.ID == was.ID })
			if i < 0 {
				i = slices.IndexFunc(now, func(m fly.Machine) bool { return m.Name == was.Name })
				if i >= 0 && !r.hasMachineEvent(release.EventMachineRecreated, was.ID) {
					c.sim.addViolation("%s %s: machine %s was created again, but no event says so", r.id, report.Outcome, was.ID)
				}
			}
			if i < 0 {
				c.sim.addViolation("%s %s: machine %s of %s is gone", r.id, report.Outcome, was.ID, app)
				continue
			}
			c.checkEqual(r, report, app, was, now[i])
		}
		for _, m := range now {
			if !slices.ContainsFunc(before, func(b fly.Machine) bool { return b.ID == m.ID || b.Name == m.Name }) {
				c.sim.addViolation("%s %s: machine %s (%s) of %s is new", r.id, report.Outcome, m.ID, m.Name, app)
			}
		}
	}
}

// checkEqual reports each difference between a machine before the rollout and now.
func (c *checker) checkEqual(r *rolloutRun, report release.Report, app string, was, is fly.Machine) {
	addDifference := func(property string, before, after any) {
		c.sim.addViolation("%s %s: %s of machine %s of %s was %v and is %v", r.id, report.Outcome, property, is.ID, app, before, after)
	}
	if was.ImageRef.Digest != is.ImageRef.Digest {
		addDifference("the image", was.ImageRef.Digest, is.ImageRef.Digest)
	}
	if is.HostStatus != "unreachable" && was.HostStatus != "unreachable" && !isSameJSON(was.Config, is.Config) {
		c.sim.addViolation("%s %s: the config of machine %s of %s has changed:\n%s\n%s", r.id, report.Outcome, is.ID, app, was.Config, is.Config)
	}
	if was.Cordoned != is.Cordoned {
		addDifference("the cordon", was.Cordoned, is.Cordoned)
	}
	if isRunning(was) != isRunning(is) && was.InstanceID != is.InstanceID && !c.sim.hasLastingTrouble() && !c.mayProxyStop(app) {
		addDifference("the state", was.State, is.State)
	}
}

// isSameJSON reports whether two JSON documents have the same content.
func isSameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, errP := json.Marshal(x)
	q, errQ := json.Marshal(y)
	return errP == nil && errQ == nil && bytes.Equal(p, q)
}

// checkReport compares the machines in a report with those on Fly.
func (c *checker) checkReport(report release.Report) {
	if !slices.Contains([]release.Outcome{release.Promoted, release.Restored, release.RolledBack}, report.Outcome) || c.sim.hasTrouble("stale list") || c.hasIncompleteReport {
		return
	}
	c.checkVerdicts(report)
	for _, e := range report.Environments {
		for _, t := range e.Targets {
			if c.isChangedByOthers(t.FlyApp) {
				continue
			}
			now := c.listMachines(t.FlyApp)
			for _, reported := range t.Machines {
				i := slices.IndexFunc(now, func(m fly.Machine) bool { return m.ID == reported.ID || reported.ID == "" && m.Name == reported.Name })
				switch {
				case i < 0:
					c.sim.addViolation("the report of %s names machine %s (%s) of %s, which does not exist", report.ID, reported.ID, reported.Name, t.FlyApp)
				case reported.Image.Digest() != now[i].ImageRef.Digest:
					c.sim.addViolation("the report of %s has machine %s of %s with image %s, but it runs %s", report.ID, reported.ID, t.FlyApp, reported.Image.Digest(), now[i].ImageRef.Digest)
				}
			}
			for _, m := range now {
				if !slices.ContainsFunc(t.Machines, func(reported release.MachineStatus) bool { return reported.ID == m.ID }) {
					c.sim.addViolation("the report of %s does not name machine %s (%s) of %s", report.ID, m.ID, m.Name, t.FlyApp)
				}
			}
		}
	}
}

// checkHold checks that a held rollout has a reason and choices.
func (c *checker) checkHold(id string, h release.Hold) {
	c.mu.Lock()
	c.holds++
	if i := slices.IndexFunc(c.rollouts, func(r *rolloutRun) bool { return r.id == id && r.ended.IsZero() && r.req.TakeOver }); i >= 0 {
		c.checkTakeoverChoices(c.rollouts[i], h)
	}
	c.mu.Unlock()
	if h.Why == "" || len(h.Choices) == 0 {
		c.sim.addViolation("%s is held without a reason: %+v", id, h)
	}
	all := func(t Trouble) bool { return !t.findKind().isTransient }
	if h.Reason == release.HoldNotRestored && !slices.ContainsFunc(c.sim.Troubles, all) {
		c.sim.addViolation("%s is held, but no trouble of the case prevents a rollback: %s", id, h.Why)
	}
}
