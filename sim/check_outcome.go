package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

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
		// What its release makes of it is looked at when that ends.
	case err != nil && errors.As(err, &failed) && failed.Type() == release.KindStranded:
		if !c.sim.operators.hasAnswered(r.id) {
			c.sim.addViolation("%s is stranded, and nobody gave up on it: %v", r.id, err)
		}
	case err != nil:
		c.sim.addViolation("%s failed: %v", r.id, err)
	case report == nil:
		c.sim.addViolation("%s ended without a report", r.id)
	default:
		c.checkOutcome(r, *report)
		c.checkStatusViews(report.Status)
		c.checkReport(*report)
	}
}

// judge holds an outcome to what Fly runs now.
func (c *checker) checkOutcome(r *rolloutRun, report release.Report) {
	switch report.Outcome {
	case release.Promoted, release.Restored:
		if (report.Outcome == release.Restored) != (r.req.Restores != nil) {
			c.sim.addViolation("%s is %s; it was to go back: %t", r.id, report.Outcome, r.req.Restores != nil)
		}
		if report.Outcome == release.Restored {
			c.checkRestored(r)
		}
		c.checkPromoted(r)
	case release.RolledBack, release.Stopped, release.Superseded:
		if report.Outcome == release.Superseded && !c.isOvertaken(r) {
			c.sim.addViolation("%s was superseded, and nothing newer than %s ran", r.id, versionOf(r.req.Revision.Commit))
		}
		if r.req.TakeOver && report.Outcome == release.Stopped && c.sim.operators.hasAnswered(r.id) {
			return // a person said retry: what the lost one has sent may still take effect, and is planned for
		}
		if report.Outcome != release.RolledBack || !c.sim.operators.hasAnswered(r.id) || !c.hasForeignChange(r) {
			c.checkRestoredState(r, report)
		}
	case release.Unchanged:
		if !r.req.Unchanged {
			c.sim.addViolation("%s is unchanged, and its plan had %d waves", r.id, len(r.req.Plan.Waves))
		}
		c.checkRestoredState(r, report)
	case release.Kept:
		if !c.sim.operators.hasAnswered(r.id) {
			c.sim.addViolation("%s was kept by nobody's word", r.id)
		}
	default:
		c.sim.addViolation("%s ended %q", r.id, report.Outcome)
	}
}

// touched says whether strangers changed something that r is about since it
// was planned.
func (c *checker) hasForeignChange(r *rolloutRun) bool {
	for app := range r.before {
		if c.isChangedByOthers(app) {
			return true
		}
	}
	return false
}

func (c *checker) isChangedByOthers(app string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.changedByOthers[app].IsZero()
}

// mustBePromoted: every machine runs what the revision says, as it was found:
// started or stopped, cordoned or not, and well.
func (c *checker) checkPromoted(r *rolloutRun) {
	if baked := time.Since(r.lastChange); baked < time.Duration(r.req.Bake) && !r.lastChange.IsZero() {
		c.sim.addViolation("%s was promoted %s after its last change; it was to bake for %s", r.id, baked, r.req.Bake)
	}
	if r.hasKeptOld() {
		return
	}
	if r.req.Plan.Revision == "" {
		return // a rollback: the baseline that it leads to is what afterwards compares
	}
	version := versionOf(r.req.Revision.Commit)
	for app, before := range r.before {
		if looked := c.lastVerifyRead(app); looked.Before(r.lastChange) && len(before) > 0 {
			c.sim.addViolation("%s was promoted, and nobody has read its machines since the last change, %s before", app, time.Since(r.lastChange))
		}
		now := c.listMachines(app)
		if len(now) == 0 && len(before) > 0 && !c.sim.hasTrouble("machine destroyed by a person") {
			c.sim.addViolation("%s was promoted, and %s has no machines; it had %d", r.id, app, len(before))
		}
		if c.isChangedByOthers(app) {
			continue
		}
		a, env, _ := c.sim.findApp(app)
		count := c.groupGrowth(now, before)
		for _, m := range now {
			if m.ImageRef.Digest != a.imageDigest(version) {
				c.sim.addViolation("%s was promoted to %s, and machine %s runs %s", app, version, m.ID, m.ImageRef.Digest)
			}
			if got := readLevel(m); got != a.contentVersion(version) && m.HostStatus != "unreachable" {
				c.sim.addViolation("%s was promoted to %s, and machine %s has the config of %q", app, version, m.ID, got)
			}
			c.checkMachineHealth(r, app, m)
		}
		c.checkNewVersionRan(r, app, now)
		for _, g := range a.Groups {
			if had := func(m fly.Machine) bool { return c.groupName(m) == g.Name }; len(before) > 0 && !slices.ContainsFunc(before, had) {
				if !slices.ContainsFunc(r.found[app], had) { // else a rollout that was terminated made them
					c.checkGroupWarning(r, app, g.Name, count[g.Name])
				}
				continue
			}
			if n := count[g.Name]; n != 0 && !env.Empty && !c.isLeftMixed(r.environment) {
				c.sim.addViolation("%s was promoted, and has %+d machines of group %s", app, n, g.Name)
			}
		}
	}
}

func (c *checker) lastVerifyRead(app string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastVerifyReads[app]
}

// perGroup is how many machines more than before each group has now.
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

// mustWarn holds a rollout that made n machines of a group which had none to having
// said so.
func (c *checker) checkGroupWarning(r *rolloutRun, app, group string, n int) {
	warned := func(e release.EnvironmentStatus) bool {
		return slices.ContainsFunc(e.Warnings, func(s string) bool { return strings.Contains(s, "group "+group+" has no machines") })
	}
	if n > 0 && !slices.ContainsFunc(r.report.Environments, warned) {
		c.sim.addViolation("%s was promoted, has %d machines of group %s, which had none, and no warning says so: %q", app, n, group, r.report.Environments[0].Warnings)
	}
}

// left says whether a person has left that environment between two states: it
// may have machines of both.
func (c *checker) isLeftMixed(environment string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.rollouts, func(r *rolloutRun) bool { return r.leavesMixed(environment) })
}

// mustBeWell: a machine of something promoted is as well as it was, unless that
// has changed only just now, or since the last list that was not an old one.
func (c *checker) checkMachineHealth(r *rolloutRun, app string, m fly.Machine) {
	before := r.before[app]
	i := slices.IndexFunc(before, func(b fly.Machine) bool { return b.ID == m.ID })
	hasCrashed := func(b fly.Machine) bool { return b.ID == m.ID && driver.Describe(b).Crashed }
	crashed := slices.ContainsFunc(before, hasCrashed)
	just := c.lastSeen(r, app)
	recent := m.UpdatedAt.After(just) || slices.ContainsFunc(m.Checks, func(check fly.Check) bool { return check.UpdatedAt.After(just) })
	switch {
	case c.mayProxyStop(app) && (isStoppedOrStopping(m) || i >= 0 && isStoppedOrStopping(before[i])):
		// Fly's proxy may have stopped or started it since.
	case m.HostStatus == "unreachable":
		// Whether it was seen in time is for the verdicts to say.
	case i < 0 && m.Cordoned, i >= 0 && m.Cordoned != before[i].Cordoned && !recent && !c.isLeftMixed(r.environment):
		c.sim.addViolation("%s was promoted, and machine %s is cordoned: %t", app, m.ID, m.Cordoned)
	case crashed && !slices.ContainsFunc(r.found[app], hasCrashed):
		// A rollback has stopped it since, and it stays so.
	case i >= 0 && !isRunning(before[i]) && before[i].State != "failed" && !crashed:
		if isRunning(m) && !recent && !r.reportsStillAwake(m.ID) {
			c.sim.addViolation("%s was promoted, and machine %s, which was %s, is %s", app, m.ID, before[i].State, m.State)
		}
	case i >= 0 && m.InstanceID == before[i].InstanceID && (!isHealthy(before[i]) || wasFailing(m, r.baselineRead) || slices.ContainsFunc(r.found[app], func(f fly.Machine) bool { return f.ID == m.ID && !isHealthy(f) })):
		// It was sick, and nothing was to be done to it.
	case !isHealthy(m) && !recent && (i >= 0 || isRunning(m)):
		c.sim.addViolation("%s was promoted, and machine %s is %s with checks %v", app, m.ID, m.State, m.Checks)
	}
}

// wasSick reports whether a check of m that fails now failed at that time already.
func wasFailing(m fly.Machine, then time.Time) bool {
	return slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" && !c.UpdatedAt.After(then) })
}

// admitsAwake reports whether a report says that a machine was started for a look and
// could not be stopped again, as somebody else had its lease by then.
func (r *rolloutRun) reportsStillAwake(machine string) bool {
	return slices.ContainsFunc(r.report.Notes, func(note string) bool {
		return strings.Contains(note, machine) && strings.Contains(note, "was started for a look and could not be stopped again")
	})
}

// seen is when what is in r's last verdicts was so: what has changed since then,
// or only just before, was not seen.
func (c *checker) lastSeen(r *rolloutRun, app string) time.Time {
	seen := r.lastVerified
	if known := r.knownListTimes[app]; known.Before(seen) {
		seen = known
	}
	return seen.Add(-5*time.Second - 6*time.Duration(c.sim.Poll))
}

func readLevel(m fly.Machine) string {
	var c struct{ Env map[string]string }
	if json.Unmarshal(machineConfig(m), &c) != nil {
		return ""
	}
	return c.Env["LEVEL"]
}

func machineConfig(m fly.Machine) json.RawMessage {
	if len(m.Config) > 0 {
		return m.Config
	}
	return m.IncompleteConfig
}

// mustBeAsBefore: every machine is exactly what it was when the rollout began.
func (c *checker) checkRestoredState(r *rolloutRun, report release.Report) {
	base := r.before
	if report.Outcome != release.RolledBack {
		base = r.found // it changed nothing
		if c.mayOverlapTerminated(r) {
			base = nil // what the one before it had in hand may have come later
			if !r.lastChange.IsZero() {
				c.sim.addViolation("%s %s, and has changed machines", r.id, report.Outcome)
			}
		}
	}
	for app, before := range base {
		if c.isChangedByOthers(app) || c.sim.hasTrouble("stale list") { // it had no way to know
			continue
		}
		now := c.listMachines(app)
		for _, was := range before {
			i := slices.IndexFunc(now, func(m fly.Machine) bool { return m.ID == was.ID })
			if i < 0 {
				i = slices.IndexFunc(now, func(m fly.Machine) bool { return m.Name == was.Name })
				if i >= 0 && !strings.Contains(strings.Join(report.Notes, "\n"), was.ID) {
					c.sim.addViolation("%s %s: machine %s was made again, and no note says so", r.id, report.Outcome, was.ID)
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

func (c *checker) checkEqual(r *rolloutRun, report release.Report, app string, was, is fly.Machine) {
	said := func(what string, was, is any) {
		c.sim.addViolation("%s %s: %s of machine %s of %s was %v and is %v", r.id, report.Outcome, what, is, app, was, is)
	}
	if was.ImageRef.Digest != is.ImageRef.Digest {
		said("the image", was.ImageRef.Digest, is.ImageRef.Digest)
	}
	if is.HostStatus != "unreachable" && was.HostStatus != "unreachable" && !isSameJSON(was.Config, is.Config) {
		c.sim.addViolation("%s %s: the config of machine %s of %s is not what it was:\n%s\n%s", r.id, report.Outcome, is.ID, app, was.Config, is.Config)
	}
	if was.Cordoned != is.Cordoned {
		said("the cordon", was.Cordoned, is.Cordoned)
	}
	if isRunning(was) != isRunning(is) && was.InstanceID != is.InstanceID && !c.sim.hasLastingTrouble() && !c.mayProxyStop(app) {
		said("the state", was.State, is.State)
	}
}

// sameDoc compares JSON by its meaning.
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

// reportIsTrue: what a report says of each machine is so.
func (c *checker) checkReport(report release.Report) {
	notes := strings.Join(report.Notes, "\n")
	for _, admitted := range []string{"could be removed (leases", "could not be read, so that"} {
		c.hasIncompleteReport = c.hasIncompleteReport || strings.Contains(notes, admitted)
	}
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
			for _, said := range t.Machines {
				i := slices.IndexFunc(now, func(m fly.Machine) bool { return m.ID == said.ID || said.ID == "" && m.Name == said.Name })
				switch {
				case i < 0:
					c.sim.addViolation("the report of %s names machine %s (%s) of %s, which is not there", report.ID, said.ID, said.Name, t.FlyApp)
				case said.Image.Digest() != now[i].ImageRef.Digest:
					c.sim.addViolation("the report of %s says that machine %s of %s runs %s; it runs %s", report.ID, said.ID, t.FlyApp, said.Image.Digest(), now[i].ImageRef.Digest)
				}
			}
			for _, m := range now {
				if !slices.ContainsFunc(t.Machines, func(said release.MachineStatus) bool { return said.ID == m.ID }) {
					c.sim.addViolation("the report of %s does not name machine %s (%s) of %s", report.ID, m.ID, m.Name, t.FlyApp)
				}
			}
		}
	}
}

// held: a rollout that asks a person says why, and which machine is what.
func (c *checker) checkHold(id string, h release.Held) {
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
	if strings.HasPrefix(h.Why, "the baseline could not be brought back") && !slices.ContainsFunc(c.sim.Troubles, all) {
		c.sim.addViolation("%s is held, and there is no trouble that would keep the baseline from coming back: %s", id, h.Why)
	}
}
