package release_test

import (
	"slices"
	"testing"

	"github.com/microbima/release/release"
)

// A rollback of a bluegreen takes no new machine out of service before the old ones are
// healthy: each old machine that was healthy and is not now has a step that waits for
// it, also if an earlier attempt has uncordoned it.
func TestRestore_WaitsForOldMachines(t *testing.T) {
	target := release.Target{App: "a", Environment: "production"}
	passing, failing := []release.Check{{Name: "http", Status: "passing"}}, []release.Check{{Name: "http", Status: "critical"}}
	blue := release.Machine{ID: "blue", Name: "blue", Group: "app", State: "started", Version: "v1", Image: images[1], Config: config("a", "app", 1), Checks: passing}
	green := release.Machine{ID: "green", Name: "green", Group: "app", State: "started", Version: "v2", Image: images[2], Config: config("a", "app", 2), Checks: passing, CreatedByPlan: true}
	for name, test := range map[string]struct {
		change func(blue, now *release.Machine)
		want   []release.Verb
	}{
		"cordoned and healthy":                {func(_, now *release.Machine) { now.Cordoned = true }, []release.Verb{release.Uncordon, release.Cordon, release.Destroy}},
		"cordoned and failing":                {func(_, now *release.Machine) { now.Cordoned, now.Checks = true, failing }, []release.Verb{release.Uncordon, release.Cordon, release.Destroy}},
		"uncordoned and failing":              {func(_, now *release.Machine) { now.Checks = failing }, []release.Verb{release.Uncordon, release.Cordon, release.Destroy}},
		"uncordoned and healthy":              {func(_, _ *release.Machine) {}, []release.Verb{release.Cordon, release.Destroy}},
		"failing before the rollout":          {func(blue, now *release.Machine) { blue.Checks, now.Checks = failing, failing }, []release.Verb{release.Cordon, release.Destroy}},
		"changed by another client, cordoned": {func(_, now *release.Machine) { now.Version, now.Cordoned = "theirs", true }, []release.Verb{release.Uncordon, release.Cordon, release.Destroy}},
		"changed by another client, failing":  {func(_, now *release.Machine) { now.Version, now.Checks = "theirs", failing }, []release.Verb{release.Uncordon, release.Cordon, release.Destroy}},
		"changed by another client, healthy":  {func(_, now *release.Machine) { now.Version = "theirs" }, []release.Verb{release.Cordon, release.Destroy}},
		"stopped by another client":           {func(_, now *release.Machine) { now.Version, now.State, now.Cordoned = "theirs", "stopped", false }, []release.Verb{release.Uncordon, release.Cordon, release.Destroy}},
		"cordoned before the rollout":         {func(blue, now *release.Machine) { blue.Cordoned, now.Cordoned, now.Checks = true, true, failing }, []release.Verb{release.Cordon, release.Destroy}},
	} {
		t.Run(name, func(t *testing.T) {
			before, now := blue, blue
			test.change(&before, &now)
			if now.Version == "theirs" {
				now.Config = config("a", "app", 3)
			}
			options := release.RestoreOptions{MayRestore: func(_ release.Target, m release.Machine) bool { return m.Version != "theirs" }}
			baseline := release.Baseline{State: release.State{Target: target, FlyApp: "fly-a", Machines: []release.Machine{before}}}
			plan := release.Restore("production", []release.Baseline{baseline}, []release.State{{Target: target, FlyApp: "fly-a", Machines: []release.Machine{now, green}}}, options)
			var verbs []release.Verb
			for _, s := range plan.Steps() {
				verbs = append(verbs, s.Verb)
				if s.Verb == release.Uncordon && s.SkipHealthCheck {
					t.Errorf("%s does not wait until the machine is healthy", s)
				}
			}
			if !slices.Equal(verbs, test.want) {
				t.Errorf("the steps are %v, want %v", verbs, test.want)
			}
		})
	}
}

// A plan is stale if machines were changed, added, removed or cordoned since it was made,
// and not if they were started or stopped.
func TestCheckStale(t *testing.T) {
	target := release.Target{App: "a", Environment: "production"}
	m := release.Machine{ID: "one", Name: "one", Group: "app", State: "started", Version: "v1", Image: images[1], Config: config("a", "app", 1)}
	planned := release.State{Target: target, FlyApp: "fly-a", Machines: []release.Machine{m}}
	plan := release.Restore("production", []release.Baseline{{State: planned}}, []release.State{planned}, release.RestoreOptions{})
	for name, test := range map[string]struct {
		change func(*release.State)
		stale  bool
	}{
		"the same":            {func(*release.State) {}, false},
		"stopped":             {func(s *release.State) { s.Machines[0].State = "stopped" }, false},
		"cordoned":            {func(s *release.State) { s.Machines[0].Cordoned = true }, true},
		"on a lost host":      {func(s *release.State) { s.Machines[0].Cordoned, s.Machines[0].Host = true, "unreachable" }, false},
		"changed":             {func(s *release.State) { s.Machines[0].Version = "v2" }, true},
		"removed":             {func(s *release.State) { s.Machines = nil }, true},
		"another one is new":  {func(s *release.State) { s.Machines = append(s.Machines, release.Machine{ID: "two", Version: "v1"}) }, true},
		"another one instead": {func(s *release.State) { s.Machines[0].ID = "two" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := planned
			now.Machines = slices.Clone(planned.Machines)
			test.change(&now)
			if err := plan.CheckStale([]release.State{now}); (err != nil) != test.stale {
				t.Errorf("%v, want stale: %t", err, test.stale)
			}
		})
	}
}
