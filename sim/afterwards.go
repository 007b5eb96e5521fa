package sim

import (
	"errors"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/release"
)

// ended looks at how a release of the case ended.
func (w *world) ended(id string, o Order, report *release.Report, err error) {
	w.count(report, err)
	w.crowd.over[id] = true
	if isTerminated(err) {
		w.crowd.cut = true
		w.tell("%s ended: terminated", id)
		if w.result.First == "" {
			w.result.First = cut
		}
		return
	}
	if w.result.First == "" {
		w.result.First = outcomeOf(report, err)
	}
	w.tell("%s ended: %s", id, said(report, err))
	var failed *temporal.ApplicationError
	switch {
	case err != nil && errors.As(err, &failed) && failed.Type() == release.KindStranded:
	case err != nil:
		w.violate("%s failed: %v", id, err)
	case report.Outcome == "":
		w.violate("%s ended without an outcome", id)
	case report.Outcome != release.Promoted && report.Outcome != release.Unchanged && report.Outcome != release.Restored && report.Cause == nil:
		w.violate("%s is %s, and does not say why", id, report.Outcome)
	}
	w.watch.mustHaveAsked(id, report)
	if err == nil && !o.Rollback && len(o.Apps) == 0 {
		w.watch.isWhole(o.Version, report)
	}
	if err == nil && w.mustPromote(o) && report.Outcome != release.Promoted && report.Outcome != release.Unchanged {
		w.violate("%s should have been promoted, and is %s", id, said(report, err))
	}
	if w.mustPromote(o) && w.watch.helds > 0 {
		w.violate("%s asked a person what to do, %d times, and nothing had happened that does not pass by itself", id, w.watch.helds)
	}
}

// mustPromote: without trouble, or with trouble that passes by itself, a
// release is promoted, and nobody is asked but at its gates.
func (w *world) mustPromote(o Order) bool {
	if o.Abort > 0 || o.Rollback || len(w.Releases) > 1 {
		return false
	}
	for _, d := range o.Decisions {
		if d.Reject {
			return false
		}
	}
	valid := map[string]bool{}
	for _, d := range o.Decisions {
		if d.valid() && time.Duration(d.After) < time.Duration(gateTimeout) {
			valid[d.By] = true
		}
	}
	for _, e := range w.Environments {
		if len(valid) < e.Approvals {
			return false
		}
	}
	for _, a := range w.Apps {
		for _, g := range a.Groups {
			if slices.ContainsFunc(g.Machines, func(s State) bool { return s.Sick }) {
				return false
			}
		}
	}
	return !slices.ContainsFunc(w.Troubles, func(t Trouble) bool { return !t.kind().passes })
}

// endedAfterwards: the release after all trouble is promoted, or finds nothing
// to do; and then nothing of any release is left on Fly.
func (w *world) endedAfterwards(id string, o Order, report *release.Report, err error, promoted bool) {
	w.count(report, err)
	w.tell("%s ended: %s", id, said(report, err))
	if err != nil || report.Outcome != release.Promoted && report.Outcome != release.Unchanged {
		w.violate("the release after all trouble was not promoted: %s", said(report, err))
	}
	foreign := false
	for _, e := range w.Environments {
		foreign = foreign || w.watch.left(e.Name)
		for _, a := range w.Apps {
			foreign = foreign || w.watch.isForeign(flyApp(e.Name, a.Name))
		}
	}
	if err == nil && promoted && report.Outcome != release.Unchanged && !foreign && len(w.Releases) == 1 && !slices.ContainsFunc(w.Releases, func(o Order) bool { return len(o.Apps) > 0 }) {
		w.violate("a second release of %s was not unchanged: %s", o.Version, said(report, err))
	}
	w.mustBeClean()
}

// mustBeClean: no lease, command machine or running Fly release is left.
func (w *world) mustBeClean() {
	if w.watch.admits || w.hasTrouble(historyLost) {
		return // people were told what may be left
	}
	for _, e := range w.Environments {
		for _, a := range w.Apps {
			app := flyApp(e.Name, a.Name)
			for machine, l := range w.fly.Leases(app) {
				if !w.watch.leases[l.Nonce] && !strings.HasPrefix(l.Owner, "somebody-else") {
					w.violate("a lease is left on machine %s of %s until %s", machine, app, l.Expires.Format(time.TimeOnly))
				}
			}
			for _, m := range w.fly.Machines(app) {
				if isCommand(m) && m.State != "destroying" {
					w.violate("machine %s (%s) of %s is left, %s", m.ID, m.Name, app, m.State)
				}
			}
			for _, r := range w.fly.Releases(app) {
				if r.Status == "running" || r.Status == "pending" {
					w.violate("Fly release v%d of %s is left %s", r.Version, app, r.Status)
				}
			}
		}
	}
}

func (w *world) hasTrouble(kind string) bool {
	return slices.ContainsFunc(w.Troubles, func(t Trouble) bool { return t.Kind == kind })
}

// lasting says whether some machines may be ill for long, and end by themselves.
func (w *world) lasting() bool {
	return slices.ContainsFunc(w.Troubles, func(t Trouble) bool { return t.kind().lasts })
}

// settled: what releases took down is back, or never will be. What one that was
// terminated left is for the next to clean up.
func (w *watch) settled() {
	if !w.w.crowd.cut {
		w.w.mustBeClean()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down, w.flying = map[place]bool{}, map[*attempt]bool{}
}
