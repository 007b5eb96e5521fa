package sim

import (
	"slices"

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
	for _, m := range w.machines(app) {
		if runs := versionOf(m.Metadata()[release.MetaRevision]); runs > version {
			w.w.violate("%s is of %s, and machine %s of %s runs %s, which is newer: nobody asked to go back", step, version, m.ID, app, runs)
		}
	}
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
	past := w.undone(r)
	for app, found := range r.found {
		if w.isForeign(app) || w.left(r.environment) {
			continue
		}
		now := w.machines(app)
		if len(now) == 0 && len(found) > 0 {
			w.w.violate("%s went back to nothing: %s had %d machines", r.id, app, len(found))
		}
		if newest(now) > newest(found) {
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
