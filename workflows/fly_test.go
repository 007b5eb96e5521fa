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

// What a team that used flyctl would miss, or would be glad to be rid of. The
// app that it happens to is web in production; api, which it needs, is there to
// be rolled back with it.
const (
	theAPI = "shop-production-api"
	theWeb = "shop-production-web"
)

const migrates = `release_command = "migrate up"
release_command_timeout = "2m"
`

// second releases v2 over v1, with fly.toml changed in between.
func second(t *testing.T, before, after repo) *scenario {
	t.Helper()
	s := newScenario(t, before)
	s.runs("v1")
	s.act.Git = after
	s.req.Revision = revision("v2")
	s.whenAsked(s.approve)
	return s
}

// commands are the machines of an app that ever ran a release command.
func (s *scenario) commands(app string) (made, started int) {
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

// mustBeClean fails if the release left something on Fly: leases, machines that
// ran commands, Fly releases that are still running.
func (s *scenario) mustBeClean() {
	s.t.Helper()
	for _, app := range []string{theAPI, theWeb, "shop-staging-api", "shop-staging-web"} {
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

// The release command runs once, whatever is lost on the way.
func TestReleaseCommandRunsOnce(t *testing.T) {
	for name, faults := range map[string][]flysim.Fault{
		"nothing is lost":                  nil,
		"the answers to its creation are":  {{Route: create, App: theWeb, Times: 2, Status: 504, After: true}},
		"the answers to its start are":     {{Route: "POST /v1/apps/{app}/machines/{id}/start", App: theWeb, Times: 2, Status: 504, After: true}},
		"Fly is away while it runs":        {{Route: get, App: theWeb, Skip: 2, Times: 20, Status: 500}},
		"it is not found just after":       {{Route: create, App: theWeb, Times: 1, Effect: flysim.NotYet, For: 3 * time.Second}},
		"the connection drops at creation": {{Route: create, App: theWeb, Times: 1, Drop: true, After: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, repo{}, repo{deploy: migrates, only: "web"})
				s.sim.Latency.Command = 20 * time.Second
				for _, f := range faults {
					s.sim.Inject(f)
				}
				rep := s.run()
				if rep.Outcome != release.Promoted {
					t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
				}
				if made, started := s.commands(theWeb); made != 1 || started > 2 {
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

// A release command that fails, or does not end, changes no machine, and does
// not go on behind anybody's back.
func TestReleaseCommandFails(t *testing.T) {
	for name, tc := range map[string]struct {
		fault flysim.Fault
		abort bool
		cause string
	}{
		"it exits with 3":   {flysim.Fault{Effect: flysim.Crashes, Exit: 3}, false, "release command failed (exit code 3)"},
		"it never ends":     {flysim.Fault{}, false, "release command did not end within 2m0s, and was stopped"},
		"it is aborted":     {flysim.Fault{}, true, "aborted"},
		"it can't be had":   {flysim.Fault{Status: 422}, false, "422"},
		"it is out of room": {flysim.Fault{Effect: flysim.NoCapacity}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, repo{}, repo{deploy: migrates, only: "web"})
				takes := time.Hour
				s.sim.Behave = func(app string, _ json.RawMessage) (b flysim.Behaviour) {
					if app == theWeb {
						b.RunsFor = takes
					}
					return b
				}
				was := s.configs("production")
				f := tc.fault
				f.Route, f.App, f.Times = create, theWeb, 1
				if f.Effect != "" || f.Status != 0 {
					s.sim.Inject(f)
				}
				if f.Effect == flysim.NoCapacity {
					takes = time.Second // there is room again at the next attempt
				}
				if tc.abort {
					s.when(release.RollingOut, "production", func() { s.env.RegisterDelayedCallback(s.env.CancelWorkflow, 30*time.Second) })
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
					t.Errorf("nobody is told that the command ran: %q", rep.Notes)
				}
			})
		})
	}
}

// A machine that comes back and does not get well is held; a retry starts it
// anew.
func TestRetryStartsWhatCameBackUnwell(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		s.sim.Inject(flysim.Fault{Route: update, App: theWeb, Times: 1, Effect: flysim.NeverPasses})
		databaseIsDown := true
		s.sim.Behave = func(app string, config json.RawMessage) flysim.Behaviour {
			return flysim.Behaviour{NeverHealthy: databaseIsDown && app == theWeb && strings.Contains(string(config), digestOf("web", "v1"))}
		}
		s.answerWhenHeldAfter(release.Retry, func() { databaseIsDown = false })
		if rep := s.run(); rep.Outcome != release.RolledBack || !strings.Contains(strings.Join(rep.Notes, "\n"), "retry by dora") {
			t.Fatalf("%s: %+v %q", rep.Outcome, rep.Cause, rep.Notes)
		}
		s.mustRun("production", "v1")
		s.mustBeClean()
	})
}

// Once a release command has run, and its migrations are irreversible, a failure
// asks a person. Whatever they say, the command does not run a second time.
func TestIrreversibleIsHeld(t *testing.T) {
	for choice, want := range map[release.Choice]release.Outcome{
		release.Retry: release.Promoted, release.GoBack: release.RolledBack, release.Keep: release.Kept,
	} {
		t.Run(string(choice), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, repo{}, repo{deploy: migrates, only: "web", env: `migrations = "irreversible"`})
				s.sim.Inject(flysim.Fault{Route: update, App: theWeb, Times: 1, Effect: flysim.NeverPasses})
				s.answerWhenHeldAfter(choice, func() { s.heal(theWeb) })
				rep := s.run()
				if rep.Outcome != want {
					t.Fatalf("%s: %+v, want %s", rep.Outcome, rep.Cause, want)
				}
				if made, _ := s.commands(theWeb); made != 1 {
					t.Errorf("the release command ran %d times", made)
				}
				if !strings.Contains(strings.Join(rep.Notes, "\n"), "irreversible") {
					t.Errorf("nobody is told why it was held: %q", rep.Notes)
				}
				s.mustBeClean()
			})
		})
	}
}

// Where a failure is held, a person's retry takes again leases that were lost; an
// aborted rollout can't be tried again.
func TestHeldAfterLeasesAreLost(t *testing.T) {
	for name, abort := range map[string]bool{"leases cleared": false, "aborted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, repo{}, repo{deploy: migrates, only: "web", env: `migrations = "irreversible"`})
				s.when(release.Baking, "production", func() {
					if abort {
						s.env.CancelWorkflow()
						return
					}
					go func() {
						m := s.sim.Machines(theWeb)[0]
						lease, err := s.act.Fly.ReadLease(context.Background(), theWeb, m.ID)
						if err != nil || s.act.Fly.ReleaseLease(context.Background(), theWeb, m.ID, lease.Nonce) != nil {
							t.Error("the lease was not cleared", err)
						}
					}()
				})
				choice, want := release.Retry, release.Promoted
				if abort {
					choice, want = release.GoBack, release.RolledBack
				}
				var choices []release.Choice
				answered := 0
				s.answerWhenHeldAfter(choice, func() {
					answered = len(s.sim.Requests())
					var st release.Status
					if v, err := s.env.QueryWorkflowByID(release.RolloutID("shop", "production"), release.StatusQuery); err == nil && v.Get(&st) == nil {
						choices = st.Held.Choices
					}
				})
				rep := s.run()
				if rep.Outcome != want || slices.Contains(choices, release.Retry) == abort {
					t.Errorf("%s: %+v; the choices were %v; %q", rep.Outcome, rep.Cause, choices, rep.Notes)
				}
				taken := slices.ContainsFunc(s.sim.Requests()[answered:], func(r flysim.Request) bool {
					return r.App == theWeb && r.Route == "POST /v1/apps/{app}/machines/{id}/lease" && r.Status == 201
				})
				if !abort && !taken {
					t.Error("it went on without a lease")
				}
				s.mustBeClean()
			})
		})
	}
}

// A canary bakes before the others follow, and is taken back when it sours.
func TestCanaryBakes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{strategy: "canary", env: `canary = "2m"`}, repo{strategy: "canary", env: `canary = "2m"`})
		was := s.configs("production")
		before := s.changes(update)
		s.sim.Inject(flysim.Fault{Route: update, App: theWeb, Times: 1, Effect: flysim.TurnsCritical, For: time.Minute})
		rep := s.run()
		if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, "while baking") {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		touched := 0
		for machine, n := range s.changes(update) {
			if strings.HasPrefix(machine, theWeb) && n > before[machine] {
				touched++
			}
		}
		if touched != 1 {
			t.Errorf("%d machines of web were touched, want the canary alone", touched)
		}
		if !maps.Equal(s.configs("production"), was) {
			t.Error("the canary is not as it was")
		}
		s.mustBeClean()
	})
}

// A lease in somebody else's hands is a conflict, and named as such. What they
// changed is not overwritten unless a person says so.
func TestFlyctlInBetween(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		s.when(release.Baking, "production", func() { go s.deployByHand(theWeb) })
		s.answerWhenHeld(release.GoBack)
		rep := s.run()
		if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, "flyctl") {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v1")
		s.mustBeClean()
	})
}

// While somebody else holds a machine a rollout waits before its first change,
// and goes on when they let go.
func TestWaitsForALease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		m := s.sim.Machines(theWeb)[0]
		if _, err := s.act.Fly.TakeLease(t.Context(), theWeb, m.ID, "a person's", 5*time.Minute); err != nil {
			t.Fatal(err)
		}
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v2")
		s.mustBeClean()
	})
}

// The Fly releases tell how it ended, and the machines by which they were made.
func TestFlyReleases(t *testing.T) {
	for name, tc := range map[string]struct {
		fault flysim.Fault
		abort bool
		want  string
	}{
		"promoted":    {want: "complete"},
		"rolled back": {fault: flysim.Fault{Route: update, App: theWeb, Times: 1, Effect: flysim.NeverPasses}, want: "failed"},
		"aborted":     {abort: true, want: "interrupted"},
		"lost answer": {fault: flysim.Fault{Route: "POST /api/v1/releases", Times: 2, Status: 503, After: true}, want: "complete"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, repo{}, repo{})
				if tc.fault.Route != "" {
					s.sim.Inject(tc.fault)
				}
				if tc.abort {
					s.when(release.Baking, "production", s.env.CancelWorkflow)
				}
				s.run()
				all := s.sim.Releases(theWeb)
				if len(all) != 2 {
					t.Fatalf("%d Fly releases are on record, want one for each release: %+v", len(all), all)
				}
				last := all[len(all)-1]
				if last.Status != tc.want || !strings.Contains(last.ImageRef, digestOf("web", "v2")) {
					t.Errorf("the Fly release is %+v, want %s of v2", last, tc.want)
				}
				if tc.want == "complete" {
					for _, m := range s.sim.Machines(theWeb) {
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

// A rollout that Fly lets not begin changes nothing, and leaves no Fly release
// that says it runs, of any app.
func TestFlyReleaseThatCannotBeMade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		was := s.configs("production")
		s.sim.Inject(flysim.Fault{Route: "POST /api/v1/releases", App: theWeb, Delay: 2 * time.Second, Status: 500})
		if rep := s.run(); rep.Outcome != release.Stopped || !maps.Equal(s.configs("production"), was) {
			t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if all := s.sim.Releases(theAPI); len(all) != 2 || all[1].Status != "failed" {
			t.Errorf("the Fly releases of api are %+v, want the second failed", all)
		}
		s.mustBeClean()
	})
}

// A token that may not write Fly releases can release all the same.
func TestWithoutFlyReleases(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		s.sim.Inject(flysim.Fault{Route: "POST /api/v1/releases", Status: 403})
		rep := s.run()
		if rep.Outcome != release.Promoted || !strings.Contains(strings.Join(rep.Notes, "\n"), "no Fly release") {
			t.Fatalf("%s: %+v %q", rep.Outcome, rep.Cause, rep.Notes)
		}
	})
}

const mounted = `
[[mounts]]
source = "data"
destination = "/data"
initial_size = "3GB"
`

// A first rollout makes the volumes and asks for the addresses that it needs,
// once, and leaves no address when it is rolled back.
func TestFirstRolloutOfVolumes(t *testing.T) {
	for name, fails := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := newScenario(t, repo{toml: mounted})
				s.sim.Inject(flysim.LostAnswer("POST /v1/apps/{app}/volumes", 1))
				s.sim.Inject(flysim.LostAnswer("POST /v1/apps/{app}/ip_assignments", 1))
				if fails {
					s.sim.Inject(flysim.Fault{Route: create, App: theWeb, Times: 1, Effect: flysim.NeverPasses})
				}
				s.whenAsked(s.approve)
				rep := s.run()
				volumes, err := s.act.Fly.Volumes(t.Context(), theWeb)
				if err != nil || len(volumes) != 1 || volumes[0].SizeGB != 3 {
					t.Fatalf("%s %+v: the volumes are %+v (%v), want one of 3 GB", rep.Outcome, rep.Cause, volumes, err)
				}
				ips, err := s.act.Fly.Addresses(t.Context(), theWeb)
				if err != nil {
					t.Fatal(err)
				}
				machines := s.sim.Machines(theWeb)
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

// A machine that gains a volume is replaced: the old one stays, stopped, until
// the new is good.
func TestMachinesThatGainAVolume(t *testing.T) {
	for name, fails := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, repo{}, repo{toml: mounted, only: "web"})
				was := s.configs("production")
				if fails {
					s.sim.Inject(flysim.Fault{Route: create, App: theWeb, Times: 1, Skip: 1, Effect: flysim.TurnsCritical, For: 2 * time.Minute})
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

// A machine on a host that can't be reached is replaced, and destroyed last.
func TestUnreachableHostIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		away := s.sim.Machines(theWeb)[0]
		s.sim.Lose(theWeb, away.ID)
		rep := s.run()
		if rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v2")
		if slices.ContainsFunc(s.sim.Machines(theWeb), func(m fly.Machine) bool { return m.ID == away.ID }) {
			t.Error("the machine that nobody can reach is still there")
		}
	})
}

// A machine whose host has no room for its new version is replaced by another
// elsewhere, once a person has agreed to that plan. One with a volume can't be.
func TestNoRoomForTheNewVersion(t *testing.T) {
	for name, tc := range map[string]struct {
		toml  string
		fault flysim.Fault
	}{
		"no room":                {"", flysim.Fault{Effect: flysim.NoCapacity}},
		"no room, as 422":        {"", flysim.Fault{Status: 422, Body: `{"error":"could not reserve resource for machine: insufficient memory available"}`}},
		"no room, as 400":        {"", flysim.Fault{Status: 400, Body: `{"error":"Could not reserve resource for machine"}`}},
		"no room, by the word":   {"", flysim.Fault{Status: 412, Code: "insufficient_capacity"}},
		"the host takes nothing": {"", flysim.Fault{Effect: flysim.HostClosed}},
		"with a volume":          {mounted, flysim.Fault{Effect: flysim.NoCapacity}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := newScenario(t, repo{toml: tc.toml, only: "web"})
				s.runs("v1")
				s.req.Revision = revision("v2")
				full, was := s.sim.Machines(theWeb)[0], s.configs("production")
				tc.fault.Route, tc.fault.App, tc.fault.Machine = update, theWeb, full.ID
				s.sim.Inject(tc.fault)
				asked := 0
				s.whenAsked(func() { asked++; s.approve() })
				rep := s.run()
				s.mustBeClean()
				if tc.toml != "" {
					if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, "its volume is on that host") || !maps.Equal(s.configs("production"), was) {
						t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
					}
					return
				}
				if rep.Outcome != release.Promoted || asked != 2 {
					t.Fatalf("%s %+v, asked %d times; want it asked again with another machine in its place", rep.Outcome, rep.Cause, asked)
				}
				s.mustRun("production", "v2")
				if slices.ContainsFunc(s.sim.Machines(theWeb), func(m fly.Machine) bool { return m.ID == full.ID }) {
					t.Error("the machine that had to make room is still there")
				}
				if !strings.Contains(strings.Join(rep.Notes, "\n"), "could not be given room") {
					t.Errorf("nobody is told why: %q", rep.Notes)
				}
			})
		})
	}
}

// The way back from a bluegreen gives the traffic to blue before it takes it from
// green, both within seconds, and only then removes green.
func TestBlueGreenGoesBackWithinSeconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{strategy: "bluegreen"}, repo{strategy: "bluegreen"})
		s.sim.Inject(flysim.Fault{Route: create, App: theWeb, Times: 1, Effect: flysim.TurnsCritical, For: 90 * time.Second})
		from := len(s.sim.Requests())
		if rep := s.run(); rep.Outcome != release.RolledBack {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		last := map[string]time.Time{} // of each kind
		for _, r := range s.sim.Requests()[from:] {
			if r.App == theWeb && r.Status < 300 {
				last[r.Route] = r.At
			}
		}
		const machine = "/v1/apps/{app}/machines/{id}"
		shown, hidden, gone := last["POST "+machine+"/uncordon"], last["POST "+machine+"/cordon"], last["DELETE "+machine]
		if took := hidden.Sub(shown); took < 0 || took > 3*time.Second {
			t.Errorf("green lost its traffic %s after blue had got it", took)
		}
		if after := gone.Sub(hidden); after < 5*time.Second {
			t.Errorf("green was removed %s after it lost its traffic: the proxy does not know yet", after)
		}
		s.mustRun("production", "v1")
		s.mustBeClean()
	})
}

// Machines in whatever state are what they were, on the new version: stopped and
// suspended ones stay down, those caught in between are waited for, cordoned ones
// stay cordoned, and what no deploy made is left alone.
func TestMachinesInAnyState(t *testing.T) {
	for _, strategy := range []string{"rolling", "canary", "immediate"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, repo{strategy: strategy}, repo{strategy: strategy})
				ctx, like := t.Context(), s.sim.Machines(theWeb)[0]
				more := map[string]string{"0000000000aa01": "stopped", "0000000000aa02": "suspended", "0000000000aa03": "started", "0000000000aa04": "started"}
				for id, state := range more {
					s.sim.Put(theWeb, fly.Machine{ID: id, Name: "n" + id, Region: "ams", State: state, Config: like.Config, ImageRef: like.ImageRef})
				}
				s.sim.Put(theWeb, fly.Machine{ID: "0000000000ff01", Name: "a-persons", Config: json.RawMessage(`{"image":"registry.fly.io/mine:1"}`)})
				foreign := s.sim.Machines(theWeb)
				if err := s.act.Fly.Cordon(ctx, theWeb, "0000000000aa04", ""); err != nil {
					t.Fatal(err)
				}
				s.whenAsked(func() {
					s.approve()
					if err := s.act.Fly.Stop(ctx, theWeb, "0000000000aa03", ""); err != nil { // it is stopping when the rollout comes
						t.Error(err)
					}
				})
				if rep := s.run(); rep.Outcome != release.Promoted {
					t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
				}
				want := maps.Clone(more)
				want["0000000000aa02"], want["0000000000aa03"] = "stopped", "stopped"
				for _, m := range s.sim.Machines(theWeb) {
					if m.ID == "0000000000ff01" {
						if i := slices.IndexFunc(foreign, func(x fly.Machine) bool { return x.ID == m.ID }); m.InstanceID != foreign[i].InstanceID {
							t.Error("a machine that no deploy made was changed")
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

// A release command that a killed flyctl left running is shown before anybody says
// yes, and left alone.
func TestSomebodysReleaseCommandIsShown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		s.req.Revision = revision("v2")
		s.sim.Put(theWeb, fly.Machine{ID: "0000000000cc01", Name: "left", Config: json.RawMessage(
			`{"image":"registry.fly.io/web:1","metadata":{"fly_platform_version":"v2","fly_process_group":"fly_app_release_command"}}`)})
		var shown []string
		s.whenAsked(func() {
			for _, t := range s.status().Plan.Targets {
				shown = append(shown, t.Notes...)
			}
			s.approve()
		})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if !strings.Contains(strings.Join(shown, "\n"), "machine 0000000000cc01 (fly_app_release_command) is started") {
			t.Errorf("the plan says %q", shown)
		}
		if !slices.ContainsFunc(s.sim.Machines(theWeb), func(m fly.Machine) bool { return m.ID == "0000000000cc01" && m.State == "started" }) {
			t.Error("it was not left alone")
		}
	})
}

// Secrets that were staged are shown before anybody says yes, reach the machines,
// and a rollback says that their old values don't come back.
func TestStagedSecrets(t *testing.T) {
	for name, fails := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := newScenario(t, repo{})
				s.runs("v1")
				time.Sleep(time.Minute)
				s.sim.SetSecrets(theWeb, map[string]string{"API_KEY": "new"})
				s.req.Revision = revision("v2")
				if fails {
					s.sim.Inject(flysim.Fault{Route: update, App: theWeb, Times: 1, Effect: flysim.NeverPasses})
				}
				var shown []string
				s.whenAsked(func() {
					for _, t := range s.status().Plan.Targets {
						shown = append(shown, t.Notes...)
					}
					s.approve()
				})
				rep := s.run()
				if !strings.Contains(strings.Join(shown, "\n"), "staged secrets: API_KEY") {
					t.Errorf("the plan says %q", shown)
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

// Groups come and go: the new are there and good before the old are destroyed,
// and a failure brings the old back as they were.
func TestGroupsComeAndGo(t *testing.T) {
	before := repo{toml: "\n[processes]\napp = \"serve\"\nworker = \"work\"\n", service: `processes = ["app"]`}
	after := repo{toml: "\n[processes]\napp = \"serve\"\ncron = \"cron\"\n", service: `processes = ["app"]`}
	for name, fails := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, before, after)
				was := s.configs("production")
				if fails {
					s.sim.Inject(flysim.Fault{Route: update, App: theWeb, Times: 1, Effect: flysim.TurnsCritical, For: 2 * time.Minute})
				}
				rep := s.run()
				if fails {
					if rep.Outcome != release.RolledBack || !maps.Equal(s.configs("production"), was) {
						t.Errorf("%s: %+v\n%v\n%v", rep.Outcome, rep.Cause, was, s.configs("production"))
					}
					return
				}
				groups := map[string]int{}
				for _, m := range s.sim.Machines(theWeb) {
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

// A machine check that fails takes the release back; none leaves a machine.
func TestMachineChecks(t *testing.T) {
	checked := repo{only: "web", service: "[[http_service.machine_checks]]\nimage = \"curlimages/curl\"\ncommand = [\"curl\", \"http://[$FLY_TEST_MACHINE_IP]:8080\"]\n"}
	for name, code := range map[string]int{"good": 0, "bad": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, repo{}, checked)
				if code != 0 {
					s.sim.Inject(flysim.Fault{Route: create, App: theWeb, Times: 1, Effect: flysim.Crashes, Exit: code})
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

// heal is what somebody does about machines that never pass.
func (s *scenario) heal(app string) {
	for _, m := range s.sim.Machines(app) {
		s.sim.Heal(app, m.ID)
	}
}

// deployByHand clears the leases of an app and changes its machines, as a person
// does who is sure to know better.
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
