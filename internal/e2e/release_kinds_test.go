package e2e_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/api/common/v1"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// A releaseKind is a project whose releases all have the same outcome, whichever
// process dies.
type releaseKind struct {
	name    string
	shop    projectFixture
	signal  bool // reviews are sent as signals instead of updates
	reject  bool // reviews reject
	outcome release.Outcome
	// behaves is the behaviour of a machine of another version than v1, and of the
	// machine of a release command.
	behaves func(command bool) flysim.Behaviour
}

// listKinds returns the projects to release concurrently. Those that roll back have only
// production, so that one outcome describes the release.
func listKinds() []releaseKind {
	failing := func(b flysim.Behaviour) func(bool) flysim.Behaviour {
		return func(command bool) flysim.Behaviour {
			if command {
				return flysim.Behaviour{}
			}
			return b
		}
	}
	broken := func(command bool) flysim.Behaviour {
		if code := 1; command {
			return flysim.Behaviour{CrashExit: &code, RunsFor: newSlowFly().Latency.Command, Log: []string{"no such table"}}
		}
		return flysim.Behaviour{}
	}
	one := projectFixture{only: "production", apps: []string{"api"}, wait: "1m", bake: "6s", test: "sleep 2"}
	of := func(change func(*projectFixture)) projectFixture {
		s := one
		change(&s)
		return s
	}
	both := []string{"api", "web"}
	command := "release_command = \"migrate\"\n"
	return []releaseKind{
		{name: "rolling", outcome: release.Promoted, shop: of(func(s *projectFixture) { s.only, s.apps = "", both })},
		{name: "canary", outcome: release.Promoted, signal: true, shop: of(func(s *projectFixture) { s.strategy, s.env = "canary", "canary = \"4s\"\n" })},
		{name: "bluegreen", outcome: release.Promoted, shop: of(func(s *projectFixture) { s.strategy = "bluegreen" })},
		{name: "command", outcome: release.Promoted, signal: true, shop: of(func(s *projectFixture) { s.apps, s.deploy = both, command })},
		{name: "failing", outcome: release.RolledBack, shop: of(func(s *projectFixture) { s.apps, s.wait = both, "6s" }), behaves: failing(flysim.Behaviour{NeverHealthy: true})},
		{name: "failing-in-bake", outcome: release.RolledBack, signal: true, shop: of(func(s *projectFixture) { s.wait, s.bake = "6s", "20s" }), behaves: failing(flysim.Behaviour{CriticalAfter: 2e9})},
		{name: "broken", outcome: release.RolledBack, shop: of(func(s *projectFixture) { s.deploy = command }), behaves: broken},
		{name: "rejected", outcome: release.Stopped, reject: true, shop: one},
	}
}

func kindProjects() projectSet {
	s := projectSet{}
	for _, k := range listKinds() {
		s[k.name] = k.shop
	}
	return s
}

// violations collects what a user would have lost.
type violations []error

func (w *violations) check(is bool, format string, args ...any) {
	if !is {
		*w = append(*w, fmt.Errorf(format, args...))
	}
}

// checkIntact returns an error with all that a release of k should have kept or cleaned
// up and did not.
func (k releaseKind) checkIntact(before, after flyJournal, id, version string, outcome release.Outcome) error {
	var w violations
	for _, env := range k.shop.environments() {
		for _, app := range k.shop.names() {
			place := flyApp(k.name, env, app)
			was, is := before.Apps[place], after.Apps[place]
			w.checkNothingLeft(place, is, id)
			w.checkFlyRelease(place, was, is, outcome)
			w.checkCommand(place, was, is, id, k.shop.deploy != "" && (outcome == release.Promoted || outcome == release.RolledBack), outcome)
			if outcome == release.Promoted {
				w.checkPromoted(place, was, is, digestOf(app, commitOf(version)), k.shop.strategy != "bluegreen")
			} else {
				w.checkRestored(place, was, is, outcome == release.RolledBack)
			}
		}
	}
	return errors.Join(w...)
}

// checkNothingLeft checks that nothing is left and nothing was created twice.
func (w *violations) checkNothingLeft(place string, is appJournal, id string) {
	names := map[string]int{}
	for _, m := range is.Machines {
		if m.metadata()[release.MetaRelease] == id && m.metadata()[release.MetaMachine] != "" {
			names[m.View.Name]++
		}
		gone := m.View.State == "destroyed"
		w.check(gone || m.metadata()["fly_process_group"] != release.ReleaseCommandGroup, "%s: machine %s of a release command is left, %s", place, m.View.ID, m.View.State)
		w.check(!m.isLeased(), "%s: a lease is left on machine %s: %+v", place, m.View.ID, m.Lease)
	}
	for name, n := range names {
		w.check(n == 1, "%s: machine %s was created %d times", place, name, n)
	}
	for _, r := range is.Releases {
		w.check(!r.InProgress, "%s: Fly release %d is left %s", place, r.Version, r.Status)
	}
}

// checkFlyRelease checks that Fly has one more release with the right status.
func (w *violations) checkFlyRelease(place string, was, is appJournal, outcome release.Outcome) {
	status, more := map[release.Outcome]string{release.Promoted: "complete", release.RolledBack: "failed"}[outcome], len(is.Releases)-len(was.Releases)
	if status == "" {
		w.check(more == 0, "%s: a release that ended %s made %d Fly releases", place, outcome, more)
		return
	}
	w.check(more == 1, "%s: a release that ended %s made %d Fly releases", place, outcome, more)
	last := is.Releases[max(0, len(is.Releases)-1):]
	w.check(len(last) == 1 && last[0].Status == status, "%s: the last Fly release of one that ended %s is %+v", place, outcome, last)
}

// checkCommand checks that the release command ran once, if it should have.
func (w *violations) checkCommand(place string, was, is appJournal, id string, should bool, outcome release.Outcome) {
	ran, started := 0, 0
	for _, m := range is.Machines {
		if _, old := was.Machines[m.View.ID]; old {
			continue
		}
		if meta := m.metadata(); meta[release.MetaRelease] == id && meta["fly_process_group"] == release.ReleaseCommandGroup {
			ran++
			for _, e := range m.View.Events {
				if e.Type == "start" && e.Status == "started" {
					started++
				}
			}
		}
	}
	want := 0
	if should {
		want = 1
	}
	w.check(ran == want && started == want, "%s: %d machines ran the release command of one that ended %s, %d times together, want %d", place, ran, outcome, started, want)
}

// checkPromoted checks that every machine runs the new version, is healthy, and was
// changed once.
func (w *violations) checkPromoted(place string, was, is appJournal, digest string, inPlace bool) {
	live := is.liveMachines()
	w.check(len(live) == 2, "%s has %d machines, want 2", place, len(live))
	for _, m := range live {
		w.check(m.View.ImageRef.Digest == digest, "%s: machine %s runs %s, want %s", place, m.View.ID, m.View.ImageRef.Digest, digest)
		w.check(driver.Describe(m.View).IsHealthy() && !m.View.Cordoned, "%s: machine %s is not well: %s %v", place, m.View.ID, m.View.State, m.View.Checks)
		if old, ok := was.Machines[m.View.ID]; ok && inPlace {
			n := len(m.Former) - len(old.Former)
			w.check(n == 1, "%s: machine %s was changed %d times", place, m.View.ID, n)
		}
	}
	for _, m := range was.liveMachines() {
		_, left := is.Machines[m.View.ID]
		w.check(!inPlace || left, "%s: machine %s is gone", place, m.View.ID)
	}
}

// checkRestored checks that every machine is byte for byte as before, either restored
// or never changed.
func (w *violations) checkRestored(place string, was, is appJournal, andBack bool) {
	live := is.liveMachines()
	w.check(len(live) == len(was.liveMachines()), "%s has %d machines, had %d", place, len(live), len(was.liveMachines()))
	for _, m := range live {
		old, ok := was.Machines[m.View.ID]
		if w.check(ok, "%s: machine %s (%s) was not there before", place, m.View.ID, m.View.Name); !ok {
			continue
		}
		w.check(m.Config == old.Config && m.View.ImageRef.Digest == old.View.ImageRef.Digest, "%s: machine %s has\n%s, had\n%s", place, m.View.ID, m.Config, old.Config)
		w.check(m.View.State == old.View.State && m.View.Cordoned == old.View.Cordoned && m.View.Name == old.View.Name,
			"%s: machine %s (%s) is %s, cordoned %t; was %s, cordoned %t", place, m.View.ID, m.View.Name, m.View.State, m.View.Cordoned, old.View.State, old.View.Cordoned)
		w.check(driver.Describe(m.View).IsHealthy(), "%s: machine %s is not well: %s %v", place, m.View.ID, m.View.State, m.View.Checks)
		n := len(m.Former) - len(old.Former)
		w.check(n == 0 || n == 2 && andBack, "%s: machine %s was changed %d times", place, m.View.ID, n)
	}
}

// checkGate checks that no rollout of an environment with a gate began before the
// approval of its plan.
func checkGate(all eventHistory, environment string) error {
	var w violations
	var yes []string
	for _, e := range all.events {
		if s := e.GetWorkflowExecutionSignaledEventAttributes(); s != nil && s.SignalName == release.ApproveSignal {
			d, err := decode[release.ReviewInput](s.Input)
			w.check(err == nil, "%s: a review can't be read: %v", all.id, err)
			yes = append(yes, d.Plan)
		}
		if u := e.GetWorkflowExecutionUpdateAcceptedEventAttributes(); u != nil && u.AcceptedRequest.GetInput().GetName() == release.ApproveUpdate {
			d, err := decode[release.ReviewInput](u.AcceptedRequest.Input.Args)
			w.check(err == nil, "%s: a review can't be read: %v", all.id, err)
			yes = append(yes, d.Plan)
		}
		if c := e.GetStartChildWorkflowExecutionInitiatedEventAttributes(); c != nil {
			in, err := decode[release.RolloutRequest](c.Input)
			w.check(err == nil, "%s: what it asks of %s can't be read: %v", all.id, c.WorkflowId, err)
			w.check(in.Plan.Environment != environment || in.Unchanged && in.Plan.IsEmpty() || slices.ContainsFunc(yes, func(plan string) bool {
				return len(plan) >= 8 && strings.HasPrefix(in.Plan.Hash, plan)
			}), "%s: plan %s of %s was executed, reviews are for %q", all.id, in.Plan.Hash, environment, yes)
		}
	}
	return errors.Join(w...)
}

func decode[T any](p *common.Payloads) (v T, err error) {
	return v, worker.DataConverter().FromPayloads(p, &v)
}
