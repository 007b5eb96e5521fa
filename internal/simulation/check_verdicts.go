package simulation

import (
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// checkNewVersionRan checks the machines that a promotion gave a new version. In each
// group with a service at least one must have run and passed its checks. In each group
// that has a service or was running, no process may have exited unasked before the
// last verdict.
func (c *checker) checkNewVersionRan(r *rolloutRun, app string, now []fly.Machine) {
	a, _, _ := c.sim.findApp(app)
	histories, ran := c.sim.fly.VersionHistories(app), map[string]bool{}
	for _, m := range now {
		history := histories[m.ID]
		if !c.isNewVersion(r, app, m) {
			continue
		}
		group := c.groupName(m)
		g, _ := a.findGroup(group)
		if (!g.Service || m.Cordoned) && !c.wasRunning(r, app, group) {
			if g.Service && !history.Passed.IsZero() {
				ran[group] = true // it had crashed, and its update started it
			}
			continue // it gets no traffic, and stays stopped
		}
		if g.Service {
			ran[group] = ran[group] || !history.Passed.IsZero()
		}
		if history.Exits > 0 && c.mustHaveSeenExit(r, app, m, history) {
			c.sim.addViolation("%s was promoted, but machine %s of group %s has exited %d times unasked since its last update", r.id, m.ID, group, history.Exits)
		}
	}
	for group, has := range ran {
		if !has && !c.isServedUnchanged(r, app, group, now) {
			c.sim.addViolation("%s was promoted, but no machine of group %s of %s has run the new version and passed its checks", r.id, group, app)
		}
	}
}

// mustHaveSeenExit reports whether m exited before r read it last, still counts as
// failing then, and no operator has decided.
func (c *checker) mustHaveSeenExit(r *rolloutRun, app string, m fly.Machine, history flysim.VersionHistory) bool {
	return history.Exited.Before(c.lastSeen(r, app)) && !c.sim.operators.hasAnswered(r.id) && !c.hasRecovered(r, app, m, history.LastExited)
}

// isServedUnchanged reports whether a machine of the group that r did not change serves.
// After a promotion it runs the new version, too.
func (c *checker) isServedUnchanged(r *rolloutRun, app, group string, now []fly.Machine) bool {
	return slices.ContainsFunc(now, func(m fly.Machine) bool {
		return c.groupName(m) == group && isServing(m) && !c.isNewVersion(r, app, m)
	})
}

// hasRecovered reports whether an earlier rollout launched m and its process had run for
// two minutes since its last exit when r verified it last, or exited about then. A second
// is left to the requests.
func (c *checker) hasRecovered(r *rolloutRun, app string, m fly.Machine, lastExit time.Time) bool {
	isResumed := slices.ContainsFunc(r.found[app], func(b fly.Machine) bool { return b.ID == m.ID && b.InstanceID == m.InstanceID })
	return isResumed && (lastExit.After(c.lastSeen(r, app)) || r.lastVerified.Sub(lastExit) > 2*time.Minute-time.Second)
}

// wasRunning reports whether a machine of the group ran when r started, and the proxy
// did not stop it before r recorded its baseline.
func (c *checker) wasRunning(r *rolloutRun, app, group string) bool {
	return slices.ContainsFunc(r.before[app], func(m fly.Machine) bool {
		return c.groupName(m) == group && isRunning(m) && !c.isProxyStopped(r, app, m.ID)
	})
}

// isProxyStopped reports whether Fly's proxy stopped the machine between the start of r
// and its baseline.
func (c *checker) isProxyStopped(r *rolloutRun, app, machine string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.proxyStops[machineKey{app, machine}]
	return at.After(r.started) && at.Before(r.baselineRead)
}

// isNewVersion reports whether the machine's version was made after r started.
func (c *checker) isNewVersion(r *rolloutRun, app string, m fly.Machine) bool {
	return !slices.ContainsFunc(r.before[app], func(b fly.Machine) bool { return b.ID == m.ID && b.InstanceID == m.InstanceID })
}

// groupName returns the process group of m.
func (c *checker) groupName(m fly.Machine) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.groupNameLocked(m)
}

// checkVerdicts checks the verdicts of a report. A promoted target must be healthy, or
// unchecked if it has no checks or a group does not run. A target without checks or
// machines must not be healthy.
func (c *checker) checkVerdicts(report release.Report) {
	if report.Outcome != release.Promoted && report.Outcome != release.Restored {
		return
	}
	for _, e := range report.Environments {
		for _, v := range e.Verdicts {
			c.checkVerdict(report, v, flyAppOf(e.Name, v.Target.App))
		}
	}
}

// checkVerdict checks the verdict on the Fly app with that name.
func (c *checker) checkVerdict(report release.Report, v release.Verdict, app string) {
	a, _, _ := c.sim.findApp(app)
	machines, others := c.listMachines(app), c.isChangedByOthers(app)
	checked := slices.ContainsFunc(a.Groups, func(g Group) bool { return g.Service || g.Checks > 0 })
	idle := slices.ContainsFunc(a.Groups, func(g Group) bool {
		return !slices.ContainsFunc(machines, func(m fly.Machine) bool { return c.groupName(m) == g.Name && isHealthy(m) })
	})
	switch {
	case v.Health == release.Healthy && len(machines) == 0 && !others:
		c.sim.addViolation("in the report of %s, %s is healthy, but it has no machines", report.ID, v.Target)
	case v.Health == release.Healthy && report.Outcome == release.Promoted && !others && c.hasUnprovedGroup(a, app, machines):
		c.sim.addViolation("in the report of %s, %s is healthy, but in a group with a service no machine has passed its checks", report.ID, v.Target)
	case v.Health == release.Healthy && checked, v.Health == release.Unchecked && (!checked || idle || others):
	default:
		c.sim.addViolation("in the report of %s, which was promoted, %s is %s %q", report.ID, v.Target, v.Health, v.Notes)
	}
}

// hasUnprovedGroup reports whether a group with a service has machines, and none has
// passed its checks with its current version.
func (c *checker) hasUnprovedGroup(a App, app string, machines []fly.Machine) bool {
	histories := c.sim.fly.VersionHistories(app)
	return slices.ContainsFunc(a.Groups, func(g Group) bool {
		passed, any := false, false
		for _, m := range machines {
			if c.groupName(m) == g.Name {
				passed, any = passed || !histories[m.ID].Passed.IsZero(), true
			}
		}
		return g.Service && any && !passed
	})
}

// mayProxyStop reports whether Fly's proxy may stop and start the machines of an app.
func (c *checker) mayProxyStop(app string) bool {
	a, _, _ := c.sim.findApp(app)
	return a.AutoStop && (c.sim.hasTrouble("stopped by the proxy") || slices.ContainsFunc(a.Groups, Group.isAllStopped))
}

// isAllStopped reports whether all machines of g are stopped before the first release.
func (g Group) isAllStopped() bool {
	return len(g.Machines) > 0 && !slices.ContainsFunc(g.Machines, func(initial InitialMachine) bool { return initial.State != "stopped" })
}

// isStoppedOrStopping reports whether m is stopped, suspended, or about to be.
func isStoppedOrStopping(m fly.Machine) bool {
	return strings.HasPrefix(m.State, "stop") || strings.HasPrefix(m.State, "suspend")
}

// recordProxyStop records that Fly's proxy stops a machine. It does not count as taken
// down by a rollout.
func (c *checker) recordProxyStop(app, machine string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.down, machineKey{app, machine})
	c.proxyStops[machineKey{app, machine}] = time.Now()
}
