package sim

import "github.com/microbima/release/release"

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
