package driver_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// A release command runs once: an attempt after the worker's death continues with its
// machine. An aborted command is stopped.
func TestApply_ReleaseCommandIsCutOff(t *testing.T) {
	step := release.NewRun(release.StepMachine{FlyApp: app, Machine: "release-command-1"}, "", release.Command{
		Run: "migrate", Timeout: release.Duration(time.Minute),
		Config: machineconfig.Read([]byte(`{"image":"registry.fly.io/shop:1","init":{"cmd":["migrate"]},"restart":{"policy":"no"},"auto_destroy":true,"metadata":{"fly_process_group":"fly_app_release_command"}}`)),
	})
	command := driver.Change{Step: step}
	for name, aborted := range map[string]bool{"by its worker's death": false, "by an abort": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := &flysim.Sim{Latency: flysim.Latency{Command: 15 * time.Second}}
				defer sim.Close()
				sim.CreateApp(app, "")
				d := newDriver(sim)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				first := driver.Attempt{Number: 1, Aborted: func(context.Context) bool { return aborted }}
				if _, err := d.Apply(driver.WithAttempt(ctx, first), command); err == nil {
					t.Fatal("the command ended within 5 s")
				}
				machines := sim.Machines(app)
				if len(machines) != 1 || (machines[0].State == "stopped") != aborted {
					t.Fatalf("after the first attempt: %+v", machines)
				}
				result, err := d.Apply(driver.WithAttempt(t.Context(), driver.Attempt{Number: 2}), command)
				if aborted {
					if kindOf(err) != release.KindFailure {
						t.Errorf("got %v, want a failure: the command was stopped", err)
					}
					return
				}
				if err != nil || result.Command == nil || result.Command.ExitCode != 0 || result.Command.Machine != machines[0].ID {
					t.Errorf("got %+v: %v, want success of machine %s", result.Command, err, machines[0].ID)
				}
				if n := len(sim.Machines(app)); n != 1 {
					t.Errorf("%d machines ran the command", n)
				}
			})
		})
	}
}
