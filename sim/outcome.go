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

func (w *watch) rolloutEnds(r *rolloutRun, report *release.Report, err error) {
	w.mu.Lock()
	r.ended, r.report, r.err = time.Now(), report, err
	delete(w.open, r.environment)
	if r.isTerminated() {
		r.closes()
	}
	w.mu.Unlock()
	close(r.over)
	var failed *temporal.ApplicationError
	switch {
	case r.isTerminated():
		// What its release makes of it is looked at when that ends.
	case err != nil && errors.As(err, &failed) && failed.Type() == release.KindStranded:
		if !w.w.crowd.wasAsked(r.id) {
			w.w.violate("%s is stranded, and nobody gave up on it: %v", r.id, err)
		}
	case err != nil:
		w.w.violate("%s failed: %v", r.id, err)
	case report == nil:
		w.w.violate("%s ended without a report", r.id)
	default:
		w.judge(r, *report)
		w.statusIsShown(report.Status)
		w.reportIsTrue(*report)
	}
}

// judge holds an outcome to what Fly runs now.
func (w *watch) judge(r *rolloutRun, report release.Report) {
	switch report.Outcome {
	case release.Promoted, release.Restored:
		if (report.Outcome == release.Restored) != (r.req.Restores != nil) {
			w.w.violate("%s is %s; it was to go back: %t", r.id, report.Outcome, r.req.Restores != nil)
		}
		if report.Outcome == release.Restored {
			w.mustGoBack(r)
		}
		w.mustBePromoted(r)
	case release.RolledBack, release.Stopped, release.Superseded:
		if report.Outcome == release.Superseded && !w.isOvertaken(r) {
			w.w.violate("%s was superseded, and nothing newer than %s ran", r.id, versionOf(r.req.Revision.Commit))
		}
		if r.req.TakeOver && report.Outcome == release.Stopped && w.w.crowd.wasAsked(r.id) {
			return // a person said retry: what the lost one has sent may still take effect, and is planned for
		}
		if report.Outcome != release.RolledBack || !w.w.crowd.wasAsked(r.id) || !w.touched(r) {
			w.mustBeAsBefore(r, report)
		}
	case release.Unchanged:
		if !r.req.Unchanged {
			w.w.violate("%s is unchanged, and its plan had %d waves", r.id, len(r.req.Plan.Waves))
		}
		w.mustBeAsBefore(r, report)
	case release.Kept:
		if !w.w.crowd.wasAsked(r.id) {
			w.w.violate("%s was kept by nobody's word", r.id)
		}
	default:
		w.w.violate("%s ended %q", r.id, report.Outcome)
	}
}

// touched says whether strangers changed something that r is about since it
// was planned.
func (w *watch) touched(r *rolloutRun) bool {
	for app := range r.before {
		if w.isForeign(app) {
			return true
		}
	}
	return false
}

func (w *watch) isForeign(app string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.foreign[app].IsZero()
}

// mustBePromoted: every machine runs what the revision says, as it was found:
// started or stopped, cordoned or not, and well.
func (w *watch) mustBePromoted(r *rolloutRun) {
	if baked := time.Since(r.changed); baked < time.Duration(r.req.Bake) && !r.changed.IsZero() {
		w.w.violate("%s was promoted %s after its last change; it was to bake for %s", r.id, baked, r.req.Bake)
	}
	if r.keepsOld() {
		return
	}
	if r.req.Plan.Revision == "" {
		return // a rollback: the baseline that it leads to is what afterwards compares
	}
	version := versionOf(r.req.Revision.Commit)
	for app, before := range r.before {
		if looked := w.lookedAt(app); looked.Before(r.changed) && len(before) > 0 {
			w.w.violate("%s was promoted, and nobody has read its machines since the last change, %s before", app, time.Since(r.changed))
		}
		now := w.machines(app)
		if len(now) == 0 && len(before) > 0 && !w.w.hasTrouble("machine destroyed by a person") {
			w.w.violate("%s was promoted, and %s has no machines; it had %d", r.id, app, len(before))
		}
		if w.isForeign(app) {
			continue
		}
		a, env, _ := w.w.app(app)
		count := w.perGroup(now, before)
		for _, m := range now {
			if m.ImageRef.Digest != a.digest(version) {
				w.w.violate("%s was promoted to %s, and machine %s runs %s", app, version, m.ID, m.ImageRef.Digest)
			}
			if got := levelOf(m); got != a.at(version) && m.HostStatus != "unreachable" {
				w.w.violate("%s was promoted to %s, and machine %s has the config of %q", app, version, m.ID, got)
			}
			w.mustBeWell(r, app, m)
		}
		w.mustHaveRun(r, app, now)
		for _, g := range a.Groups {
			if had := func(m fly.Machine) bool { return w.groupName(m) == g.Name }; len(before) > 0 && !slices.ContainsFunc(before, had) {
				if !slices.ContainsFunc(r.found[app], had) { // else a rollout that was terminated made them
					w.mustWarn(r, app, g.Name, count[g.Name])
				}
				continue
			}
			if n := count[g.Name]; n != 0 && !env.Empty && !w.left(r.environment) {
				w.w.violate("%s was promoted, and has %+d machines of group %s", app, n, g.Name)
			}
		}
	}
}

func (w *watch) lookedAt(app string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looked[app]
}

// perGroup is how many machines more than before each group has now.
func (w *watch) perGroup(now, before []fly.Machine) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := map[string]int{}
	for _, m := range now {
		count[w.groupOf(m)]++
	}
	for _, m := range before {
		count[w.groupOf(m)]--
	}
	return count
}

// mustWarn holds a rollout that made n machines of a group which had none to having
// said so.
func (w *watch) mustWarn(r *rolloutRun, app, group string, n int) {
	warned := func(e release.EnvironmentStatus) bool {
		return slices.ContainsFunc(e.Warnings, func(s string) bool { return strings.Contains(s, "group "+group+" has no machines") })
	}
	if n > 0 && !slices.ContainsFunc(r.report.Environments, warned) {
		w.w.violate("%s was promoted, has %d machines of group %s, which had none, and no warning says so: %q", app, n, group, r.report.Environments[0].Warnings)
	}
}

// left says whether a person has left that environment between two states: it
// may have machines of both.
func (w *watch) left(environment string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.runs, func(r *rolloutRun) bool { return r.leftIn(environment) })
}

// mustBeWell: a machine of something promoted is as well as it was, unless that
// has changed only just now, or since the last list that was not an old one.
func (w *watch) mustBeWell(r *rolloutRun, app string, m fly.Machine) {
	before := r.before[app]
	i := slices.IndexFunc(before, func(b fly.Machine) bool { return b.ID == m.ID })
	hasCrashed := func(b fly.Machine) bool { return b.ID == m.ID && driver.Describe(b).Crashed }
	crashed := slices.ContainsFunc(before, hasCrashed)
	just := w.seen(r, app)
	recent := m.UpdatedAt.After(just) || slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.UpdatedAt.After(just) })
	switch {
	case w.byProxy(app) && (atRest(m) || i >= 0 && atRest(before[i])):
		// Fly's proxy may have stopped or started it since.
	case m.HostStatus == "unreachable":
		// Whether it was seen in time is for the verdicts to say.
	case i < 0 && m.Cordoned, i >= 0 && m.Cordoned != before[i].Cordoned && !recent && !w.left(r.environment):
		w.w.violate("%s was promoted, and machine %s is cordoned: %t", app, m.ID, m.Cordoned)
	case crashed && !slices.ContainsFunc(r.found[app], hasCrashed):
		// A rollback has stopped it since, and it stays so.
	case i >= 0 && !runs(before[i]) && before[i].State != "failed" && !crashed:
		if runs(m) && !recent && !r.admitsAwake(m.ID) {
			w.w.violate("%s was promoted, and machine %s, which was %s, is %s", app, m.ID, before[i].State, m.State)
		}
	case i >= 0 && m.InstanceID == before[i].InstanceID && (!healthy(before[i]) || wasSick(m, r.recorded) || slices.ContainsFunc(r.found[app], func(f fly.Machine) bool { return f.ID == m.ID && !healthy(f) })):
		// It was sick, and nothing was to be done to it.
	case !healthy(m) && !recent && (i >= 0 || runs(m)):
		w.w.violate("%s was promoted, and machine %s is %s with checks %v", app, m.ID, m.State, m.Checks)
	}
}

// wasSick reports whether a check of m that fails now failed at that time already.
func wasSick(m fly.Machine, then time.Time) bool {
	return slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" && !c.UpdatedAt.After(then) })
}

// admitsAwake reports whether a report says that a machine was started for a look and
// could not be stopped again, as somebody else had its lease by then.
func (r *rolloutRun) admitsAwake(machine string) bool {
	return slices.ContainsFunc(r.report.Notes, func(note string) bool {
		return strings.Contains(note, machine) && strings.Contains(note, "was started for a look and could not be stopped again")
	})
}

// seen is when what is in r's last verdicts was so: what has changed since then,
// or only just before, was not seen.
func (w *watch) seen(r *rolloutRun, app string) time.Time {
	seen := r.verified
	if known := r.known[app]; known.Before(seen) {
		seen = known
	}
	return seen.Add(-5*time.Second - 6*time.Duration(w.w.Poll))
}

func levelOf(m fly.Machine) string {
	var c struct{ Env map[string]string }
	if json.Unmarshal(configOf(m), &c) != nil {
		return ""
	}
	return c.Env["LEVEL"]
}

func configOf(m fly.Machine) json.RawMessage {
	if len(m.Config) > 0 {
		return m.Config
	}
	return m.IncompleteConfig
}

// mustBeAsBefore: every machine is exactly what it was when the rollout began.
func (w *watch) mustBeAsBefore(r *rolloutRun, report release.Report) {
	base := r.before
	if report.Outcome != release.RolledBack {
		base = r.found // it changed nothing
		if w.follows(r) {
			base = nil // what the one before it had in hand may have come later
			if !r.changed.IsZero() {
				w.w.violate("%s %s, and has changed machines", r.id, report.Outcome)
			}
		}
	}
	for app, before := range base {
		if w.isForeign(app) || w.w.hasTrouble("stale list") { // it had no way to know
			continue
		}
		now := w.machines(app)
		for _, was := range before {
			i := slices.IndexFunc(now, func(m fly.Machine) bool { return m.ID == was.ID })
			if i < 0 {
				i = slices.IndexFunc(now, func(m fly.Machine) bool { return m.Name == was.Name })
				if i >= 0 && !strings.Contains(strings.Join(report.Notes, "\n"), was.ID) {
					w.w.violate("%s %s: machine %s was made again, and no note says so", r.id, report.Outcome, was.ID)
				}
			}
			if i < 0 {
				w.w.violate("%s %s: machine %s of %s is gone", r.id, report.Outcome, was.ID, app)
				continue
			}
			w.mustEqual(r, report, app, was, now[i])
		}
		for _, m := range now {
			if !slices.ContainsFunc(before, func(b fly.Machine) bool { return b.ID == m.ID || b.Name == m.Name }) {
				w.w.violate("%s %s: machine %s (%s) of %s is new", r.id, report.Outcome, m.ID, m.Name, app)
			}
		}
	}
}

func (w *watch) mustEqual(r *rolloutRun, report release.Report, app string, was, is fly.Machine) {
	said := func(what string, was, is any) {
		w.w.violate("%s %s: %s of machine %s of %s was %v and is %v", r.id, report.Outcome, what, is, app, was, is)
	}
	if was.ImageRef.Digest != is.ImageRef.Digest {
		said("the image", was.ImageRef.Digest, is.ImageRef.Digest)
	}
	if is.HostStatus != "unreachable" && was.HostStatus != "unreachable" && !sameDoc(was.Config, is.Config) {
		w.w.violate("%s %s: the config of machine %s of %s is not what it was:\n%s\n%s", r.id, report.Outcome, is.ID, app, was.Config, is.Config)
	}
	if was.Cordoned != is.Cordoned {
		said("the cordon", was.Cordoned, is.Cordoned)
	}
	if runs(was) != runs(is) && was.InstanceID != is.InstanceID && !w.w.lasting() && !w.byProxy(app) {
		said("the state", was.State, is.State)
	}
}

// sameDoc compares JSON by its meaning.
func sameDoc(a, b json.RawMessage) bool {
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
func (w *watch) reportIsTrue(report release.Report) {
	notes := strings.Join(report.Notes, "\n")
	for _, admitted := range []string{"could be removed (leases", "could not be read, so that"} {
		w.admits = w.admits || strings.Contains(notes, admitted)
	}
	if !slices.Contains([]release.Outcome{release.Promoted, release.Restored, release.RolledBack}, report.Outcome) || w.w.hasTrouble("stale list") || w.admits {
		return
	}
	w.verdictsAreTrue(report)
	for _, e := range report.Environments {
		for _, t := range e.Targets {
			if w.isForeign(t.FlyApp) {
				continue
			}
			now := w.machines(t.FlyApp)
			for _, said := range t.Machines {
				i := slices.IndexFunc(now, func(m fly.Machine) bool { return m.ID == said.ID || said.ID == "" && m.Name == said.Name })
				switch {
				case i < 0:
					w.w.violate("the report of %s names machine %s (%s) of %s, which is not there", report.ID, said.ID, said.Name, t.FlyApp)
				case said.Image.Digest() != now[i].ImageRef.Digest:
					w.w.violate("the report of %s says that machine %s of %s runs %s; it runs %s", report.ID, said.ID, t.FlyApp, said.Image.Digest(), now[i].ImageRef.Digest)
				}
			}
			for _, m := range now {
				if !slices.ContainsFunc(t.Machines, func(said release.MachineStatus) bool { return said.ID == m.ID }) {
					w.w.violate("the report of %s does not name machine %s (%s) of %s", report.ID, m.ID, m.Name, t.FlyApp)
				}
			}
		}
	}
}

// held: a rollout that asks a person says why, and which machine is what.
func (w *watch) held(id string, h release.Held) {
	w.mu.Lock()
	w.helds++
	if i := slices.IndexFunc(w.runs, func(r *rolloutRun) bool { return r.id == id && r.ended.IsZero() && r.req.TakeOver }); i >= 0 {
		w.mustOfferTheWay(w.runs[i], h)
	}
	w.mu.Unlock()
	if h.Why == "" || len(h.Choices) == 0 {
		w.w.violate("%s is held without a reason: %+v", id, h)
	}
	all := func(t Trouble) bool { return !t.kind().passes }
	if strings.HasPrefix(h.Why, "the baseline could not be brought back") && !slices.ContainsFunc(w.w.Troubles, all) {
		w.w.violate("%s is held, and there is no trouble that would keep the baseline from coming back: %s", id, h.Why)
	}
}
