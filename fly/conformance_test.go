package fly_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

// TestConformance runs the same tests against flysim, always, and against Fly,
// if there is a token. A test that passes on one and fails on the other is a
// bug in flysim.
func TestConformance(t *testing.T) {
	t.Run("flysim", func(t *testing.T) {
		sim := new(flysim.Sim)
		t.Cleanup(sim.Close)
		sim.CreateApp("shop", "")
		sim.SetSecrets("shop", map[string]string{"GREETING": "hello"})
		srv := httptest.NewServer(sim)
		t.Cleanup(srv.Close)
		runConformance(t, fixture{
			Client: &fly.Client{FlapsURL: srv.URL, APIURL: srv.URL, UIEXURL: srv.URL, Unlimited: true},
			app:    "shop", image: "registry.fly.io/shop:1",
		})
	})
	t.Run("fly", func(t *testing.T) {
		token, app, image := os.Getenv("FLY_TEST_TOKEN"), os.Getenv("FLY_TEST_APP"), os.Getenv("FLY_TEST_IMAGE")
		if token == "" || app == "" || image == "" {
			t.Skip("needs FLY_TEST_TOKEN, FLY_TEST_APP and FLY_TEST_IMAGE (a server on port 8080)")
		}
		runConformance(t, fixture{Client: &fly.Client{Token: token}, app: app, image: image})
	})
}

type fixture struct {
	*fly.Client
	app, image string
}

// config returns a machine config with white space, key order, characters and a
// field that no encoder would produce.
func (f fixture) config(env string) json.RawMessage {
	return json.RawMessage(`{ "image":"` + f.image + `", "env": {"WHO":"` + env + ` <&>", "A":"1"},
 "guest":{"cpu_kind":"shared","cpus":1,"memory_mb":256}, "metadata":{"fly_process_group":"app"}, "x_unheard_of": 1.50,
 "services":[{"internal_port":8080,"protocol":"tcp","ports":[{"port":80,"handlers":["http"]}]}] }`)
}

// create creates a machine and destroys it when the test ends.
func (f fixture) create(t *testing.T, in fly.Create) fly.Machine {
	t.Helper()
	in.Config = f.config("one")
	m, err := f.Create(t.Context(), f.app, in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.destroy(t, m) })
	return m
}

// destroy destroys a machine, also after the test has ended.
func (f fixture) destroy(t *testing.T, m fly.Machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := f.Destroy(ctx, f.app, m.ID, m.Nonce); err != nil && !errors.Is(err, fly.ErrNotFound) && !errors.Is(err, fly.ErrConflict) {
		t.Error(err)
	}
}

func (f fixture) wait(t *testing.T, id, state, version string) {
	t.Helper()
	if err := f.Wait(t.Context(), f.app, id, fly.Wait{State: state, Version: version, Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
}

func (f fixture) read(t *testing.T, id string) fly.Machine {
	t.Helper()
	m, err := f.Machine(t.Context(), f.app, id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantError(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got error %v, want: %v", err, kind)
	}
}

func runConformance(t *testing.T, f fixture) {
	for _, tests := range []map[string]func(*testing.T, fixture){machineConformance, appConformance} {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, f) })
		}
	}
}

var machineConformance = map[string]func(*testing.T, fixture){
	"an update of an unknown machine is not found": func(t *testing.T, f fixture) {
		_, err := f.Update(t.Context(), f.app, "0000000000000a", fly.Update{Config: f.config("x")})
		wantError(t, err, fly.ErrNotFound)
	},
	"an unknown app is not found": func(t *testing.T, f fixture) {
		_, err := f.App(t.Context(), f.app+"-that-does-not-exist")
		wantError(t, err, fly.ErrNotFound)
	},
	"a config comes back byte for byte": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{})
		f.wait(t, m.ID, "started", m.InstanceID)
		if got := f.read(t, m.ID).Config; !bytes.Equal(got, f.config("one")) {
			t.Errorf("got  %s\nwant %s", got, f.config("one"))
		}
		all, err := f.Machines(t.Context(), f.app)
		if err != nil || len(all) == 0 {
			t.Fatal(len(all), err)
		}
		for _, one := range all {
			if one.ID == m.ID && !bytes.Equal(one.Config, f.config("one")) {
				t.Errorf("the list has %s", one.Config)
			}
		}
	},
	"an update creates a new version and starts it": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{})
		f.wait(t, m.ID, "started", m.InstanceID)
		u, err := f.Update(t.Context(), f.app, m.ID, fly.Update{Config: f.config("two"), CurrentVersion: m.InstanceID})
		if err != nil {
			t.Fatal(err)
		}
		if u.InstanceID == m.InstanceID || u.ID != m.ID || u.Name != m.Name {
			t.Errorf("updated %s %s to %s %s", m.ID, m.InstanceID, u.ID, u.InstanceID)
		}
		if d := m.VersionTime().Sub(m.CreatedAt); d.Abs() > 30*time.Second || u.VersionTime().Before(m.VersionTime()) {
			t.Errorf("created at %s, its versions at %s and %s", m.CreatedAt, m.VersionTime(), u.VersionTime())
		}
		f.wait(t, m.ID, "started", u.InstanceID)
		wantError(t, f.Wait(t.Context(), f.app, m.ID, fly.Wait{State: "started", Version: m.InstanceID, Timeout: time.Second}), fly.ErrInvalid)
	},
	"a machine changed by someone else is not overwritten": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{})
		f.wait(t, m.ID, "started", m.InstanceID)
		if _, err := f.Update(t.Context(), f.app, m.ID, fly.Update{Config: f.config("theirs")}); err != nil {
			t.Fatal(err)
		}
		_, err := f.Update(t.Context(), f.app, m.ID, fly.Update{Config: f.config("ours"), CurrentVersion: m.InstanceID})
		wantError(t, err, fly.ErrPrecondition)
		if errors.Is(err, fly.ErrUnknownOutcome) {
			t.Errorf("%v: the outcome is known", err)
		}
		if got := f.read(t, m.ID).Config; !bytes.Equal(got, f.config("theirs")) {
			t.Errorf("it was overwritten: %s", got)
		}
	},
	"a leased machine is changed only with its nonce": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{})
		f.wait(t, m.ID, "started", m.InstanceID)
		l, err := f.Lease(t.Context(), f.app, m.ID, "", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if l.Nonce == "" || l.Version != m.InstanceID || time.Until(l.Expires) < 30*time.Second {
			t.Errorf("lease %+v", l)
		}
		_, err = f.Lease(t.Context(), f.app, m.ID, "", time.Minute)
		wantError(t, err, fly.ErrConflict)
		_, err = f.Update(t.Context(), f.app, m.ID, fly.Update{Config: f.config("theirs")})
		wantError(t, err, fly.ErrConflict)
		wantError(t, f.Stop(t.Context(), f.app, m.ID, "another"), fly.ErrConflict)
		wantError(t, f.Cordon(t.Context(), f.app, m.ID, ""), fly.ErrConflict)
		if _, err = f.Lease(t.Context(), f.app, m.ID, l.Nonce, time.Minute); err != nil {
			t.Error("refresh:", err)
		}
		if err := f.SetMetadata(t.Context(), f.app, m.ID, "team", "red"); err != nil {
			t.Error("metadata needs no lease:", err)
		}
		if _, err = f.Update(t.Context(), f.app, m.ID, fly.Update{Config: f.config("ours"), Nonce: l.Nonce}); err != nil {
			t.Error(err)
		}
		if err := f.ReleaseLease(t.Context(), f.app, m.ID, l.Nonce); err != nil {
			t.Error(err)
		}
		_, err = f.Lease(t.Context(), f.app, m.ID, l.Nonce, time.Minute)
		wantError(t, err, fly.ErrNotFound)
	},
	"a create with a lease returns its nonce": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{LeaseTTL: 60})
		wantError(t, f.Cordon(t.Context(), f.app, m.ID, ""), fly.ErrConflict)
		if err := f.Cordon(t.Context(), f.app, m.ID, m.Nonce); err != nil {
			t.Error(err)
		}
	},
	"a stopped machine updated with skip_launch stays stopped": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{SkipLaunch: true})
		f.wait(t, m.ID, "stopped", m.InstanceID)
		u, err := f.Update(t.Context(), f.app, m.ID, fly.Update{Config: f.config("two"), SkipLaunch: true})
		if err != nil {
			t.Fatal(err)
		}
		f.wait(t, m.ID, "stopped", u.InstanceID)
		if got := f.read(t, m.ID); got.State != "stopped" || !bytes.Equal(got.Config, f.config("two")) {
			t.Errorf("it is %s with %s", got.State, got.Config)
		}
	},
	"a stopped machine updated without skip_launch is started": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{SkipLaunch: true})
		f.wait(t, m.ID, "stopped", m.InstanceID)
		u, err := f.Update(t.Context(), f.app, m.ID, fly.Update{Config: f.config("two")})
		if err != nil {
			t.Fatal(err)
		}
		f.wait(t, m.ID, "started", u.InstanceID)
	},
	"stop and start": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{})
		f.wait(t, m.ID, "started", "")
		if err := f.Stop(t.Context(), f.app, m.ID, ""); err != nil {
			t.Fatal(err)
		}
		f.wait(t, m.ID, "stopped", m.InstanceID)
		if x, ok := f.read(t, m.ID).LastExit(); !ok || !x.Requested {
			t.Errorf("last exit %+v %v, want a requested one", x, ok)
		}
		if err := f.Start(t.Context(), f.app, m.ID, ""); err != nil {
			t.Fatal(err)
		}
		f.wait(t, m.ID, "started", "")
	},
	"cordon and uncordon": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{SkipServiceRegistration: true})
		f.wait(t, m.ID, "started", "")
		if !f.read(t, m.ID).Cordoned {
			t.Error("skip_service_registration did not create it cordoned")
		}
		for _, want := range []bool{false, false, true} {
			change := f.Uncordon
			if want {
				change = f.Cordon
			}
			if err := change(t.Context(), f.app, m.ID, ""); err != nil {
				t.Fatal(err)
			}
			if got := f.read(t, m.ID); got.Cordoned != want || got.InstanceID != m.InstanceID {
				t.Errorf("cordoned %v, version %s; want %v, %s", got.Cordoned, got.InstanceID, want, m.InstanceID)
			}
		}
	},
	"a destroyed machine is not listed": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{})
		f.wait(t, m.ID, "started", "")
		if err := f.Destroy(t.Context(), f.app, m.ID, ""); err != nil {
			t.Fatal(err)
		}
		if err := f.Wait(t.Context(), f.app, m.ID, fly.Wait{State: "destroyed", Version: m.InstanceID, Timeout: time.Minute}); err != nil && !errors.Is(err, fly.ErrNotFound) {
			t.Error(err)
		}
		all, err := f.Machines(t.Context(), f.app)
		for _, one := range all {
			if err != nil || one.ID == m.ID {
				t.Error("still listed", err)
			}
		}
		all, err = f.AllMachines(t.Context(), f.app)
		i := slices.IndexFunc(all, func(one fly.Machine) bool { return one.ID == m.ID })
		if err != nil || i < 0 || all[i].State != "destroyed" && all[i].State != "destroying" {
			t.Errorf("missing in the list with destroyed ones: %+v, %v", all, err)
		}
		_, err = f.Update(t.Context(), f.app, m.ID, fly.Update{Config: f.config("two")})
		wantError(t, err, fly.ErrNotFound)
	},
	"a wait ends in 408 after its timeout, and in 400 for an unknown state": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{SkipLaunch: true})
		f.wait(t, m.ID, "stopped", "")
		wantError(t, f.Wait(t.Context(), f.app, m.ID, fly.Wait{State: "suspended", Timeout: time.Second}), fly.ErrTimeout)
		wantError(t, f.Wait(t.Context(), f.app, m.ID, fly.Wait{State: "happy", Timeout: time.Second}), fly.ErrInvalid)
	},
	"metadata is set without a new version": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{})
		f.wait(t, m.ID, "started", "")
		if err := f.SetMetadata(t.Context(), f.app, m.ID, "colour", "blue"); err != nil {
			t.Fatal(err)
		}
		got := f.read(t, m.ID)
		if got.Metadata()["colour"] != "blue" || got.Metadata()["fly_process_group"] != "app" || got.InstanceID != m.InstanceID {
			t.Errorf("metadata %v, version %s", got.Metadata(), got.InstanceID)
		}
	},
	"an invalid config is refused": func(t *testing.T, f fixture) {
		_, err := f.Create(t.Context(), f.app, fly.Create{Config: json.RawMessage(`{"image":7}`)})
		wantError(t, err, fly.ErrInvalid)
		if errors.Is(err, fly.ErrUnknownOutcome) {
			t.Errorf("%v: the outcome is known", err)
		}
	},
	"releases are recorded and closed": func(t *testing.T, f fixture) {
		r, err := f.CreateRelease(t.Context(), fly.NewRelease{App: f.app, Image: f.image, Strategy: "rolling"})
		if err != nil {
			t.Fatal(err)
		}
		for _, status := range []string{"running", "complete"} {
			if err := f.UpdateRelease(t.Context(), r.ID, status, ""); err != nil {
				t.Fatal(err)
			}
		}
		all, err := f.Releases(t.Context(), f.app)
		if err != nil || len(all) == 0 || all[0].ID != r.ID || all[0].Status != "complete" || all[0].Version != r.Version {
			t.Errorf("releases %+v, %v; want %s first and complete", all, err, r.ID)
		}
	},
	"an app has its URL": func(t *testing.T, f fixture) {
		a, err := f.App(t.Context(), f.app)
		if err != nil || a.URL != "https://"+f.app+".fly.dev" || a.Name != f.app || a.Organization == "" {
			t.Errorf("app %+v, %v", a, err)
		}
	},
}
