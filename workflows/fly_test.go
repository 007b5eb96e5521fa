package workflows_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// Fly apps of the scenarios: faults happen to web in production; api, which web needs,
// has to be rolled back with it.
const (
	apiApp = "shop-production-api"
	webApp = "shop-production-web"
)

// releaseCommandLines has lines of [deploy] with a release command.
const releaseCommandLines = `release_command = "migrate up"
release_command_timeout = "2m"
`

// newUpdate returns a scenario that releases v2 over v1, with fly.toml changed in
// between.
func newUpdate(t *testing.T, before, after repo) *scenario {
	t.Helper()
	s := newScenario(t, before)
	s.installVersion("v1")
	s.act.Git = after
	s.req.Revision = revision("v2")
	s.onApproval(s.approve)
	return s
}

// countCommands returns how many machines of an app were created for a release command,
// and how many starts Fly accepted.
func (s *scenario) countCommands(app string) (made, started int) {
	for _, r := range s.sim.Requests() {
		var body struct {
			Config struct{ Metadata map[string]string }
		}
		if r.App == app && r.Route == create && r.Status < 300 && json.Unmarshal(r.Body, &body) == nil &&
			body.Config.Metadata["fly_process_group"] == release.ReleaseCommandGroup {
			made++
		}
		if r.App == app && r.Route == "POST /v1/apps/{app}/machines/{id}/start" && r.Status != 404 {
			started++
		}
	}
	return made, started
}

// mustBeClean fails if the release left something at Fly: a lease, a machine of a
// command, or an open Fly release.
func (s *scenario) mustBeClean() {
	s.t.Helper()
	for _, app := range []string{apiApp, webApp, "shop-staging-api", "shop-staging-web"} {
		s.mustBeUnleased(app)
		for _, m := range s.sim.Machines(app) {
			if strings.HasPrefix(m.Metadata()["fly_process_group"], "fly_app_") {
				s.t.Errorf("machine %s (%s) of %s is left", m.ID, m.Name, app)
			}
		}
		for _, r := range s.sim.Releases(app) {
			if r.Status == "running" || r.Status == "pending" {
				s.t.Errorf("Fly release v%d of %s is left %s", r.Version, app, r.Status)
			}
		}
	}
}

// The release command runs once, whatever response is lost.
func TestReleaseCommand_RunsOnce(t *testing.T) {
	for name, faults := range map[string][]flysim.Fault{
		"no response is lost":                    nil,
		"responses to its create are lost":       {{Route: create, App: webApp, Times: 2, Status: 504, After: true}},
		"responses to its start are lost":        {{Route: "POST /v1/apps/{app}/machines/{id}/start", App: webApp, Times: 2, Status: 504, After: true}},
		"Fly is unavailable while it runs":       {{Route: get, App: webApp, Skip: 2, Times: 20, Status: 500}},
		"it is not listed after its create":      {{Route: create, App: webApp, Times: 1, Effect: flysim.NotYet, For: 3 * time.Second}},
		"the connection drops during its create": {{Route: create, App: webApp, Times: 1, Drop: true, After: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{}, repo{deploy: releaseCommandLines, only: "web"})
				s.sim.Latency.Command = 20 * time.Second
				for _, f := range faults {
					s.sim.Inject(f)
				}
				rep := s.run()
				if rep.Outcome != release.Promoted {
					t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
				}
				if made, started := s.countCommands(webApp); made != 1 || started > 2 {
					t.Errorf("%d machines were made for the release command, started %d times", made, started)
				}
				commands := rep.EnvironmentStatus("production").Commands
				if len(commands) != 1 || commands[0].ExitCode != 0 || commands[0].Command != "migrate up" || commands[0].Took < release.Duration(19*time.Second) {
					t.Errorf("the report says of the release command: %+v", commands)
				}
				s.mustRun("production", "v2")
				s.mustBeClean()
			})
		})
	}
}

// A release command that fails or does not end changes no machine, and does not
// continue in the background.
func TestReleaseCommand_Fails(t *testing.T) {
	for name, tc := range map[string]struct {
		fault flysim.Fault
		abort bool
		cause string
	}{
		"exit code 3":               {flysim.Fault{Effect: flysim.Crashes, Exit: 3}, false, "release command failed (exit code 3)"},
		"no end within its timeout": {flysim.Fault{}, false, "release command did not end within 2m0s, and was stopped"},
		"aborted":                   {flysim.Fault{}, true, "aborted"},
		"its machine is refused":    {flysim.Fault{Status: 422}, false, "422"},
		"no room at first":          {flysim.Fault{Effect: flysim.NoCapacity}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{}, repo{deploy: releaseCommandLines, only: "web"})
				takes := time.Hour
				s.sim.Behave = func(app string, _ json.RawMessage) (b flysim.Behaviour) {
					if app == webApp {
						b.RunsFor = takes
					}
					return b
				}
				was := s.configs("production")
				f := tc.fault
				f.Route, f.App, f.Times = create, webApp, 1
				if f.Effect != "" || f.Status != 0 {
					s.sim.Inject(f)
				}
				if f.Effect == flysim.NoCapacity {
					takes = time.Second // there is room again at the next attempt
				}
				if tc.abort {
					s.onPhase(release.RollingOut, "production", func() { s.env.RegisterDelayedCallback(s.env.CancelWorkflow, 30*time.Second) })
				}
				rep := s.run()
				s.mustBeClean()
				if tc.cause == "" {
					if rep.Outcome != release.Promoted {
						t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
					}
					return
				}
				if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, tc.cause) {
					t.Fatalf("%s: %+v, want %q", rep.Outcome, rep.Cause, tc.cause)
				}
				if !maps.Equal(s.configs("production"), was) {
					t.Error("machines are not as they were")
				}
				if tc.cause != "422" && !strings.Contains(strings.Join(rep.Notes, "\n"), "are not undone") {
					t.Errorf("no note has that the command ran: %q", rep.Notes)
				}
			})
		})
	}
}

// A restored machine that does not become healthy is held. A retry starts it again.
func TestHeld_RetryStartsUnhealthyMachine(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		s.sim.Inject(flysim.Fault{Route: update, App: webApp, Times: 1, Effect: flysim.NeverPasses})
		databaseIsDown := true
		s.sim.Behave = func(app string, config json.RawMessage) flysim.Behaviour {
			return flysim.Behaviour{NeverHealthy: databaseIsDown && app == webApp && strings.Contains(string(config), digestOf("web", "v1"))}
		}
		s.resolveWhenHeldAfter(release.ChoiceRetry, func() { databaseIsDown = false })
		if rep := s.run(); rep.Outcome != release.RolledBack || !strings.Contains(strings.Join(rep.Notes, "\n"), "retry by dora") {
			t.Fatalf("%s: %+v %q", rep.Outcome, rep.Cause, rep.Notes)
		}
		s.mustRun("production", "v1")
		s.mustBeClean()
	})
}

// After a release command with irreversible migrations a failure is held. For every
// choice the command runs only once.
func TestHeld_IrreversibleMigrations(t *testing.T) {
	for choice, want := range map[release.Choice]release.Outcome{
		release.ChoiceRetry: release.Promoted, release.ChoiceRollback: release.RolledBack, release.ChoiceKeep: release.Kept,
	} {
		t.Run(string(choice), func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{}, repo{deploy: releaseCommandLines, only: "web", env: `migrations = "irreversible"`})
				s.sim.Inject(flysim.Fault{Route: update, App: webApp, Times: 1, Effect: flysim.NeverPasses})
				s.resolveWhenHeldAfter(choice, func() { s.heal(webApp) })
				rep := s.run()
				if rep.Outcome != want {
					t.Fatalf("%s: %+v, want %s", rep.Outcome, rep.Cause, want)
				}
				if made, _ := s.countCommands(webApp); made != 1 {
					t.Errorf("the release command ran %d times", made)
				}
				if !strings.Contains(strings.Join(rep.Notes, "\n"), "irreversible") {
					t.Errorf("no note has why the rollout was held: %q", rep.Notes)
				}
				s.mustBeClean()
			})
		})
	}
}

// A retry of a held rollout takes lost leases again. An aborted rollout cannot be
// retried.
func TestHeld_LeasesLost(t *testing.T) {
	for name, abort := range map[string]bool{"leases cleared": false, "aborted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{}, repo{deploy: releaseCommandLines, only: "web", env: `migrations = "irreversible"`})
				s.onPhase(release.Baking, "production", func() {
					if abort {
						s.env.CancelWorkflow()
						return
					}
					go func() {
						m := s.sim.Machines(webApp)[0]
						lease, err := s.act.Fly.ReadLease(context.Background(), webApp, m.ID)
						if err != nil || s.act.Fly.ReleaseLease(context.Background(), webApp, m.ID, lease.Nonce) != nil {
							t.Error("the lease was not cleared", err)
						}
					}()
				})
				choice, want := release.ChoiceRetry, release.Promoted
				if abort {
					choice, want = release.ChoiceRollback, release.RolledBack
				}
				var choices []release.Choice
				answered := 0
				s.resolveWhenHeldAfter(choice, func() {
					answered = len(s.sim.Requests())
					var st release.Status
					if v, err := s.env.QueryWorkflowByID(release.RolloutID("shop", "production"), release.StatusQuery); err == nil && v.Get(&st) == nil {
						choices = st.Held.Choices
					}
				})
				rep := s.run()
				if rep.Outcome != want || slices.Contains(choices, release.ChoiceRetry) == abort {
					t.Errorf("%s: %+v; the choices were %v; %q", rep.Outcome, rep.Cause, choices, rep.Notes)
				}
				taken := slices.ContainsFunc(s.sim.Requests()[answered:], func(r flysim.Request) bool {
					return r.App == webApp && r.Route == "POST /v1/apps/{app}/machines/{id}/lease" && r.Status == 201
				})
				if !abort && !taken {
					t.Error("the rollout continued without a lease")
				}
				s.mustBeClean()
			})
		})
	}
}

// The canary bakes before the other machines change, and is rolled back if it fails.
func TestCanary_FailsWhileBaking(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{strategy: "canary", env: `canary = "2m"`}, repo{strategy: "canary", env: `canary = "2m"`})
		was := s.configs("production")
		before := s.changes(update)
		s.sim.Inject(flysim.Fault{Route: update, App: webApp, Times: 1, Effect: flysim.TurnsCritical, For: time.Minute})
		rep := s.run()
		if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, "while baking") {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		touched := 0
		for machine, n := range s.changes(update) {
			if strings.HasPrefix(machine, webApp) && n > before[machine] {
				touched++
			}
		}
		if touched != 1 {
			t.Errorf("%d machines of web were changed, want only the canary", touched)
		}
		if !maps.Equal(s.configs("production"), was) {
			t.Error("the canary is not as it was")
		}
		s.mustBeClean()
	})
}

// A deployment by another client is a conflict that names the client. A rollback
// overwrites its changes only if the operator chooses so.
func TestLeases_FlyctlDeploysMeanwhile(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		s.onPhase(release.Baking, "production", func() { go s.deployByHand(webApp) })
		s.resolveWhenHeld(release.ChoiceRollback)
		rep := s.run()
		if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, "flyctl") {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v1")
		s.mustBeClean()
	})
}

// If another client holds a lease, the rollout waits before its first change and
// continues when the lease ends.
func TestLeases_WaitsForHolder(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		m := s.sim.Machines(webApp)[0]
		if _, err := s.act.Fly.TakeLease(t.Context(), webApp, m.ID, "a person's", 5*time.Minute); err != nil {
			t.Fatal(err)
		}
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v2")
		s.mustBeClean()
	})
}

// The status of a Fly release is how the rollout ended, and machines have its ID.
func TestFlyReleases_Status(t *testing.T) {
	for name, tc := range map[string]struct {
		fault flysim.Fault
		abort bool
		want  string
	}{
		"promoted":    {want: "complete"},
		"rolled back": {fault: flysim.Fault{Route: update, App: webApp, Times: 1, Effect: flysim.NeverPasses}, want: "failed"},
		"aborted":     {abort: true, want: "interrupted"},
		"lost answer": {fault: flysim.Fault{Route: "POST /api/v1/releases", Times: 2, Status: 503, After: true}, want: "complete"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{}, repo{})
				if tc.fault.Route != "" {
					s.sim.Inject(tc.fault)
				}
				if tc.abort {
					s.onPhase(release.Baking, "production", s.env.CancelWorkflow)
				}
				s.run()
				all := s.sim.Releases(webApp)
				if len(all) != 2 {
					t.Fatalf("%d Fly releases are on record, want one for each release: %+v", len(all), all)
				}
				last := all[len(all)-1]
				if last.Status != tc.want || !strings.Contains(last.ImageRef, digestOf("web", "v2")) {
					t.Errorf("the Fly release is %+v, want %s of v2", last, tc.want)
				}
				if tc.want == "complete" {
					for _, m := range s.sim.Machines(webApp) {
						if meta := m.Metadata(); meta["fly_release_id"] != last.ID || meta["fly_release_version"] != fmt.Sprint(last.Version) || meta["fly_flyctl_version"] == "" {
							t.Errorf("machine %s says it is of %v, want %s", m.ID, meta, last.ID)
						}
					}
				}
				s.mustBeClean()
			})
		})
	}
}

// If a Fly release cannot be created, the rollout changes nothing and closes the Fly
// releases of the other apps.
func TestFlyReleases_CreateFails(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		was := s.configs("production")
		s.sim.Inject(flysim.Fault{Route: "POST /api/v1/releases", App: webApp, Delay: 2 * time.Second, Status: 500})
		if rep := s.run(); rep.Outcome != release.Stopped || !maps.Equal(s.configs("production"), was) {
			t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if all := s.sim.Releases(apiApp); len(all) != 2 || all[1].Status != "failed" {
			t.Errorf("the Fly releases of api are %+v, want the second failed", all)
		}
		s.mustBeClean()
	})
}

// A release succeeds with a token that may not create Fly releases.
func TestFlyReleases_CreateForbidden(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		s.sim.Inject(flysim.Fault{Route: "POST /api/v1/releases", Status: 403})
		rep := s.run()
		if rep.Outcome != release.Promoted || !strings.Contains(strings.Join(rep.Notes, "\n"), "no Fly release") {
			t.Fatalf("%s: %+v %q", rep.Outcome, rep.Cause, rep.Notes)
		}
	})
}

// mountsSection has a section [[mounts]].
const mountsSection = `
[[mounts]]
source = "data"
destination = "/data"
initial_size = "3GB"
`

// A first rollout creates its volumes and addresses once. A rollback of it releases the
// addresses.
func TestVolumes_FirstRollout(t *testing.T) {
	for name, fails := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newScenario(t, repo{toml: mountsSection})
				s.sim.Inject(flysim.LostAnswer("POST /v1/apps/{app}/volumes", 1))
				s.sim.Inject(flysim.LostAnswer("POST /v1/apps/{app}/ip_assignments", 1))
				if fails {
					s.sim.Inject(flysim.Fault{Route: create, App: webApp, Times: 1, Effect: flysim.NeverPasses})
				}
				s.onApproval(s.approve)
				rep := s.run()
				volumes, err := s.act.Fly.Volumes(t.Context(), webApp)
				if err != nil || len(volumes) != 1 || volumes[0].SizeGB != 3 {
					t.Fatalf("%s %+v: the volumes are %+v (%v), want one of 3 GB", rep.Outcome, rep.Cause, volumes, err)
				}
				ips, err := s.act.Fly.Addresses(t.Context(), webApp)
				if err != nil {
					t.Fatal(err)
				}
				machines := s.sim.Machines(webApp)
				if fails {
					if rep.Outcome != release.RolledBack || len(machines) != 0 || len(ips) != 0 || !strings.Contains(strings.Join(rep.Notes, "\n"), volumes[0].ID) {
						t.Errorf("%s: %d machines, addresses %v, notes %q", rep.Outcome, len(machines), ips, rep.Notes)
					}
					return
				}
				if rep.Outcome != release.Promoted || len(machines) != 1 || len(ips) != 2 || !strings.Contains(string(machines[0].Config), volumes[0].ID) {
					t.Errorf("%s %+v: machines %+v, addresses %+v", rep.Outcome, rep.Cause, machines, ips)
				}
			})
		})
	}
}

// A machine that gains a volume is replaced. The old machine stays, stopped, until the
// new one is verified.
func TestVolumes_AddedToMachines(t *testing.T) {
	for name, fails := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{}, repo{toml: mountsSection, only: "web"})
				was := s.configs("production")
				if fails {
					s.sim.Inject(flysim.Fault{Route: create, App: webApp, Times: 1, Skip: 1, Effect: flysim.TurnsCritical, For: 2 * time.Minute})
				}
				rep := s.run()
				if fails {
					if rep.Outcome != release.RolledBack || !maps.Equal(s.configs("production"), was) {
						t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
					}
					s.mustRun("production", "v1")
					return
				}
				if rep.Outcome != release.Promoted {
					t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
				}
				s.mustRun("production", "v2")
				for id := range s.configs("production") {
					if _, old := was[id]; old && strings.Contains(was[id], "shop-production-web") {
						t.Errorf("machine %s was to be replaced", id)
					}
				}
			})
		})
	}
}

// A machine on an unreachable host is replaced, and destroyed last.
func TestRollout_UnreachableHost(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		away := s.sim.Machines(webApp)[0]
		s.sim.Lose(webApp, away.ID)
		rep := s.run()
		if rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v2")
		if slices.ContainsFunc(s.sim.Machines(webApp), func(m fly.Machine) bool { return m.ID == away.ID }) {
			t.Error("the machine on the unreachable host still exists")
		}
	})
}

// If the host of a machine has no room for the new version, another machine replaces it
// once that plan is approved. A machine with a volume cannot be replaced.
func TestRollout_HostHasNoRoom(t *testing.T) {
	for name, tc := range map[string]struct {
		toml  string
		fault flysim.Fault
	}{
		"no room":                {"", flysim.Fault{Effect: flysim.NoCapacity}},
		"no room, as 422":        {"", flysim.Fault{Status: 422, Body: `{"error":"could not reserve resource for machine: insufficient memory available"}`}},
		"no room, as 400":        {"", flysim.Fault{Status: 400, Body: `{"error":"Could not reserve resource for machine"}`}},
		"no room, by the word":   {"", flysim.Fault{Status: 412, Code: "insufficient_capacity"}},
		"the host takes nothing": {"", flysim.Fault{Effect: flysim.HostClosed}},
		"with a volume":          {mountsSection, flysim.Fault{Effect: flysim.NoCapacity}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newScenario(t, repo{toml: tc.toml, only: "web"})
				s.installVersion("v1")
				s.req.Revision = revision("v2")
				full, was := s.sim.Machines(webApp)[0], s.configs("production")
				tc.fault.Route, tc.fault.App, tc.fault.Machine = update, webApp, full.ID
				s.sim.Inject(tc.fault)
				asked := 0
				s.onApproval(func() { asked++; s.approve() })
				rep := s.run()
				s.mustBeClean()
				if tc.toml != "" {
					if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, "its volume is on that host") || !maps.Equal(s.configs("production"), was) {
						t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
					}
					return
				}
				if rep.Outcome != release.Promoted || asked != 2 {
					t.Fatalf("%s %+v, asked %d times; want a second approval, of a plan with another machine", rep.Outcome, rep.Cause, asked)
				}
				s.mustRun("production", "v2")
				if slices.ContainsFunc(s.sim.Machines(webApp), func(m fly.Machine) bool { return m.ID == full.ID }) {
					t.Error("the replaced machine still exists")
				}
				if !strings.Contains(strings.Join(rep.Notes, "\n"), "could not be given room") {
					t.Errorf("no note has the reason: %q", rep.Notes)
				}
			})
		})
	}
}

// A rollback of bluegreen uncordons blue before it cordons green, both within seconds,
// and then destroys green.
func TestBlueGreen_RollbackWithinSeconds(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{strategy: "bluegreen"}, repo{strategy: "bluegreen"})
		s.sim.Inject(flysim.Fault{Route: create, App: webApp, Times: 1, Effect: flysim.TurnsCritical, For: 90 * time.Second})
		from := len(s.sim.Requests())
		if rep := s.run(); rep.Outcome != release.RolledBack {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		last := map[string]time.Time{} // of each kind
		for _, r := range s.sim.Requests()[from:] {
			if r.App == webApp && r.Status < 300 {
				last[r.Route] = r.At
			}
		}
		const machine = "/v1/apps/{app}/machines/{id}"
		uncordoned, cordoned, destroyed := last["POST "+machine+"/uncordon"], last["POST "+machine+"/cordon"], last["DELETE "+machine]
		if took := cordoned.Sub(uncordoned); took < 0 || took > 3*time.Second {
			t.Errorf("green was cordoned %s after blue was uncordoned", took)
		}
		if after := destroyed.Sub(cordoned); after < 5*time.Second {
			t.Errorf("green was destroyed %s after it was cordoned: the proxy may still route to it", after)
		}
		s.mustRun("production", "v1")
		s.mustBeClean()
	})
}

// Machines keep their state on the new version: stopped and suspended machines stay
// stopped, transitional ones are waited for, cordoned ones stay cordoned. Machines that
// no deployment created are not changed.
func TestRollout_MachineStates(t *testing.T) {
	for _, strategy := range []string{"rolling", "canary", "immediate"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{strategy: strategy}, repo{strategy: strategy})
				ctx, like := t.Context(), s.sim.Machines(webApp)[0]
				more := map[string]string{"0000000000aa01": "stopped", "0000000000aa02": "suspended", "0000000000aa03": "started", "0000000000aa04": "started"}
				for id, state := range more {
					s.sim.Put(webApp, fly.Machine{ID: id, Name: "n" + id, Region: "ams", State: state, Config: like.Config, ImageRef: like.ImageRef})
				}
				s.sim.Put(webApp, fly.Machine{ID: "0000000000ff01", Name: "a-persons", Config: json.RawMessage(`{"image":"registry.fly.io/mine:1"}`)})
				foreign := s.sim.Machines(webApp)
				if err := s.act.Fly.Cordon(ctx, webApp, "0000000000aa04", ""); err != nil {
					t.Fatal(err)
				}
				s.onApproval(func() {
					s.approve()
					if err := s.act.Fly.Stop(ctx, webApp, "0000000000aa03", ""); err != nil { // it is stopping when the rollout starts
						t.Error(err)
					}
				})
				if rep := s.run(); rep.Outcome != release.Promoted {
					t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
				}
				want := maps.Clone(more)
				want["0000000000aa02"], want["0000000000aa03"] = "stopped", "stopped"
				for _, m := range s.sim.Machines(webApp) {
					if m.ID == "0000000000ff01" {
						if i := slices.IndexFunc(foreign, func(x fly.Machine) bool { return x.ID == m.ID }); m.InstanceID != foreign[i].InstanceID {
							t.Error("a machine that no deployment created was changed")
						}
						continue
					}
					if m.ImageRef.Digest != digestOf("web", "v2") {
						t.Errorf("machine %s runs %s", m.ID, m.ImageRef.Digest)
					}
					if state, ok := want[m.ID]; ok && m.State != state {
						t.Errorf("machine %s is %s, want %s", m.ID, m.State, state)
					}
					if cordoned := m.ID == "0000000000aa04"; m.Cordoned != cordoned {
						t.Errorf("machine %s: cordoned is %t", m.ID, m.Cordoned)
					}
				}
				s.mustBeClean()
			})
		})
	}
}

// The plan shows a release command that a killed flyctl left running. The release does
// not change it.
func TestReleaseCommand_ForeignIsShown(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		s.sim.Put(webApp, fly.Machine{ID: "0000000000cc01", Name: "left", Config: json.RawMessage(
			`{"image":"registry.fly.io/web:1","metadata":{"fly_platform_version":"v2","fly_process_group":"fly_app_release_command"}}`)})
		var shown []string
		s.onApproval(func() {
			for _, t := range s.status().Plan.Targets {
				shown = append(shown, t.Notes...)
			}
			s.approve()
		})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if !strings.Contains(strings.Join(shown, "\n"), "machine 0000000000cc01 (fly_app_release_command) is started") {
			t.Errorf("the plan has the notes %q", shown)
		}
		if !slices.ContainsFunc(s.sim.Machines(webApp), func(m fly.Machine) bool { return m.ID == "0000000000cc01" && m.State == "started" }) {
			t.Error("the foreign machine was changed")
		}
	})
}

// The plan shows staged secrets, and the machines get them. A rollback notes that the
// old values are not restored.
func TestSecrets_Staged(t *testing.T) {
	for name, fails := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newScenario(t, repo{})
				s.installVersion("v1")
				time.Sleep(time.Minute)
				s.sim.SetSecrets(webApp, map[string]string{"API_KEY": "new"})
				s.req.Revision = revision("v2")
				if fails {
					s.sim.Inject(flysim.Fault{Route: update, App: webApp, Times: 1, Effect: flysim.NeverPasses})
				}
				var shown []string
				s.onApproval(func() {
					for _, t := range s.status().Plan.Targets {
						shown = append(shown, t.Notes...)
					}
					s.approve()
				})
				rep := s.run()
				if !strings.Contains(strings.Join(shown, "\n"), "staged secrets: API_KEY") {
					t.Errorf("the plan has the notes %q", shown)
				}
				if fails && (rep.Outcome != release.RolledBack || !strings.Contains(strings.Join(rep.Notes, "\n"), "API_KEY; Fly can't bring old ones back")) {
					t.Errorf("%s, %q", rep.Outcome, rep.Notes)
				}
				if !fails && rep.Outcome != release.Promoted {
					t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
				}
			})
		})
	}
}

// Machines of new groups are created and verified before those of removed groups are
// destroyed. A failure restores the old groups.
func TestGroups_AddedAndRemoved(t *testing.T) {
	before := repo{toml: "\n[processes]\napp = \"serve\"\nworker = \"work\"\n", service: `processes = ["app"]`}
	after := repo{toml: "\n[processes]\napp = \"serve\"\ncron = \"cron\"\n", service: `processes = ["app"]`}
	for name, fails := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, before, after)
				was := s.configs("production")
				if fails {
					s.sim.Inject(flysim.Fault{Route: update, App: webApp, Times: 1, Effect: flysim.TurnsCritical, For: 2 * time.Minute})
				}
				rep := s.run()
				if fails {
					if rep.Outcome != release.RolledBack || !maps.Equal(s.configs("production"), was) {
						t.Errorf("%s: %+v\n%v\n%v", rep.Outcome, rep.Cause, was, s.configs("production"))
					}
					return
				}
				groups := map[string]int{}
				for _, m := range s.sim.Machines(webApp) {
					groups[m.Metadata()["fly_process_group"]]++
				}
				if want := map[string]int{"app": 2, "cron": 2}; rep.Outcome != release.Promoted || !maps.Equal(groups, want) {
					t.Errorf("%s %+v: groups %v, want %v", rep.Outcome, rep.Cause, groups, want)
				}
				s.mustBeClean()
			})
		})
	}
}

// A failed machine check rolls back the release. No machine of a check is left.
func TestMachineChecks(t *testing.T) {
	checked := repo{only: "web", service: "[[http_service.machine_checks]]\nimage = \"curlimages/curl\"\ncommand = [\"curl\", \"http://[$FLY_TEST_MACHINE_IP]:8080\"]\n"}
	for name, code := range map[string]int{"good": 0, "bad": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{}, checked)
				if code != 0 {
					s.sim.Inject(flysim.Fault{Route: create, App: webApp, Times: 1, Effect: flysim.Crashes, Exit: code})
				}
				rep := s.run()
				s.mustBeClean()
				if code == 0 && rep.Outcome != release.Promoted {
					t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
				}
				if code != 0 && (rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, "machine check 1 failed (exit code 7)")) {
					t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
				}
			})
		})
	}
}

// heal makes the machines of an app pass their checks.
func (s *scenario) heal(app string) {
	for _, m := range s.sim.Machines(app) {
		s.sim.Heal(app, m.ID)
	}
}

// deployByHand releases the leases of an app and changes its machines, as another
// client.
func (s *scenario) deployByHand(app string) {
	ctx, client := context.Background(), s.act.Fly
	for _, m := range s.sim.Machines(app) {
		lease, err := client.ReadLease(ctx, app, m.ID)
		if err == nil {
			err = client.ReleaseLease(ctx, app, m.ID, lease.Nonce)
		}
		config := strings.Replace(string(m.Config), `"env":{`, `"env":{"PERSON":"was here",`, 1)
		config = strings.Replace(config, `"fly_flyctl_version":"`, `"fly_flyctl_version":"0.3.`, 1)
		if err == nil {
			_, err = client.Update(ctx, app, m.ID, fly.Update{Config: json.RawMessage(config)})
		}
		if err != nil {
			s.t.Error(err)
		}
	}
}
