package release_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// A fleet is the current state and the desired state of an environment.
type fleet struct {
	states []release.State
	wanted map[release.Target]want
}

type want struct {
	strategy    release.Strategy
	unavailable float64
	level       int
	version     int
	groups      []string
}

var images = []release.Image{"r/a@sha256:0", "r/a@sha256:1", "r/a@sha256:2", "r/a@sha256:3"}

func config(app, group string, version int) release.Config {
	return machineconfig.Read(fmt.Appendf(nil, `{"image":%q,"env":{"APP":%q},"metadata":{"fly_process_group":%q}}`, images[version], app, group))
}

func fleets() *rapid.Generator[fleet] {
	return rapid.Custom(func(t *rapid.T) fleet {
		f := fleet{wanted: map[release.Target]want{}}
		for a := range rapid.IntRange(1, 4).Draw(t, "apps") {
			app := fmt.Sprintf("app%d", a)
			target := release.Target{App: app, Environment: "production"}
			state := release.State{Target: target, FlyApp: "fly-" + app, Secrets: []release.Secret{{Name: "KEY", Updated: time.Unix(int64(a), 0)}}}
			for i := range rapid.IntRange(0, 7).Draw(t, "machines") {
				v := rapid.IntRange(0, 2).Draw(t, "version")
				g := rapid.SampledFrom([]string{"app", "worker", "gone"}).Draw(t, "group")
				state.Machines = append(state.Machines, release.Machine{
					ID: fmt.Sprintf("%s%06d", app, i), Name: fmt.Sprintf("%s-old-%d", app, i), Group: g, Region: "ams",
					State: rapid.SampledFrom([]string{"started", "started", "started", "stopped"}).Draw(t, "state"), Version: fmt.Sprint("v", i),
					Image: images[v], Config: config(app, g, v), Cordoned: rapid.IntRange(0, 9).Draw(t, "cordoned") == 0,
				})
			}
			f.states = append(f.states, state)
			f.wanted[target] = want{
				strategy:    rapid.SampledFrom([]release.Strategy{release.Rolling, release.Canary, release.BlueGreen, release.Immediate}).Draw(t, "strategy"),
				unavailable: rapid.SampledFrom([]float64{0.01, 0.33, 0.5, 1, 1.5, 3}).Draw(t, "max_unavailable"),
				level:       rapid.IntRange(0, 2).Draw(t, "level"),
				version:     rapid.IntRange(0, 3).Draw(t, "wanted version"),
				groups:      rapid.SampledFrom([][]string{{"app"}, {"app", "worker"}}).Draw(t, "groups"),
			}
		}
		return f
	})
}

// specs returns the specs that f wants for states, as the config package would.
func (f fleet) specs(states []release.State) (specs []release.Spec) {
	for _, s := range states {
		w := f.wanted[s.Target]
		spec := release.Spec{
			Target: s.Target, FlyApp: s.FlyApp, Image: images[w.version], Level: w.level,
			Strategy: w.strategy, MaxUnavailable: w.unavailable,
		}
		for _, g := range w.groups {
			group := release.GroupSpec{Name: g, Machines: map[string]release.Config{}}
			for _, m := range s.Machines {
				if m.Group == g {
					group.Machines[m.ID] = config(s.Target.App, g, w.version)
				}
			}
			for range 2 {
				group.New = append(group.New, release.NewMachine{Region: "ams", Config: config(s.Target.App, g, w.version)})
			}
			spec.Groups = append(spec.Groups, group)
		}
		specs = append(specs, spec)
	}
	return specs
}

// execute returns states after the first n steps of plan, with IDs for created
// machines.
func execute(states []release.State, plan release.Plan, n int) []release.State {
	cut := release.Plan{Waves: []release.Wave{{Lanes: []release.Lane{{Steps: plan.Steps()[:n]}}}}}
	after := cut.Goal(states)
	for i := range after {
		for j := range after[i].Machines {
			if m := &after[i].Machines[j]; m.ID == "" {
				m.ID, m.Version = "new"+m.Name, "v0"
			}
		}
	}
	return after
}

// These properties hold for any current and desired state.
func TestNewPlan_Properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fleets().Draw(t, "fleet")
		plan := f.plan(t, f.states)
		steps := len(plan.Steps())
		after := execute(f.states, plan, steps)
		if err := plan.CheckStale(f.states); err != nil {
			t.Errorf("a plan is stale for its own states: %v", err)
		}

		if again := f.plan(t, after); !again.IsEmpty() {
			t.Errorf("an executed plan leaves steps: %v", again.Steps())
		}
		cut := execute(f.states, plan, rapid.IntRange(0, steps).Draw(t, "cut after"))
		rest := f.plan(t, cut)
		if end := execute(cut, rest, len(rest.Steps())); !f.plan(t, end).IsEmpty() {
			t.Errorf("a plan that was interrupted, planned again and executed leaves steps: %v", f.plan(t, end).Steps())
		}
		for i, end := range execute(cut, rest, len(rest.Steps())) {
			// A plan keeps the number of machines of a group that has any. An
			// interrupted first rollout is rolled back instead of continued.
			if got, want := len(end.Machines), len(after[i].Machines); got != want && !f.createsGroup(f.states[i]) {
				t.Errorf("%s has %d machines after an interruption, %d without", end.Target, got, want)
			}
		}
		f.checkStoppedMachines(t, after, plan)
		f.checkAvailability(t, plan)
	})
}

// A rollback ends on the baseline, at whichever step the rollout was interrupted.
func TestRestore_Properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fleets().Draw(t, "fleet")
		plan := f.plan(t, f.states)
		baselines := plan.Baselines(f.states)
		cut := execute(f.states, plan, rapid.IntRange(0, len(plan.Steps())).Draw(t, "cut after"))

		restore := release.Restore("production", baselines, cut, release.RestoreOptions{})
		if err := restore.CheckStale(cut); err != nil {
			t.Errorf("a restore is stale for its own states: %v", err)
		}
		back := execute(cut, restore, len(restore.Steps()))
		if diffs := release.DescribeDifferences(baselines, back); len(diffs) > 0 {
			t.Errorf("a rollback does not end on the baseline: %v\nsteps: %v", diffs, restore.Steps())
		}
		if again := release.Restore("production", baselines, back, release.RestoreOptions{}); !again.IsEmpty() {
			t.Errorf("an executed rollback leaves steps: %v", again.Steps())
		}
		f.checkAvailability(t, restore)
	})
}

// An interrupted bluegreen leaves green machines beside the blue ones. The next release
// replaces the blue machines and destroys the green ones, so that the app does not grow.
func TestNewPlan_InterruptedBlueGreen(t *testing.T) {
	target := release.Target{App: "api", Environment: "production"}
	state := release.State{Target: target, FlyApp: "fly-api"}
	put := func(id string, version int, by string, cordoned bool) {
		state.Machines = append(state.Machines, release.Machine{
			ID: id, Name: id, Group: "app", Region: "ams", State: "started", Version: "v0", Image: images[version], Cordoned: cordoned, CreatedByPlan: cordoned,
			Config: machineconfig.Read(fmt.Appendf(nil, `{"env":{"APP":"api"},"image":%q,"metadata":{"fly_process_group":"app","release_id":%q}}`, images[version], by)),
		})
	}
	for i := range 3 {
		put(fmt.Sprint("blue", i), 1, "one", false)
		put(fmt.Sprint("green", i), 2, "two", true)
	}
	put("drained", 1, "one", true) // by a user: it has the release of the serving machines
	for _, strategy := range []release.Strategy{release.BlueGreen, release.Rolling} {
		f := fleet{states: []release.State{state}, wanted: map[release.Target]want{target: {strategy: strategy, unavailable: 1, version: 3, groups: []string{"app"}}}}
		plan, err := release.NewPlan("production", "", f.specs(f.states), f.states)
		if err != nil {
			t.Fatal(err)
		}
		after := execute(f.states, plan, len(plan.Steps()))[0].Machines
		want := 4 // three blue and the drained one
		if notes := strings.Join(plan.Targets[0].Notes, "\n"); strategy == release.BlueGreen && strings.Count(notes, "left by an earlier switch, and is destroyed") != 3 {
			t.Errorf("the notes do not list the destroyed machines: %s", notes)
		}
		if strategy != release.BlueGreen {
			want = 7
			if notes := strings.Join(plan.Targets[0].Notes, "\n"); strings.Count(notes, "is cordoned and gets no traffic") != 4 {
				t.Errorf("the notes do not list the machines without traffic: %s", notes)
			}
		}
		if len(after) != want {
			t.Errorf("%s ends with %d machines, want %d", strategy, len(after), want)
		}
		for _, s := range plan.IrreversiblePart().Steps() {
			if s.Verb != release.Destroy || strategy != release.BlueGreen {
				t.Errorf("%s can't be taken back: %v", strategy, s)
			}
		}
	}
}

// Equal inputs in any order result in equal plans, byte for byte.
func TestNewPlan_Pure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fleets().Draw(t, "fleet")
		specs, states := f.specs(f.states), slices.Clone(f.states)
		one, err := release.NewPlan("production", "", specs, states)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(specs)
		slices.Reverse(states)
		two, err := release.NewPlan("production", "", specs, states)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := one.Seal("run").Hash, two.Seal("run").Hash; a != b {
			t.Errorf("the same plan has the hashes %s and %s", a, b)
		}
		if one.Seal("run").Hash == one.Seal("another run").Hash {
			t.Error("the plan of another run has the same hash: approvals would count after a reset")
		}
	})
}

// createsGroup reports whether one of the desired groups has no machine in s.
func (f fleet) createsGroup(s release.State) bool {
	return slices.ContainsFunc(f.wanted[s.Target].groups, func(g string) bool {
		return !slices.ContainsFunc(s.Machines, func(m release.Machine) bool { return m.Group == g })
	})
}

func (f fleet) plan(t *rapid.T, states []release.State) release.Plan {
	plan, err := release.NewPlan("production", "", f.specs(states), states)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// checkStoppedMachines checks that plan starts no stopped machine.
func (f fleet) checkStoppedMachines(t *rapid.T, after []release.State, plan release.Plan) {
	for i, s := range f.states {
		for _, m := range s.Machines {
			if now, ok := after[i].FindMachine(m.ID); ok && m.State == "stopped" && now.State != "stopped" {
				t.Errorf("machine %s was stopped and is %s", m.ID, now.State)
			}
		}
	}
	for _, s := range plan.Steps() {
		if s.Verb == release.Start {
			t.Errorf("a plan starts machine %s without need", s.Machine)
		}
	}
}

// checkAvailability checks that no more machines of a group are down at once than its
// strategy allows, and that no machine of a kept group is destroyed before verification.
func (f fleet) checkAvailability(t *rapid.T, plan release.Plan) {
	for _, w := range plan.Waves {
		for _, l := range w.Lanes {
			down := map[string]int{}
			for _, s := range l.Steps {
				m, existed := f.findMachine(s.Target, s.Machine)
				want := f.wanted[s.Target]
				kept := slices.Contains(want.groups, s.Group)
				if existed && kept && s.Verb == release.Destroy && !w.Irreversible {
					t.Errorf("%v before the new is verified", s)
				}
				if existed && s.Verb == release.Update && m.State == "started" && want.strategy != release.Immediate {
					down[s.Group]++
				}
			}
			for group, n := range down {
				if allowed := f.maxUnavailable(l.Steps[0].Target, group); min(n, l.MaxConcurrent) > allowed && w.Title != "bring back" {
					t.Errorf("wave %q takes %d machines of %s at once, %d are allowed", w.Title, min(n, l.MaxConcurrent), group, allowed)
				}
			}
		}
	}
}

func (f fleet) maxUnavailable(target release.Target, group string) int {
	running := 0
	for _, s := range f.states {
		for _, m := range s.Machines {
			if s.Target == target && m.Group == group && m.State == "started" {
				running++
			}
		}
	}
	if u := f.wanted[target].unavailable; u >= 1 {
		return int(u)
	} else {
		return max(1, int(u*float64(running)+0.999999))
	}
}

func (f fleet) findMachine(target release.Target, id string) (release.Machine, bool) {
	for _, s := range f.states {
		if s.Target == target {
			return s.FindMachine(id)
		}
	}
	return release.Machine{}, false
}

// A created machine names the machine that it replaces, so that a review can show the
// change of the config.
func TestNewPlan_CreatedMachineNamesReplaced(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		f := fleets().Draw(t, "fleet")
		plan, err := release.NewPlan("production", "c0ffee", f.specs(f.states), f.states)
		if err != nil {
			t.Skip(err)
		}
		for _, s := range plan.Steps() {
			if s.Verb != release.Create || !s.Cordoned { // hidden: it replaces another machine
				continue
			}
			found++
			if !slices.ContainsFunc(plan.IrreversiblePart().Steps(), func(o release.Step) bool {
				return o.Verb == release.Destroy && o.Machine == s.Replaces && o.Target == s.Target && o.Group == s.Group && !o.Before.IsZero()
			}) {
				t.Fatalf("%s succeeds %q, which the plan does not destroy", s, s.Replaces)
			}
		}
	})
	if found == 0 {
		t.Error("no plan created a replacement")
	}
}
