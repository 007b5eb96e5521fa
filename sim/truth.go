package sim

import (
	"slices"
	"strings"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// mustHaveRun checks what a promotion claims of the machines with a new version: in
// each group that serves at least one of them has run and passed, and in each group
// that serves or ran none has exited without being asked. What exits after the last
// look cannot be in a verdict.
func (w *watch) mustHaveRun(r *rolloutRun, app string, now []fly.Machine) {
	a, _, _ := w.w.app(app)
	lives, ran := w.w.fly.VersionHistories(app), map[string]bool{}
	for _, m := range now {
		life := lives[m.ID]
		if !w.isNew(r, app, m) {
			continue
		}
		group := w.groupName(m)
		g, _ := a.group(group)
		if (!g.Service || m.Cordoned) && !w.ranBefore(r, app, group) {
			if g.Service && !life.Passed.IsZero() {
				ran[group] = true // it had crashed, and was started
			}
			continue // it serves nobody, and is left at rest
		}
		if g.Service {
			ran[group] = ran[group] || !life.Passed.IsZero()
		}
		if life.Exits > 0 && life.Exited.Before(w.seen(r, app)) && !w.w.crowd.wasAsked(r.id) {
			w.w.violate("%s was promoted, and machine %s of group %s has ended %d times unasked since it was given its version", r.id, m.ID, group, life.Exits)
		}
	}
	for group, has := range ran {
		if !has {
			w.w.violate("%s was promoted, and no machine of group %s of %s has run the new version and passed", r.id, group, app)
		}
	}
}

// ranBefore says whether a machine of a group ran when r began.
func (w *watch) ranBefore(r *rolloutRun, app, group string) bool {
	return slices.ContainsFunc(r.before[app], func(m fly.Machine) bool { return w.groupName(m) == group && runs(m) })
}

// isNew says whether m has a version that it did not have when r began.
func (w *watch) isNew(r *rolloutRun, app string, m fly.Machine) bool {
	return !slices.ContainsFunc(r.before[app], func(b fly.Machine) bool { return b.ID == m.ID && b.InstanceID == m.InstanceID })
}

func (w *watch) groupName(m fly.Machine) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.groupOf(m)
}

// verdictsAreTrue: what is promoted is healthy, or unchecked where nothing checks
// it or nothing of a group runs; what nothing checks is not called healthy; and
// where nothing is, nothing is healthy.
func (w *watch) verdictsAreTrue(report release.Report) {
	if report.Outcome != release.Promoted && report.Outcome != release.Restored {
		return
	}
	for _, e := range report.Environments {
		for _, v := range e.Verdicts {
			app := flyApp(e.Name, v.Target.App)
			a, _, _ := w.w.app(app)
			machines := w.machines(app)
			checked := slices.ContainsFunc(a.Groups, func(g Group) bool { return g.Service || g.Checks > 0 })
			idle := slices.ContainsFunc(a.Groups, func(g Group) bool {
				return !slices.ContainsFunc(machines, func(m fly.Machine) bool { return w.groupName(m) == g.Name && healthy(m) })
			})
			switch {
			case v.Health == release.Healthy && len(machines) == 0 && !w.isForeign(app):
				w.w.violate("the report of %s says that %s is healthy, and it has no machines", report.ID, v.Target)
			case v.Health == release.Healthy && report.Outcome == release.Promoted && w.neverRan(a, app, machines) && !w.isForeign(app):
				w.w.violate("the report of %s says that %s is healthy, and no machine of a group that serves has passed", report.ID, v.Target)
			case v.Health == release.Healthy && checked, v.Health == release.Unchecked && (!checked || idle || w.isForeign(app)):
			default:
				w.w.violate("the report of %s says promoted, and that %s is %s %q", report.ID, v.Target, v.Health, v.Notes)
			}
		}
	}
}

// neverRan says whether a group that serves has machines, and none of them has
// passed with the version that it has.
func (w *watch) neverRan(a App, app string, machines []fly.Machine) bool {
	lives := w.w.fly.VersionHistories(app)
	return slices.ContainsFunc(a.Groups, func(g Group) bool {
		passed, any := false, false
		for _, m := range machines {
			if w.groupName(m) == g.Name {
				passed, any = passed || !lives[m.ID].Passed.IsZero(), true
			}
		}
		return g.Service && any && !passed
	})
}

// byProxy says whether Fly's proxy may stop and start the machines of an app.
func (w *watch) byProxy(app string) bool {
	a, _, _ := w.w.app(app)
	return a.AutoStop && (w.w.hasTrouble("stopped by the proxy") || slices.ContainsFunc(a.Groups, Group.rests))
}

// rests says whether all machines of g are stopped before the first release.
func (g Group) rests() bool {
	return len(g.Machines) > 0 && !slices.ContainsFunc(g.Machines, func(s State) bool { return s.State != "stopped" })
}

// atRest says whether m is stopped, or about to be, by whoever.
func atRest(m fly.Machine) bool {
	return strings.HasPrefix(m.State, "stop") || strings.HasPrefix(m.State, "suspend")
}

// rest hears that Fly's proxy stops a machine: that it is down is not ours.
func (w *watch) rest(app, machine string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.down, place{app, machine})
}
