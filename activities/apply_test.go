package activities_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// An update leaves a machine started or stopped as it finds it. The attempt that
// comes after one whose answer was lost finds what has become of it meanwhile,
// and must not take that for how it was.
func TestAnUpdateGoesByHowItFoundTheMachine(t *testing.T) {
	const app, id = "shop", "00f74e4b8c6c7f"
	ends := func(sim *flysim.Sim) error { return client(sim, "").Stop(t.Context(), app, id, "") }
	rests := func(sim *flysim.Sim) error { sim.Idle(app, id); return nil }
	for name, test := range map[string]struct {
		found     string
		autostop  string
		meanwhile func(*flysim.Sim) error
		kind      string
	}{
		"it was stopped, and is":                {"stopped", "off", ends, ""},
		"it ran, and was stopped by somebody":   {"started", "off", ends, release.KindFailure},
		"it ran, and Fly's proxy let it rest":   {"started", "stop", rests, ""},
		"it ran, and the proxy leaves it alone": {"started", "off", rests, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := new(flysim.Sim)
			t.Cleanup(sim.Close)
			sim.CreateApp(app, "")
			config := func(level string) json.RawMessage {
				return json.RawMessage(`{"image":"registry.fly.io/shop:1","env":{"LEVEL":"` + level + `"},"services":[{"internal_port":80,"autostop":"` + test.autostop + `"}]}`)
			}
			sim.Put(app, fly.Machine{ID: id, State: test.found, Config: config("1")})
			a := &activities.Activities{Fly: client(sim, ""), Poll: 20 * time.Millisecond}
			in := activities.StepInput{Step: release.Step{Verb: release.Update, FlyApp: app, Machine: id, After: config("2"), Wait: release.Duration(time.Second)}}
			for range 2 {
				if after, err := run[activities.StepResult](t, a, a.ApplyStep, in); err != nil || after.State != test.found {
					t.Fatalf("it is %s: %v", after.State, err)
				}
			}
			if err := test.meanwhile(sim); err != nil {
				t.Fatal(err)
			}
			after, err := run[activities.StepResult](t, a, a.ApplyStep, in)
			if kind(err) != test.kind || err != nil && test.kind == "" || err == nil && after.State != test.found {
				t.Errorf("the next attempt leaves it %s: %v", after.State, err)
			}
		})
	}
}
