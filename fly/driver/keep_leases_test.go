package driver_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// Leases are refreshed as long as the rollout lasts, and no longer.
func TestKeepLeases(t *testing.T) {
	closes := func(d *driver.Driver, machines []driver.Leased) error {
		return d.CloseRollout(context.Background(), driver.Closing{Holder: holder, Machines: machines, Status: "complete"})
	}
	clears := func(d *driver.Driver, machines []driver.Leased) error {
		return d.Fly.ReleaseLease(context.Background(), app, id, machines[0].Nonce)
	}
	for name, test := range map[string]struct {
		meanwhile func(*driver.Driver, []driver.Leased) error
		kind      string
		isLeased  bool
	}{
		"refreshed leases do not expire":               {func(*driver.Driver, []driver.Leased) error { return nil }, "", true},
		"a closed rollout ends it":                     {closes, "", false},
		"a lease that another client released is lost": {clears, release.KindConflict, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := new(flysim.Sim)
				defer sim.Close()
				sim.Put(app, fly.Machine{ID: id, State: "started", Config: configWith("1", "off")})
				d := newDriver(sim)
				machines, err := d.TakeLeases(t.Context(), holder, []driver.Leased{{FlyApp: app, Machine: id}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				ctx = driver.WithAttempt(ctx, driver.Attempt{Aborted: func(context.Context) bool { return false }})
				done := make(chan error, 1)
				go func() {
					done <- d.KeepLeases(ctx, driver.Keeping{Holder: holder, Machines: machines, Last: time.Now()})
				}()
				time.Sleep(20 * time.Minute)
				if err := test.meanwhile(d, machines); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Minute)
				if _, err := d.Fly.ReadLease(t.Context(), app, id); (err == nil) != test.isLeased {
					t.Errorf("the lease after 23 minutes: %v", err)
				}
				stop()
				if err := <-done; kindOf(err) != test.kind || test.kind == "" && err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want kind %q", err, test.kind)
				}
			})
		})
	}
}

const holder = "release release/shop/1, run run1"
