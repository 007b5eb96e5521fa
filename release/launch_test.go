package release_test

import (
	"testing"

	"github.com/microbima/release/release"
)

// An update starts a machine that failed or crashed, and a bluegreen starts its
// replacement. A machine that a user stopped stays stopped.
func TestNewPlan_CrashedMachine(t *testing.T) {
	target := release.Target{App: "a", Environment: "production"}
	for name, test := range map[string]struct {
		state   string
		crashed bool
		starts  bool
	}{
		"runs":    {"started", false, true},
		"failed":  {"failed", false, true},
		"crashed": {"stopped", true, true},
		"stopped": {"stopped", false, false},
	} {
		for _, strategy := range []release.Strategy{release.Rolling, release.BlueGreen} {
			t.Run(name+"/"+string(strategy), func(t *testing.T) {
				serving := release.Machine{ID: "m1", Name: "m1", Group: "app", Region: "ams", State: "started", Version: "v1", Image: images[1], Config: config("a", "app", 1)}
				m := serving
				m.ID, m.Name, m.State, m.Crashed = "m2", "m2", test.state, test.crashed
				state := release.State{Target: target, FlyApp: "fly-a", Machines: []release.Machine{serving, m}}
				plan, err := release.NewPlan("production", "c0ffee", []release.Spec{{
					Target: target, FlyApp: "fly-a", Image: images[2], Strategy: strategy, MaxUnavailable: 1,
					Groups: []release.GroupSpec{{Name: "app", Machines: map[string]release.Config{"m1": config("a", "app", 2), "m2": config("a", "app", 2)}}},
				}}, []release.State{state})
				if err != nil {
					t.Fatal(err)
				}
				running := 0
				for _, m := range plan.Goal([]release.State{state})[0].Machines {
					if m.State == "started" {
						running++
					}
				}
				if want := map[bool]int{true: 2, false: 1}[test.starts]; running != want {
					t.Errorf("%d machines run after the plan, want %d", running, want)
				}
			})
		}
	}
}
