package release_test

import (
	"slices"
	"testing"

	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// Two rollouts end without a report, one after the other. The rollback of the third also
// removes what the first created, but keeps what another client made or changed.
func TestResumed_LeftoverOfEarlierRollout(t *testing.T) {
	target := release.Target{App: "a", Environment: "production"}
	old := release.Machine{ID: "old", Name: "old", Group: "app", Version: "v1", Image: images[1], Config: config("a", "app", 1)}
	leftover := release.Machine{ID: "green", Name: "green", Group: "app", Version: "v2", Image: images[2], Config: config("a", "app", 2), CreatedByPlan: true}
	found := release.State{Target: target, Machines: []release.Machine{old, leftover}}
	baseline := []release.Baseline{{State: release.State{Target: target, Machines: []release.Machine{old}}}}
	destroy := release.NewDestroy(release.StepMachine{Target: target, Machine: "green"}, release.Config{})
	plan := release.Plan{
		Targets: []release.TargetPlan{{Target: target, Strategy: release.BlueGreen}},
		Waves:   []release.Wave{{Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{destroy}}}}},
	}
	for name, test := range map[string]struct {
		change func(*release.Machine)
		kept   bool
	}{
		"as the second rollout found it": {func(*release.Machine) {}, false},
		"on an unreachable host":         {func(m *release.Machine) { m.Host, m.Config = "unreachable", release.Config{} }, false},
		"changed by a user since":        {func(m *release.Machine) { m.Config = config("a", "app", 3) }, true},
		"created by a user":              {func(m *release.Machine) { m.CreatedByPlan = false }, true},
		"created by a user since":        {func(m *release.Machine) { m.ID, m.Name = "other", "other" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := leftover
			test.change(&m)
			now := []release.Baseline{{State: release.State{Target: target, Machines: []release.Machine{old, m}}}}
			got := release.ResumeBaselines(plan, baseline, []release.State{found}, now)[0].State.Machines
			if slices.ContainsFunc(got, func(x release.Machine) bool { return x.ID == m.ID }) != test.kept {
				t.Errorf("the baseline is %+v, the machine kept: want %t", got, test.kept)
			}
		})
	}
}

// A machine that a rollout without a report created and that serves no traffic is
// destroyed by the next plan before it creates another. All other machines stay.
func TestSeparateLeftovers(t *testing.T) {
	target := release.Target{App: "a", Environment: "production"}
	old := release.Machine{ID: "old", Name: "old", Group: "app", Region: "ams", State: "started", Version: "v1", Image: images[1], Config: config("a", "app", 1)}
	before := release.State{Target: target, FlyApp: "fly-a", Machines: []release.Machine{old}}
	made := release.Machine{ID: "made", Name: "new-1", Group: "app", Region: "ams", State: "started", Version: "v2", Image: images[2], Config: config("a", "app", 2), Cordoned: true, CreatedByPlan: true}
	plan := func(s release.Strategy) release.Plan {
		on := release.StepMachine{Target: target, FlyApp: "fly-a", Group: "app", Machine: "new-1"}
		create := release.NewCreate(on, release.CreateOptions{To: images[2], After: made.Config, Cordoned: true})
		show := release.NewUncordon(on)
		return release.Plan{
			Targets: []release.TargetPlan{{Target: target, FlyApp: "fly-a", Strategy: s}},
			Waves:   []release.Wave{{Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{create}}}}, {Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{show}}}}},
		}
	}
	for name, test := range map[string]struct {
		strategy release.Strategy
		change   func(*release.Machine)
		left     bool
	}{
		"created and cordoned":     {release.Rolling, func(*release.Machine) {}, true},
		"created and uncordoned":   {release.Rolling, func(m *release.Machine) { m.Cordoned = false }, false},
		"needed by a bluegreen":    {release.BlueGreen, func(*release.Machine) {}, false},
		"not created by a release": {release.Rolling, func(m *release.Machine) { m.CreatedByPlan = false }, false},
		"in the baseline":          {release.Rolling, func(m *release.Machine) { m.ID, m.Name = "old", "old" }, false},
		"changed by a user since":  {release.Rolling, func(m *release.Machine) { m.Config = config("a", "app", 3) }, false},
		"on an unreachable host":   {release.Rolling, func(m *release.Machine) { m.Host = "unreachable" }, false},
		"not in the plan":          {release.Rolling, func(m *release.Machine) { m.Name = "new-2" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := made
			test.change(&m)
			now := release.State{Target: target, FlyApp: "fly-a", Machines: []release.Machine{m}}
			if m.ID != "old" {
				now.Machines = append(now.Machines, old)
			}
			baseline := []release.Baseline{{State: before}}
			got := release.SeparateLeftovers(plan(test.strategy), baseline, []release.State{before}, []release.State{now}, nil)[0]
			if len(got.Leftovers) == 1 != test.left || len(got.Leftovers)+len(got.Machines) != len(now.Machines) {
				t.Fatalf("left: %+v, others: %+v", got.Leftovers, got.Machines)
			}
			if !test.left {
				return
			}
			next, err := release.NewPlan("production", "c0ffee", []release.Spec{{
				Target: target, FlyApp: "fly-a", Image: images[2], Strategy: test.strategy, MaxUnavailable: 1,
				Groups: []release.GroupSpec{{Name: "app", Machines: map[string]release.Config{"old": config("a", "app", 2)}}},
			}}, []release.State{got})
			if err != nil {
				t.Fatal(err)
			}
			if s := next.Steps(); s[0].Verb != release.Destroy || s[0].Machine != "made" {
				t.Errorf("the first step is %s; it should destroy made", s[0])
			}
			if err := next.CheckStale([]release.State{now}); err != nil {
				t.Errorf("the plan is stale for its own states: %v", err)
			}
			goal := next.Goal([]release.State{now})[0].Machines
			if !slices.EqualFunc(goal, []string{"old"}, func(m release.Machine, id string) bool { return m.ID == id }) {
				t.Errorf("after the plan the machines are %+v", goal)
			}
		})
	}
}

// A machine that a rollout without a report stopped is started by the next plan, whether
// that changes it or not. One that was stopped before, or that a person has stopped, is
// not.
func TestSeparateLeftovers_StoppedMachine(t *testing.T) {
	target := release.Target{App: "a", Environment: "production"}
	for name, test := range map[string]struct {
		was     string // its state before that rollout
		stopped []string
		image   int // that the next plan leads to
		starts  release.Verb
	}{
		"stopped by the rollout":                   {"started", []string{"m"}, 1, release.Start},
		"stopped by the rollout, and updated":      {"started", []string{"m"}, 2, release.Update},
		"stopped by a person":                      {"started", nil, 1, ""},
		"stopped by a person, and updated":         {"started", nil, 2, ""},
		"stopped before, and by the rollout again": {"stopped", []string{"m"}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := release.Machine{ID: "m", Name: "m", Group: "app", Region: "ams", State: test.was, Version: "v1", Image: images[1], Config: config("a", "app", 1)}
			before := release.State{Target: target, FlyApp: "fly-a", Machines: []release.Machine{m}}
			m.State = "stopped"
			now := release.State{Target: target, FlyApp: "fly-a", Machines: []release.Machine{m}}
			states := release.SeparateLeftovers(release.Plan{}, []release.Baseline{{State: before}}, []release.State{before}, []release.State{now}, test.stopped)
			plan, err := release.NewPlan("production", "c0ffee", []release.Spec{{
				Target: target, FlyApp: "fly-a", Image: images[test.image], Strategy: release.Rolling, MaxUnavailable: 1,
				Groups: []release.GroupSpec{{Name: "app", Machines: map[string]release.Config{"m": config("a", "app", test.image)}}},
			}}, states)
			if err != nil {
				t.Fatal(err)
			}
			var verb release.Verb
			for _, s := range plan.Steps() {
				if s.Verb == release.Start || s.Launch {
					verb = s.Verb
				}
			}
			if verb != test.starts {
				t.Errorf("the plan starts it with %q, want %q: %v", verb, test.starts, plan.Steps())
			}
			is, should := plan.Goal([]release.State{now})[0].Machines[0].State, "stopped"
			if test.starts != "" {
				should = "started"
			}
			if is != should {
				t.Errorf("the plan leads to a machine that is %s, want %s", is, should)
			}
		})
	}
}

// A machine is destroyed if a rollout without a report created its replacement and gave
// that traffic. The group does not grow.
func TestSeparateLeftovers_ReplacedMachine(t *testing.T) {
	target := release.Target{App: "a", Environment: "production"}
	old := release.Machine{ID: "old", Name: "old", Group: "app", Region: "ams", State: "started", Version: "v1", Image: images[1], Config: config("a", "app", 1)}
	fresh := release.Machine{ID: "new", Name: "new-1", Group: "app", Region: "ams", State: "started", Version: "v2", Image: images[2], Config: config("a", "app", 2), CreatedByPlan: true}
	before := release.State{Target: target, FlyApp: "fly-a", Machines: []release.Machine{old}}
	on := release.StepMachine{Target: target, FlyApp: "fly-a", Group: "app", Machine: "new-1"}
	create := release.NewCreate(on, release.CreateOptions{To: images[2], After: fresh.Config, Cordoned: true, Replaces: "old"})
	dead := release.Plan{
		Targets: []release.TargetPlan{{Target: target, FlyApp: "fly-a", Strategy: release.Rolling}},
		Waves: []release.Wave{
			{Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{create}}}},
			{Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{release.NewUncordon(on)}}}},
		},
	}
	for name, cordoned := range map[string]bool{"its replacement serves": false, "its replacement is cordoned": true} {
		t.Run(name, func(t *testing.T) {
			fresh := fresh
			fresh.Cordoned = cordoned
			now := release.State{Target: target, FlyApp: "fly-a", Machines: []release.Machine{fresh, old}}
			states := release.SeparateLeftovers(dead, []release.Baseline{{State: before}}, []release.State{before}, []release.State{now}, nil)
			machines := map[string]release.Config{"new": config("a", "app", 3), "old": config("a", "app", 3)}
			next, err := release.NewPlan("production", "c0ffee", []release.Spec{{
				Target: target, FlyApp: "fly-a", Image: images[3], Strategy: release.Rolling, MaxUnavailable: 1,
				Groups: []release.GroupSpec{{Name: "app", Machines: machines}},
			}}, states)
			if err != nil {
				t.Fatal(err)
			}
			var last []string
			for _, s := range next.IrreversiblePart().Steps() {
				last = append(last, string(s.Verb)+" "+s.Machine)
			}
			if want := []string{"destroy old"}; !cordoned && !slices.Equal(last, want) || cordoned && len(last) > 0 {
				t.Errorf("the last steps are %q", last)
			}
			if goal := next.Goal([]release.State{now})[0].Machines; len(goal) != 1 {
				t.Errorf("in the end there are %d machines, want 1: %+v", len(goal), goal)
			}
		})
	}
}

// A machine started for verification is stopped again only if it was stopped before.
func TestVerificationStarts_Idle(t *testing.T) {
	target := release.Target{App: "a", Environment: "production"}
	autostart := machineconfig.Read([]byte(`{"services":[{"autostart":true,"ports":[{"port":443}]}],"metadata":{"fly_process_group":"app"}}`))
	for state, idle := range map[string]bool{"started": false, "starting": false, "stopped": true, "suspended": true} {
		goal := release.State{Target: target, Machines: []release.Machine{{ID: "m", Group: "app", State: state, Config: autostart}}}
		plan := release.Plan{Targets: []release.TargetPlan{{Target: target}}}
		steps := plan.VerificationStarts([]release.State{goal}, map[string]bool{"m": true}, func(release.Target, string) bool { return false })
		if len(steps) != 1 || steps[0].SkipLaunch != idle {
			t.Errorf("%s: %+v; want one step, idle %t", state, steps, idle)
		}
	}
}

// A machine that the plan destroys runs the old version and proves nothing about the new
// one. If only such machines run, the verdict is unchecked.
func TestJudge_RemovedMachineRuns(t *testing.T) {
	config := machineconfig.Read([]byte(`{"services":[{"ports":[{"port":443}],"checks":[{"type":"http"}]}],"metadata":{"fly_process_group":"app"}}`))
	old := release.Machine{ID: "old", Group: "app", State: "started", Cordoned: true, Config: config, Checks: []release.Check{{Name: "http", Status: "passing"}}}
	fresh := release.Machine{ID: "new", Group: "app", State: "stopped", Config: config}
	s := release.State{Machines: []release.Machine{old, fresh}}
	if h, notes, _ := s.Judge(s, release.Evidence{RemovedMachines: []string{"old"}}); h != release.Unchecked {
		t.Errorf("with the new machine stopped: %s %q, want unchecked", h, notes)
	}
	if h, notes, _ := s.Judge(s, release.Evidence{RemovedMachines: []string{"old", "new"}}); h != release.Unchecked {
		t.Errorf("with every machine to be removed: %s %q, want unchecked", h, notes)
	}
	if h, notes, _ := s.Judge(s, release.Evidence{}); h != release.Healthy {
		t.Errorf("with no machine to be removed: %s %q, want healthy", h, notes)
	}
}
