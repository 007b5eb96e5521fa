package driver

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// A probe would start a stopped machine. Whether a machine runs that should be stopped is
// read from the machine itself, and is unknown if that fails.
func TestIsServed(t *testing.T) {
	const app, id = "shop", "00f74e4b8c6c7f"
	for name, test := range map[string]struct {
		goal, listed, actual string
		fault                int // status of the answer to a read of the machine
		isServed, isUnknown  bool
	}{
		"it should run":                         {goal: "started", listed: "started", actual: "started", fault: http.StatusUnauthorized, isServed: true},
		"started to verify it":                  {goal: "stopped", listed: "started", actual: "started", isServed: true},
		"the list is old":                       {goal: "stopped", listed: "started", actual: "stopped"},
		"the list is old, the machine is gone":  {goal: "stopped", listed: "started", actual: "started", fault: http.StatusNotFound},
		"the list is old, it cannot be read":    {goal: "stopped", listed: "started", actual: "stopped", fault: http.StatusUnauthorized, isUnknown: true},
		"stopped, and nothing has to be read":   {goal: "stopped", listed: "stopped", actual: "stopped", fault: http.StatusUnauthorized},
		"unhealthy before, and needs no verify": {goal: "", listed: "started", actual: "started", fault: http.StatusUnauthorized, isServed: true},
	} {
		t.Run(name, func(t *testing.T) {
			sim := new(flysim.Sim)
			defer sim.Close()
			sim.Put(app, fly.Machine{ID: id, State: test.actual, Config: json.RawMessage(`{"image":"registry.fly.io/shop:1"}`)})
			if test.fault != 0 {
				sim.Inject(flysim.Fault{Route: "GET /v1/apps/{app}/machines/{id}", Status: test.fault})
			}
			d := &Driver{Fly: &fly.Client{FlapsURL: "http://fly", APIURL: "http://fly", Unlimited: true, HTTP: &http.Client{Transport: sim.Transport()}}, Memory: new(Memory)}
			state := func(s string) release.State {
				return release.State{FlyApp: app, URL: "https://shop.example", Machines: []release.Machine{{ID: id, State: s}}}
			}
			isServed, err := d.isServed(t.Context(), Expectation{Goal: state(test.goal), Probe: new(release.Probe)}, state(test.listed))
			if isServed != test.isServed || (err != nil) != test.isUnknown {
				t.Errorf("served: %t, error: %v", isServed, err)
			}
		})
	}
}
