package simulation

import (
	"slices"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// checkNotBackward reports a violation if a step of a push gives a machine an older
// revision than one that the app runs. Only a rollback that an operator requested may
// do that.
func (c *checker) checkNotBackward(app string, step release.Step, r *rolloutRun) {
	if r.req.Plan.Revision == "" || step.Verbatim {
		return
	}
	if r.req.Plan.Lineage.Relation == release.Backward {
		c.sim.addViolation("%s: executed, but its plan has an older revision than the machines and was not approved", step)
	}
	version := versionOf(r.req.Revision.Commit)
	c.mu.Lock()
	is, known := c.foundVersions[r.environment]
	c.mu.Unlock()
	if known && is.version > version && r.started.After(is.at) {
		c.sim.addViolation("%s is of %s, but %s was already found at %s: no rollback was requested", step, version, r.environment, is.version)
	}
	for _, m := range c.listMachines(app) {
		if runs := versionOf(m.Metadata()[release.MetaRevision]); runs > version {
			c.sim.addViolation("%s is of %s, but machine %s of %s runs %s, which is newer: no rollback was requested", step, version, m.ID, app, runs)
		}
	}
}

// A foundVersion is the version that a release found in all apps of an environment.
type foundVersion struct {
	version string
	at      time.Time // the end of that release
}

// recordFoundVersion records the environments in which a release had nothing to
// change. It ignores environments without revision metadata, as their revisions can't
// be compared. It does nothing in a case with a rollback, as a rollback brings back
// older versions.
func (c *checker) recordFoundVersion(version string, report *release.Report) {
	if slices.ContainsFunc(c.sim.Releases, func(o Order) bool { return o.Rollback }) {
		return
	}
	for _, e := range report.Environments {
		if e.Outcome != release.Unchanged || !c.hasRevisionMetadata(e.Name) {
			continue
		}
		c.mu.Lock()
		if c.foundVersions[e.Name].version < version {
			c.foundVersions[e.Name] = foundVersion{version, time.Now()}
		}
		c.mu.Unlock()
	}
}

// checkComparedUnderLock checks that a release reports an environment as unchanged only
// if a rollout of it held the lock and found the machines as the plan has them.
func (c *checker) checkComparedUnderLock(id string, report *release.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range report.Environments {
		isRollout := func(r *rolloutRun) bool {
			return r.environment == e.Name && r.req.Release == id && r.report != nil && r.report.Outcome == release.Unchanged
		}
		if e.Outcome == release.Unchanged && !slices.ContainsFunc(c.rollouts, isRollout) {
			c.sim.addViolation("%s reports %s as unchanged, but did not hold its lock", id, e.Name)
		}
	}
}

// hasRevisionMetadata reports whether a machine of the environment has its revision in
// its metadata.
func (c *checker) hasRevisionMetadata(environment string) bool {
	return slices.ContainsFunc(c.sim.Apps, func(a App) bool {
		return slices.ContainsFunc(c.listMachines(flyAppOf(environment, a.Name)), func(m fly.Machine) bool { return m.Metadata()[release.MetaRevision] != "" })
	})
}

// newestOrder returns the order with the newest version, without regard to rollbacks.
func (c Case) newestOrder() Order {
	newest := c.Releases[0]
	for _, o := range c.Releases {
		if !o.Rollback && o.Version > newest.Version {
			newest = o
		}
	}
	return newest
}

// checkRestored checks the result of a rollback that an operator requested. It must
// bring back the versions from before the newest rollout that changed something,
// whatever the outcome of that rollout was. It must not bring back a version that was
// rolled back.
func (c *checker) checkRestored(r *rolloutRun) {
	c.checkRestoreLineage(r)
	past := c.findUndoneRollout(r)
	for app, found := range r.found {
		if c.isChangedByOthers(app) || c.isLeftMixed(r.environment) {
			continue
		}
		now := c.listMachines(app)
		if len(now) == 0 && len(found) > 0 {
			c.sim.addViolation("%s was restored to no machines: %s had %d", r.id, app, len(found))
		}
		if before := newestVersion(found); before != "" && newestVersion(now) > before && len(c.contentAliases(app)) == 0 {
			c.sim.addViolation("%s was restored from %s, but %s runs %s, which is newer", r.id, newestVersion(found), app, newestVersion(now))
		}
		if past == nil {
			continue
		}
		if was, ok := past.before[app]; ok && newestVersion(was) != "" && newestVersion(now) != newestVersion(was) {
			c.sim.addViolation("%s was restored: %s ran %s before the newest rollout, but now runs %s", r.id, app, newestVersion(was), newestVersion(now))
		}
	}
}

// checkRestoreLineage checks that the plan of a rollback names the revision that it
// restores and the number of commits that it takes away.
func (c *checker) checkRestoreLineage(r *rolloutRun) {
	lineage, to := r.req.Plan.Lineage, versionOf(r.req.Revision.Commit)
	if to == "" || lineage.Why != "" {
		return // the machines have no revision, or git failed
	}
	takes := 0
	for _, running := range append(slices.Clone(lineage.Running), c.readHead(r)) {
		takes = max(takes, slices.Index(versions, versionOf(running))-slices.Index(versions, to))
	}
	if lineage.RemovedCount != takes {
		c.sim.addViolation("%s restores %s from %q: its plan takes %d commits away, want %d", r.id, to, lineage.Running, lineage.RemovedCount, takes)
	}
	for app := range r.found {
		if slices.ContainsFunc(c.listMachines(app), func(m fly.Machine) bool { return versionOf(m.Metadata()[release.MetaRevision]) == to }) || c.isChangedByOthers(app) {
			return
		}
	}
	c.sim.addViolation("%s restored %s according to its plan, but no machine has that revision", r.id, to)
}

// contentAliases returns the versions of an app with the content of an older version.
func (c *checker) contentAliases(app string) map[string]string {
	a, _, _ := c.sim.findApp(app)
	return a.Like
}

// readHead returns the commit that the environment ran as a whole when the rollback r
// found what it restores, or "". Machines do not name it if nothing changed in their app.
func (c *checker) readHead(r *rolloutRun) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, past := range slices.Backward(c.rollouts) {
		if past == r || past.environment != r.environment || past.report == nil || past.ended.After(c.baselineFound[r.req.Release]) {
			continue
		}
		if past.report.Outcome == release.Unchanged && !past.req.SetsHead {
			continue // it kept the head
		}
		switch past.report.Outcome {
		case release.Promoted, release.Unchanged:
			return past.req.Revision.Commit
		case release.Restored, release.Kept:
			return ""
		}
	}
	return ""
}

// findUndoneRollout returns the newest rollout before r that changed something and was
// not rolled back, as of the time at which the rollback found what it restores. It
// returns nil if that was a rollback itself.
func (c *checker) findUndoneRollout(r *rolloutRun) *rolloutRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, past := range slices.Backward(c.rollouts) {
		switch {
		case past == r || past.environment != r.environment || past.ended.IsZero() || past.lastChange.IsZero():
		case past.started.After(c.baselineFound[r.req.Release]):
		case past.report != nil && (past.report.Outcome == release.RolledBack || past.report.Outcome == release.Stopped):
		case past.req.Plan.Revision == "":
			return nil
		default:
			return past
		}
	}
	return nil
}

// newestVersion returns the newest version in the configs of the machines.
func newestVersion(machines []fly.Machine) (version string) {
	for _, m := range machines {
		version = max(version, readLevel(m))
	}
	return version
}
