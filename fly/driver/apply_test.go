package driver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

const app, id = "shop", "00f74e4b8c6c7f"

func newSim(t *testing.T) *flysim.Sim {
	t.Helper()
	sim := new(flysim.Sim)
	t.Cleanup(sim.Close)
	sim.CreateApp(app, "")
	return sim
}

func client(sim *flysim.Sim) *fly.Client {
	return &fly.Client{FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly", Unlimited: true, HTTP: &http.Client{Transport: sim.Transport()}}
}

func newDriver(sim *flysim.Sim) *driver.Driver {
	return &driver.Driver{Fly: client(sim), Poll: 20 * time.Millisecond, Memory: new(driver.Memory)}
}

// kindOf returns the kind of a driver.Error, or "".
func kindOf(err error) string {
	var final *driver.Error
	if errors.As(err, &final) {
		return final.Kind
	}
	return ""
}

func configWith(level, autostop string) json.RawMessage {
	return json.RawMessage(`{"image":"registry.fly.io/shop:1","env":{"LEVEL":"` + level + `"},"services":[{"internal_port":80,"autostop":"` + autostop + `"}]}`)
}

// An update leaves a machine started or stopped as it found it. An attempt after one
// whose answer was lost finds a state that may have changed since, and must not take
// it for the state that the first attempt found.
func TestApply_UpdateKeepsFoundState(t *testing.T) {
	ends := func(sim *flysim.Sim) error { return client(sim).Stop(t.Context(), app, id, "") }
	rests := func(sim *flysim.Sim) error { sim.Idle(app, id); return nil }
	for name, test := range map[string]struct {
		found     string
		autostop  string
		meanwhile func(*flysim.Sim) error
		kind      string
	}{
		"a stopped machine stays stopped":                       {"stopped", "off", ends, ""},
		"a machine that somebody stopped fails":                 {"started", "off", ends, release.KindFailure},
		"a machine that the proxy stopped is started":           {"started", "stop", rests, ""},
		"a machine that the proxy leaves alone is not affected": {"started", "off", rests, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := newSim(t)
			sim.Put(app, fly.Machine{ID: id, State: test.found, Config: configWith("1", test.autostop)})
			d := newDriver(sim)
			c := driver.Change{Step: release.NewUpdate(release.StepMachine{FlyApp: app, Machine: id, Wait: release.Duration(time.Second)}, release.UpdateOptions{After: machineconfig.Read(configWith("2", test.autostop))})}
			for range 2 {
				if after, err := d.Apply(t.Context(), c); err != nil || after.Machine.State != test.found {
					t.Fatalf("the machine is %s: %v", after.Machine.State, err)
				}
			}
			if err := test.meanwhile(sim); err != nil {
				t.Fatal(err)
			}
			after, err := d.Apply(t.Context(), c)
			if kindOf(err) != test.kind || err != nil && test.kind == "" || err == nil && after.Machine.State != test.found {
				t.Errorf("the next attempt leaves the machine %s: %v", after.Machine.State, err)
			}
		})
	}
}

// An update whose step says so starts a machine that was found stopped.
func TestApply_UpdateLaunches(t *testing.T) {
	sim := newSim(t)
	sim.Put(app, fly.Machine{ID: id, State: "stopped", Config: configWith("1", "off")})
	step := release.NewUpdate(release.StepMachine{FlyApp: app, Machine: id, Wait: release.Duration(time.Second)}, release.UpdateOptions{After: machineconfig.Read(configWith("2", "off")), Launch: true})
	after, err := newDriver(sim).Apply(t.Context(), driver.Change{Step: step})
	if err != nil || after.Machine.State != "started" {
		t.Errorf("the machine is %q: %v", after.Machine.State, err)
	}
}

// A rollback takes the new machines out of service after it has uncordoned the old ones.
// So a restored machine must be healthy, unless it was not before.
func TestApply_UncordonWaitsForHealth(t *testing.T) {
	config := json.RawMessage(`{"image":"registry.fly.io/shop:1","checks":{"alive":{"type":"http","port":80,"interval":"1s","grace_period":"0s"}}}`)
	for name, test := range map[string]struct {
		status string
		step   release.Step
		kind   string
	}{
		"restored and healthy":            {"passing", release.Step{Verbatim: true}, ""},
		"restored and failing":            {"critical", release.Step{Verbatim: true}, release.KindFailure},
		"restored, and failed before":     {"critical", release.Step{Verbatim: true, SkipHealthCheck: true}, ""},
		"shown after its health was read": {"critical", release.Step{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sim := newSim(t)
			sim.Put(app, fly.Machine{ID: id, State: "started", Config: config, Cordoned: true, Checks: []fly.Check{{Name: "alive", Status: test.status}}})
			test.step.Verb = release.Uncordon
			test.step.FlyApp = app
			test.step.Machine = id
			test.step.Wait = release.Duration(300 * time.Millisecond)
			for range 2 { // the second attempt finds it uncordoned
				_, err := newDriver(sim).Apply(t.Context(), driver.Change{Step: test.step})
				if kindOf(err) != test.kind || err != nil && test.kind == "" {
					t.Errorf("%v, want kind %q", err, test.kind)
				}
			}
			if sim.Machines(app)[0].Cordoned {
				t.Error("the machine is still cordoned")
			}
		})
	}
}

// A machine at another version than the plan was made for is never overwritten.
func TestApply_UpdateOfChangedMachine(t *testing.T) {
	sim := newSim(t)
	sim.Put(app, fly.Machine{ID: id, State: "started", Config: configWith("1", "off")})
	step := release.NewUpdate(release.StepMachine{FlyApp: app, Machine: id, Version: "01AN4Z07BY79KA1307SR9X4MV3", Wait: release.Duration(time.Second)}, release.UpdateOptions{After: machineconfig.Read(configWith("2", "off"))})
	_, err := newDriver(sim).Apply(t.Context(), driver.Change{Step: step})
	if kindOf(err) != release.KindConflict || !strings.Contains(err.Error(), "was changed by another client") {
		t.Errorf("got %v, want a conflict", err)
	}
	if config := string(sim.Machines(app)[0].Config); !strings.Contains(config, `"1"`) {
		t.Errorf("the machine was overwritten: %s", config)
	}
}

// A create is sent once: the attempt after one whose answer was lost recognizes the
// machine.
func TestApply_CreateAgain(t *testing.T) {
	sim := newSim(t)
	d := newDriver(sim)
	c := driver.Change{Stamp: map[string]string{"release_id": "release/shop/1"}, Step: release.NewCreate(
		release.StepMachine{FlyApp: app, Machine: "shop-app-1", Region: "ams", Wait: release.Duration(time.Second)},
		release.CreateOptions{After: machineconfig.Read(configWith("1", "off"))},
	)}
	first, err := d.Apply(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.Apply(driver.WithAttempt(t.Context(), driver.Attempt{Number: 2}), c)
	if err != nil || again.Machine.ID != first.Machine.ID || len(sim.Machines(app)) != 1 {
		t.Errorf("%d machines; the second attempt returns %s, want %s: %v", len(sim.Machines(app)), again.Machine.ID, first.Machine.ID, err)
	}
}

// A step that Fly refuses for good fails with an error that a retry does not cure.
func TestApply_MachineIsGone(t *testing.T) {
	d := newDriver(newSim(t))
	for verb, kind := range map[release.Verb]string{release.Stop: release.KindConflict, release.Cordon: release.KindConflict, release.Destroy: ""} {
		_, err := d.Apply(t.Context(), driver.Change{Step: release.Step{Verb: verb, FlyApp: app, Machine: id}})
		if kindOf(err) != kind || kind == "" && err != nil {
			t.Errorf("%s: got %v, want kind %q", verb, err, kind)
		}
	}
}

// flyctl leaves a release's metadata on the machines that it changes, and adds its own
// version.
func TestDescribe_ClientThatChangedMachine(t *testing.T) {
	for by, want := range map[string]string{fly.ClientVersion: "", "0.4.1": "0.4.1"} {
		config := `{"metadata":{"release_id":"release/shop/1","fly_flyctl_version":"` + by + `"}}`
		m := driver.Describe(fly.Machine{ID: "m1", Config: json.RawMessage(config)})
		if m.Client != want || m.Release != "release/shop/1" {
			t.Errorf("%s: client %q, release %q", by, m.Client, m.Release)
		}
	}
}

// Either all machines are leased or none: half of the leases would only keep others
// waiting.
func TestTakeLeases_OneIsHeld(t *testing.T) {
	sim := newSim(t)
	var machines []driver.Leased
	for _, id := range []string{"00000000000001", "00000000000002"} {
		sim.Put(app, fly.Machine{ID: id, State: "started", Config: configWith("1", "off")})
		machines = append(machines, driver.Leased{FlyApp: app, Machine: id})
	}
	d, f := newDriver(sim), client(sim)
	other, err := f.TakeLease(t.Context(), app, machines[1].Machine, "flyctl deploy", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := d.TakeLeases(t.Context(), "release r, run 2", machines); err == nil || held != nil || !strings.Contains(err.Error(), "flyctl deploy") {
		t.Errorf("got %v: %v, want an error that names the holder", held, err)
	}
	if _, err := f.ReadLease(t.Context(), app, machines[0].Machine); !errors.Is(err, fly.ErrNotFound) {
		t.Errorf("the lease of the other machine was kept: %v", err)
	}
	if err := f.ReleaseLease(t.Context(), app, machines[1].Machine, other.Nonce); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second attempt takes over the leases of the first
		if held, err := d.TakeLeases(t.Context(), "release r, run 2", machines); err != nil || len(held) != 2 {
			t.Errorf("got %v: %v", held, err)
		}
	}
}

// The leases of a run of the same rollout are replaced once that run has ended.
func TestTakeLeases_RunHasEnded(t *testing.T) {
	sim := newSim(t)
	sim.Put(app, fly.Machine{ID: id, State: "started", Config: configWith("1", "off")})
	d, machines := newDriver(sim), []driver.Leased{{FlyApp: app, Machine: id}}
	if _, err := d.TakeLeases(t.Context(), release.LeaseHolder("r", "run1"), machines); err != nil {
		t.Fatal(err)
	}
	for _, ended := range [][]string{nil, {"run1"}} {
		ctx := driver.WithAttempt(t.Context(), driver.Attempt{RunEnded: func(_ context.Context, run string) bool { return slices.Contains(ended, run) }})
		if held, err := d.TakeLeases(ctx, release.LeaseHolder("r", "run2"), machines); (err == nil) != (len(ended) > 0) {
			t.Errorf("with %v ended: %v, %v", ended, held, err)
		}
	}
}

// A change of a machine on which the rollout keeps a lease uses that lease, and does not
// end it, although the step does not have its nonce.
func TestApply_KeptLeaseStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := new(flysim.Sim)
		defer sim.Close()
		sim.Put(app, fly.Machine{ID: id, State: "started", Config: configWith("1", "off")})
		d := newDriver(sim)
		if _, err := d.TakeLeases(t.Context(), holder, []driver.Leased{{FlyApp: app, Machine: id}}); err != nil {
			t.Fatal(err)
		}
		step := release.NewCordon(release.StepMachine{FlyApp: app, Machine: id})
		if _, err := d.Apply(t.Context(), driver.Change{Step: step, Holder: holder}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		lease, err := d.Fly.ReadLease(t.Context(), app, id)
		if err != nil || lease.Description != holder {
			t.Errorf("a minute after the change the lease is %+v, %v", lease, err)
		}
	})
}

// A list that is older than what was written is read again. Of a machine on an unreachable
// host Fly returns old facts for as long as the host is away: the read must end.
func TestObserve_OlderThanWritten(t *testing.T) {
	const old, written = "01AN4Z07BY79KA1307SR9X4MV3", "01BN4Z07BY79KA1307SR9X4MV3"
	config := json.RawMessage(`{"image":"registry.fly.io/shop:1","metadata":{"fly_platform_version":"v2","fly_process_group":"app"}}`)
	for name, test := range map[string]struct {
		host  string
		fails bool
	}{
		"reachable host":   {"ok", true},
		"unreachable host": {"unreachable", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := newSim(t)
				sim.Put(app, fly.Machine{ID: id, State: "started", HostStatus: test.host, InstanceID: old, Config: config})
				states, err := newDriver(sim).Observe(t.Context(), []driver.TargetRef{{FlyApp: app}}, driver.Written{app: {id: written}})
				if (err != nil) != test.fails {
					t.Fatalf("%v, want an error: %t", err, test.fails)
				}
				if !test.fails && (len(states[0].Machines) != 1 || states[0].Machines[0].Host != test.host) {
					t.Errorf("read %+v", states[0].Machines)
				}
			})
		})
	}
}
