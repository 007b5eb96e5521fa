package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// mustNotGoBack: no step of a push gives a machine an older revision than one
// that the app runs. Only a rollback does, which a person asked for.
func (w *watch) mustNotGoBack(app string, step release.Step, r *rolloutRun) {
	if r.req.Plan.Revision == "" || step.Exact {
		return
	}
	if r.req.Plan.Lineage.Relation == release.Backward {
		w.w.violate("%s: a plan is carried out that goes back, and nobody approved it", step)
	}
	version := versionOf(r.req.Revision.Commit)
	w.mu.Lock()
	is, known := w.wholes[r.environment]
	w.mu.Unlock()
	if known && is.version > version && r.begun.After(is.at) {
		w.w.violate("%s is of %s, and %s was found to be at %s before: nobody asked to go back", step, version, r.environment, is.version)
	}
	for _, m := range w.machines(app) {
		if runs := versionOf(m.Metadata()[release.MetaRevision]); runs > version {
			w.w.violate("%s is of %s, and machine %s of %s runs %s, which is newer: nobody asked to go back", step, version, m.ID, app, runs)
		}
	}
}

// A whole is a version that every app of an environment was found to be at.
type whole struct {
	version string
	at      time.Time // when the release that found it ended
}

// isWhole notes the environments that a release has found to be at its version, and
// had nothing to do in. Where no machine says its revision, nothing can be compared;
// after a rollback the environment is what it was.
func (w *watch) isWhole(version string, report *release.Report) {
	if slices.ContainsFunc(w.w.Releases, func(o Order) bool { return o.Rollback }) || strings.Contains(strings.Join(report.Notes, "\n"), "could not be recorded") {
		return
	}
	for _, e := range report.Environments {
		if e.Outcome != release.Unchanged || !w.namesRevisions(e.Name) {
			continue
		}
		w.mu.Lock()
		if w.wholes[e.Name].version < version {
			w.wholes[e.Name] = whole{version, time.Now()}
		}
		w.mu.Unlock()
	}
}

// namesRevisions reports whether a machine of an environment says its revision.
func (w *watch) namesRevisions(environment string) bool {
	return slices.ContainsFunc(w.w.Apps, func(a App) bool {
		return slices.ContainsFunc(w.machines(flyApp(environment, a.Name)), func(m fly.Machine) bool { return m.Metadata()[release.MetaRevision] != "" })
	})
}

// newest returns the order of the newest revision that is released.
func (c Case) newest() Order {
	newest := c.Releases[0]
	for _, o := range c.Releases {
		if !o.Rollback && o.Version > newest.Version {
			newest = o
		}
	}
	return newest
}

// mustGoBack: a rollback that a person asked for brings back what ran before the
// newest rollout that changed something, however that ended, and never goes
// forward again to what was taken back.
func (w *watch) mustGoBack(r *rolloutRun) {
	w.mustTellTheWay(r)
	past := w.undone(r)
	for app, found := range r.found {
		if w.isForeign(app) || w.left(r.environment) {
			continue
		}
		now := w.machines(app)
		if len(now) == 0 && len(found) > 0 {
			w.w.violate("%s went back to nothing: %s had %d machines", r.id, app, len(found))
		}
		if newest(now) > newest(found) && len(w.reverts(app)) == 0 {
			w.w.violate("%s went back from %s, and %s runs %s", r.id, newest(found), app, newest(now))
		}
		if past == nil {
			continue
		}
		if was, ok := past.before[app]; ok && newest(was) != "" && newest(now) != newest(was) {
			w.w.violate("%s went back, %s ran %s before the newest rollout, and runs %s", r.id, app, newest(was), newest(now))
		}
	}
}

// mustTellTheWay: a rollback names the revision that it brings back, and how many
// commits that takes away.
func (w *watch) mustTellTheWay(r *rolloutRun) {
	lineage, to := r.req.Plan.Lineage, versionOf(r.req.Revision.Commit)
	if to == "" || lineage.Why != "" {
		return // its machines do not say, or git did not
	}
	takes := 0
	for _, running := range lineage.Running {
		takes = max(takes, slices.Index(versions, versionOf(running))-slices.Index(versions, to))
	}
	if lineage.Takes != takes {
		w.w.violate("%s goes back to %s from %q and says that it takes %d commits away; it takes %d", r.id, to, lineage.Running, lineage.Takes, takes)
	}
	for app := range r.found {
		if slices.ContainsFunc(w.machines(app), func(m fly.Machine) bool { return versionOf(m.Metadata()[release.MetaRevision]) == to }) || w.isForeign(app) {
			return
		}
	}
	w.w.violate("%s says that it went back to %s, and no machine is of that", r.id, to)
}

// reverts returns the versions of an app that have the content of an older one.
func (w *watch) reverts(app string) map[string]string {
	a, _, _ := w.w.app(app)
	return a.Like
}

// undone returns the newest rollout before r that changed something and stayed, or
// nil where that was a rollback itself.
func (w *watch) undone(r *rolloutRun) *rolloutRun {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, past := range slices.Backward(w.runs) {
		switch {
		case past == r || past.environment != r.environment || past.ended.IsZero() || past.changed.IsZero():
		case past.report != nil && (past.report.Outcome == release.RolledBack || past.report.Outcome == release.Stopped):
		case past.req.Plan.Revision == "":
			return nil
		default:
			return past
		}
	}
	return nil
}

// newest returns the newest version that machines have the config of.
func newest(machines []fly.Machine) (version string) {
	for _, m := range machines {
		version = max(version, levelOf(m))
	}
	return version
}
