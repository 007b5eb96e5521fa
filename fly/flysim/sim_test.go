package flysim_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

const (
	createRoute = "POST /v1/apps/{app}/machines"
	updateRoute = "POST /v1/apps/{app}/machines/{id}"
	checked     = `{"image":"shop:1","services":[{"internal_port":8080,"ports":[{"port":80,"handlers":["http"]}],"checks":[{"type":"http","path":"/health"}]}]}`
	second      = `{"image":"shop:2","services":[{"internal_port":8080,"ports":[{"port":80,"handlers":["http"]}],"checks":[{"type":"http","path":"/health"}]}]}`
)

// flyLatencies has the latencies that were measured with flyctl.
var flyLatencies = flysim.Latency{API: 30 * time.Millisecond, Change: 400 * time.Millisecond, Boot: 2 * time.Second,
	Check: time.Second, Stop: time.Second, Destroy: 500 * time.Millisecond}

// inBubble runs f with a Sim and a client in virtual time. The test fails if a
// goroutine is left after Close.
func inBubble(t *testing.T, sim *flysim.Sim, f func(t *testing.T, c *fly.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer sim.Close()
		sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(checked)})
		f(t, &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}, Unlimited: true})
	})
}

func updateMachine(t *testing.T, c *fly.Client) (fly.Machine, error) {
	t.Helper()
	return c.Update(t.Context(), "shop", "m1", fly.Update{Config: json.RawMessage(second)})
}

func readMachine(t *testing.T, c *fly.Client) fly.Machine {
	t.Helper()
	m, err := c.Machine(t.Context(), "shop", "m1")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func checkStatus(m fly.Machine) string {
	if len(m.Checks) == 0 {
		return "none"
	}
	return m.Checks[0].Status
}

func TestUpdate_Latencies(t *testing.T) {
	inBubble(t, &flysim.Sim{Latency: flyLatencies}, func(t *testing.T, c *fly.Client) {
		begin := time.Now()
		m, err := updateMachine(t, c)
		if err != nil || time.Since(begin) != 430*time.Millisecond || m.State != "replacing" {
			t.Fatalf("%s %v after %s", m.State, err, time.Since(begin))
		}
		if err := c.Wait(t.Context(), "shop", "m1", fly.Wait{Version: m.InstanceID, Timeout: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 2430*time.Millisecond {
			t.Errorf("started after %s", took)
		}
		if got := checkStatus(readMachine(t, c)); got != "none" {
			t.Errorf("its check is %s before there is a result", got)
		}
		time.Sleep(time.Second)
		if m := readMachine(t, c); checkStatus(m) != "passing" || m.Checks[0].Name != "servicecheck-00-http-8080" {
			t.Errorf("checks %+v", m.Checks)
		}
		err = c.Wait(t.Context(), "shop", "m1", fly.Wait{State: "stopped", Timeout: 7 * time.Second})
		if !errors.Is(err, fly.ErrTimeout) {
			t.Errorf("wait for a state that is not reached: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		before := time.Now()
		err = c.Wait(ctx, "shop", "m1", fly.Wait{State: "stopped", Timeout: time.Minute})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(before) != time.Second {
			t.Errorf("wait with a cancelled context: %v after %s", err, time.Since(before))
		}
	})
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault   flysim.Fault
		kind    error // kind of the update's error
		state   string
		check   string
		image   string
		crash   bool
		isOther bool // the version differs from that in the update's response
	}{
		"none":                               {fault: flysim.Fault{Route: "none"}, state: "started", check: "passing", image: "2"},
		"the response is lost":               {fault: flysim.LostAnswer(updateRoute, 1), kind: fly.ErrUnknownOutcome, state: "started", check: "passing", image: "2"},
		"refused before":                     {fault: flysim.Fault{Route: updateRoute, Status: 503}, kind: fly.ErrUnavailable, state: "started", check: "passing", image: "1"},
		"connection dropped after":           {fault: flysim.Fault{Route: updateRoute, Drop: true, After: true}, kind: fly.ErrUnknownOutcome, state: "started", check: "passing", image: "2"},
		"connection dropped before":          {fault: flysim.Fault{Route: updateRoute, Drop: true}, kind: fly.ErrUnknownOutcome, state: "started", check: "passing", image: "1"},
		"never passes":                       {fault: flysim.Fault{Route: updateRoute, Effect: flysim.NeverPasses}, state: "started", check: "critical", image: "2"},
		"passes, then turns critical":        {fault: flysim.Fault{Route: updateRoute, Effect: flysim.TurnsCritical, For: 5 * time.Second}, state: "started", check: "critical", image: "2"},
		"never starts":                       {fault: flysim.Fault{Route: updateRoute, Effect: flysim.NeverStarts}, state: "replacing", check: "none", image: "2"},
		"crashes until Fly stops restarting": {fault: flysim.Fault{Route: updateRoute, Effect: flysim.Crashes, Exit: 3}, state: "stopped", check: "none", image: "2", crash: true},
		"the old version is restored":        {fault: flysim.Fault{Route: updateRoute, Effect: flysim.Reverts}, state: "started", check: "passing", image: "1", isOther: true},
		"its host is unreachable":            {fault: flysim.Fault{Route: updateRoute, Effect: flysim.Unreachable, For: time.Second}, kind: fly.ErrUnknownOutcome, state: "started", check: "passing", image: "1"},
		"no capacity":                        {fault: flysim.Fault{Route: updateRoute, Effect: flysim.NoCapacity}, kind: fly.ErrNoCapacity, state: "started", check: "passing", image: "1"},
		"the lease has another owner":        {fault: flysim.Fault{Route: updateRoute, Effect: flysim.LeaseStolen}, kind: fly.ErrConflict, state: "started", check: "passing", image: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			sim := &flysim.Sim{Latency: flyLatencies}
			inBubble(t, sim, func(t *testing.T, c *fly.Client) {
				test.fault.Times = 1
				sim.Inject(test.fault)
				u, err := updateMachine(t, c)
				if !errors.Is(err, test.kind) {
					t.Errorf("error %v, want: %v", err, test.kind)
				}
				time.Sleep(5 * time.Minute)
				m := readMachine(t, c)
				if m.State != test.state || checkStatus(m) != test.check || m.ImageRef.Tag != test.image || !strings.Contains(string(m.Config), "shop:"+test.image) {
					t.Errorf("%s, check %s, image %s; want %s, %s, %s", m.State, checkStatus(m), m.ImageRef.Tag, test.state, test.check, test.image)
				}
				if err == nil && (m.InstanceID != u.InstanceID) != test.isOther {
					t.Errorf("version %s, the response had %s", m.InstanceID, u.InstanceID)
				}
				x, crashed := m.LastCrash()
				if crashed != test.crash || crashed && (x.Code != 3 || x.RestartCount != 10) {
					t.Errorf("crash %+v %v", x, crashed)
				}
				if n := len(sim.Requests()); n != 1 {
					t.Errorf("%d requests for one update", n)
				}
			})
		})
	}
}

func TestFaults_MachineNotFoundAfterCreate(t *testing.T) {
	sim := &flysim.Sim{}
	inBubble(t, sim, func(t *testing.T, c *fly.Client) {
		sim.Inject(flysim.Fault{Route: createRoute, Times: 1, Effect: flysim.NotYet})
		m, err := c.Create(t.Context(), "shop", fly.Create{Name: "new", Config: json.RawMessage(checked)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Machine(t.Context(), "shop", m.ID); !errors.Is(err, fly.ErrNotFound) {
			t.Errorf("the first read: %v", err)
		}
		if _, err := c.Machine(t.Context(), "shop", m.ID); err != nil {
			t.Errorf("the second read: %v", err)
		}
		if _, err := c.Create(t.Context(), "shop", fly.Create{Name: "new", Config: json.RawMessage(checked)}); !errors.Is(err, fly.ErrInvalid) {
			t.Errorf("a second machine of that name: %v", err)
		}
	})
}

func TestLease_Expires(t *testing.T) {
	sim := &flysim.Sim{}
	inBubble(t, sim, func(t *testing.T, c *fly.Client) {
		l, err := c.Lease(t.Context(), "shop", "m1", "", 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		if _, err := c.Lease(t.Context(), "shop", "m1", l.Nonce, 10*time.Second); err != nil {
			t.Error("refresh:", err)
		}
		time.Sleep(9 * time.Second)
		if _, err := updateMachine(t, c); !errors.Is(err, fly.ErrConflict) {
			t.Errorf("a refreshed lease does not hold: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := updateMachine(t, c); err != nil || len(sim.Leases("shop")) != 0 {
			t.Errorf("after it expired: %v, %v", err, sim.Leases("shop"))
		}
	})
}

func TestReleaseCommand_ExitAndDestroy(t *testing.T) {
	for name, code := range map[string]int{"succeeds": 0, "fails": 7} {
		t.Run(name, func(t *testing.T) {
			sim := &flysim.Sim{Latency: flyLatencies}
			if code != 0 {
				sim.Behave = func(_ string, config json.RawMessage) flysim.Behaviour {
					return flysim.Behaviour{CrashExit: &code, Log: []string{"no such table"}}
				}
			}
			inBubble(t, sim, func(t *testing.T, c *fly.Client) {
				m, err := c.Create(t.Context(), "shop", fly.Create{SkipLaunch: true, Config: json.RawMessage(
					`{"image":"shop:1","auto_destroy":true,"restart":{"policy":"no"},"metadata":{"fly_process_group":"fly_app_release_command"}}`)})
				if err != nil {
					t.Fatal(err)
				}
				wait := func(state string) error {
					return c.Wait(t.Context(), "shop", m.ID, fly.Wait{State: state, Timeout: time.Minute})
				}
				if err := errors.Join(wait("stopped"), c.Start(t.Context(), "shop", m.ID, ""), wait("destroyed")); err != nil {
					t.Fatal(err)
				}
				m, err = c.Machine(t.Context(), "shop", m.ID)
				if x, ok := m.LastExit(); err != nil || !ok || x.Code != code || x.Requested {
					t.Errorf("exit %+v %v %v, want code %d", x, ok, err, code)
				}
				lines, err := c.Logs(t.Context(), "shop", m.ID)
				if code != 0 && (err != nil || len(lines) != 1 || lines[0].Message != "no such table") {
					t.Errorf("log %+v %v", lines, err)
				}
			})
		})
	}
}

// TestJournal_KeepsState: acknowledged changes survive a kill, configs byte for
// byte, and machines run again.
func TestJournal_KeepsState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fly.json")
	config := json.RawMessage(`{ "image" : "shop:1", "env":{"A":"<&>"} , "checks":{"up":{"type":"tcp","port":1}}}`)
	var before []fly.Machine
	first := &flysim.Sim{Journal: file}
	t.Cleanup(first.Close)
	c := &fly.Client{HTTP: &http.Client{Transport: first.Transport()}, Unlimited: true}
	first.CreateApp("shop", "acme")
	first.SetSecrets("shop", map[string]string{"KEY": "1"})
	m, err := c.Create(t.Context(), "shop", fly.Create{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), "shop", fly.Create{Config: config, SkipLaunch: true, SkipServiceRegistration: true}); err != nil {
		t.Fatal(err)
	}
	l, err := c.Lease(t.Context(), "shop", m.ID, "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateRelease(t.Context(), fly.NewRelease{App: "shop", Strategy: "rolling"}); err != nil {
		t.Fatal(err)
	}
	before = first.Machines("shop")

	again := &flysim.Sim{Journal: file} // the first one is not closed, as after a kill
	t.Cleanup(again.Close)
	after := again.Machines("shop")
	if len(after) != 2 || len(before) != 2 {
		t.Fatalf("%d machines, before %d", len(after), len(before))
	}
	for i := range after {
		a, b := after[i], before[i]
		if a.ID != b.ID || a.InstanceID != b.InstanceID || a.State != b.State || a.Cordoned != b.Cordoned || string(a.Config) != string(config) {
			t.Errorf("got  %+v\nwant %+v", a, b)
		}
	}
	c = &fly.Client{HTTP: &http.Client{Transport: again.Transport()}, Unlimited: true}
	if _, err := c.Lease(t.Context(), "shop", m.ID, l.Nonce, time.Minute); err != nil {
		t.Error("the lease:", err)
	}
	secrets, err := c.Secrets(t.Context(), "shop")
	if err != nil || len(secrets) != 1 || len(again.Releases("shop")) != 1 {
		t.Errorf("secrets %v, releases %v, %v", secrets, again.Releases("shop"), err)
	}
}

// A killed Sim's transitions continue in the next: a command ends, and the
// effect of a fault stays.
func TestJournal_ResumesTransitions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fly.json")
	first := &flysim.Sim{Journal: file, Latency: flysim.Latency{Command: time.Hour}}
	t.Cleanup(first.Close)
	c := &fly.Client{HTTP: &http.Client{Transport: first.Transport()}, Unlimited: true}
	first.CreateApp("shop", "")
	command, err := c.Create(t.Context(), "shop", fly.Create{Config: json.RawMessage(
		`{"image":"shop:1","restart":{"policy":"no"},"metadata":{"fly_process_group":"fly_app_release_command"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	first.Inject(flysim.Fault{Effect: flysim.NeverPasses, Times: 1})
	failing, err := c.Create(t.Context(), "shop", fly.Create{Config: json.RawMessage(`{"image":"shop:1","checks":{"up":{"type":"tcp","port":1}}}`)})
	if err != nil {
		t.Fatal(err)
	}

	again := &flysim.Sim{Journal: file}
	t.Cleanup(again.Close)
	for _, m := range again.Machines("shop") {
		switch m.ID {
		case command.ID:
			if exit, ended := m.LastExit(); !ended || exit.Code != 0 {
				t.Errorf("the command is %s, exit %+v", m.State, exit)
			}
		case failing.ID:
			if len(m.Checks) != 1 || m.Checks[0].Status != "critical" {
				t.Errorf("the machine that never passes has %+v", m.Checks)
			}
		}
	}
}

func TestJournal_WriteErrorIsReported(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none", "fly.json")
	sim := &flysim.Sim{Journal: file}
	t.Cleanup(sim.Close)
	sim.CreateApp("shop", "")
	c := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}}
	if _, err := c.Create(t.Context(), "shop", fly.Create{Config: json.RawMessage(checked)}); !errors.Is(err, fly.ErrUnknownOutcome) {
		t.Errorf("a change without a journal returned %v", err)
	}
}

func TestToken_Authorization(t *testing.T) {
	sim := &flysim.Sim{Token: "fm2_right"}
	t.Cleanup(sim.Close)
	sim.CreateApp("shop", "")
	for token, kind := range map[string]error{"FlyV1 fm2_right": nil, "wrong": fly.ErrUnauthorized, "": fly.ErrUnauthorized} {
		c := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}, Token: token}
		if _, err := c.App(t.Context(), "shop"); !errors.Is(err, kind) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}
