package release_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// The state of a machine on an unreachable host is unknown: neither a failure nor
// healthy.
func TestUnmet_UnreachableHost(t *testing.T) {
	goal := release.State{Machines: []release.Machine{{ID: "a", State: "started", Image: images[1], Config: config("api", "app", 1)}}}
	now := release.State{Machines: []release.Machine{{ID: "a", State: "started", Image: images[0], Host: "unreachable"}}}
	if bad := goal.Unmet(now, release.ExitRule{}); len(bad) > 0 {
		t.Errorf("reported as failed: %v", bad)
	}
	if unknown := goal.Unreachable(now); len(unknown) != 1 {
		t.Errorf("reported as healthy: %v", unknown)
	}
	now.Machines[0].Host = ""
	if bad, unknown := goal.Unmet(now, release.ExitRule{}), goal.Unreachable(now); len(bad) != 1 || len(unknown) > 0 {
		t.Errorf("with a reachable host: failures %v, unknown %v; want one failure, for its image", bad, unknown)
	}
}

func TestWhatIsWhat(t *testing.T) {
	target := release.Target{App: "a", Environment: "production"}
	machine := func(id, state string, n int) release.Machine {
		return release.Machine{ID: id, Name: id, Group: "app", State: state, Image: images[n], Config: config("a", "app", n)}
	}
	state := func(machines ...release.Machine) []release.State {
		return []release.State{{Target: target, Machines: machines}}
	}
	away := machine("away", "started", 0)
	away.Host = "unreachable"
	baseline := state(machine("same", "started", 1), machine("halted", "started", 1), machine("updated", "started", 1), machine("changed", "started", 1), machine("gone", "started", 1), machine("away", "started", 1))
	goal := state(machine("same", "started", 2), machine("halted", "started", 2), machine("updated", "started", 2), machine("changed", "started", 2), machine("away", "started", 2))
	now := state(machine("same", "started", 1), machine("halted", "stopped", 1), machine("updated", "started", 2), machine("changed", "started", 3), away)
	got := release.DescribeMachines(goal, baseline, now)
	want := []string{
		"machine same of a/production is on the baseline: started, ",
		"machine halted of a/production is on the baseline: stopped, was started, ",
		"machine updated of a/production is on the plan: started, ",
		"machine changed of a/production is on neither the plan nor the baseline: started, ",
		"machine away of a/production is unknown: its host is unreachable: started, ",
		"machine gone (gone) of a/production is gone",
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
