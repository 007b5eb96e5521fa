package workflows_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

const (
	sleeps  = "auto_stop_machines = \"stop\"\nmin_machines_running = 0\n"
	workers = "\n[processes]\napp = \"serve\"\nworker = \"work\"\n"
	ofApp   = `processes = ["app"]`
)

// behave has the machines of web in production behave so that run v2, and of
// which is says so.
func (s *scenario) behave(b flysim.Behaviour, is func(config string) bool) {
	s.sim.Behave = func(app string, config json.RawMessage) flysim.Behaviour {
		if app == theWeb && strings.Contains(string(config), digestOf("web", "v2")) && is(string(config)) {
			return b
		}
		return flysim.Behaviour{}
	}
}

func always(string) bool { return true }

func inGroup(name string) func(string) bool {
	return func(config string) bool { return strings.Contains(config, `"fly_process_group":"`+name+`"`) }
}

// stopAll has Fly's proxy stop every machine of an app.
func (s *scenario) stopAll(app string) {
	for _, m := range s.sim.Machines(app) {
		s.sim.Idle(app, m.ID)
	}
	time.Sleep(5 * time.Second) // the bubble's: until they have stopped
}

// states are the states of an app's machines, each once.
func (s *scenario) states(app string) (states []string) {
	for _, m := range s.sim.Machines(app) {
		if !slices.Contains(states, m.State) {
			states = append(states, m.State)
		}
	}
	return states
}

// verdictOf is the last verdict of a target in production.
func verdictOf(t *testing.T, rep release.Report, app string) release.Verdict {
	t.Helper()
	for _, v := range rep.EnvironmentStatus("production").Verdicts {
		if v.Target.App == app {
			return v
		}
	}
	t.Fatalf("there is no verdict of %s: %+v", app, rep.EnvironmentStatus("production").Verdicts)
	return release.Verdict{}
}

func pointer[T any](v T) *T { return &v }

// A revision that can't start is not promoted because everything was asleep: one
// machine of each group that serves is started for the look, and stopped again.
func TestAsleep(t *testing.T) {
	for _, strategy := range []string{"rolling", "canary", "bluegreen", "immediate"} {
		for name, exits := range map[string]bool{"starts": false, "exits at every start": true} {
			t.Run(strategy+" "+name, func(t *testing.T) {
				t.Parallel()
				bubble(t, func(t *testing.T) {
					r := repo{strategy: strategy, service: sleeps}
					s := second(t, r, r)
					s.stopAll(theWeb)
					was := s.configs("production")
					if exits {
						s.behave(flysim.Behaviour{CrashExit: pointer(7), Log: []string{"settings: DATABASE_URL is not set"}}, always)
					}
					rep := s.run()
					if states := s.states(theWeb); !slices.Equal(states, []string{"stopped"}) {
						t.Errorf("all were stopped, and they are %v", states)
					}
					s.mustBeClean()
					if !exits {
						if v := verdictOf(t, rep, "web"); rep.Outcome != release.Promoted || v.Health != release.Healthy {
							t.Errorf("%s %+v, verdict %+v", rep.Outcome, rep.Cause, v)
						}
						return
					}
					if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, "exit code 7") {
						t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
					}
					if f := rep.Cause.Failures; len(f) != 1 || !slices.Contains(f[0].Log, "settings: DATABASE_URL is not set") {
						t.Errorf("what the process said is missing: %+v", f)
					}
					now := s.configs("production")
					for id, config := range was {
						if now[id] != config {
							t.Errorf("machine %s is not as it was", id)
						}
					}
				})
			})
		}
	}
}

// What was started for a look is stopped again also when the look is aborted.
func TestAsleep_AbortedWhileLooking(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := repo{service: sleeps}
		s := second(t, r, r)
		s.stopAll(theWeb)
		var abort func()
		abort = func() {
			if slices.Contains(s.states(theWeb), "started") {
				s.env.CancelWorkflow()
				return
			}
			s.env.RegisterDelayedCallback(abort, 200*time.Millisecond)
		}
		s.env.RegisterDelayedCallback(abort, time.Second)
		rep := s.run()
		if states := s.states(theWeb); rep.Outcome != release.RolledBack || !slices.Equal(states, []string{"stopped"}) {
			t.Errorf("%s: %+v; all were stopped, and they are %v", rep.Outcome, rep.Cause, states)
		}
		s.mustBeClean()
	})
}

// A machine that Fly's proxy has started by itself is not stopped after the look.
func TestAsleep_ProxyStartsIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := repo{service: sleeps}
		s := second(t, r, r)
		s.stopAll(theWeb)
		s.sim.Inject(flysim.Fault{Route: update, App: theWeb, Skip: 1, Times: 1, After: true, Delay: 4 * time.Second})
		var wake func()
		wake = func() { // once both are updated
			n := 0
			for _, m := range s.sim.Machines(theWeb) {
				if m.ImageRef.Digest == digestOf("web", "v2") && m.State == "stopped" {
					n++
				}
			}
			if n < 2 {
				s.env.RegisterDelayedCallback(wake, 100*time.Millisecond)
				return
			}
			for _, m := range s.sim.Machines(theWeb) {
				s.sim.Wake(theWeb, m.ID)
			}
		}
		s.env.RegisterDelayedCallback(wake, time.Second)
		rep := s.run()
		if states := s.states(theWeb); rep.Outcome != release.Promoted || !slices.Equal(states, []string{"started"}) {
			t.Errorf("%s: %+v; they serve, and they are %v", rep.Outcome, rep.Cause, states)
		}
	})
}

// A machine that people stopped, and that the proxy does not start, is left
// alone: what never ran is called unchecked.
func TestAsleep_StoppedByHand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := repo{service: "auto_start_machines = false\n"}
		s := second(t, r, r)
		for _, m := range s.sim.Machines(theWeb) {
			if err := s.act.Fly.Stop(t.Context(), theWeb, m.ID, ""); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		rep := s.run()
		v := verdictOf(t, rep, "web")
		if rep.Outcome != release.Promoted || v.Health != release.Unchecked || !strings.Contains(fmt.Sprint(v.Notes), "no machine ran") {
			t.Errorf("%s: %+v, verdict %+v", rep.Outcome, rep.Cause, v)
		}
	})
}

// A process that ends again and again is found, checked or not, and nothing is
// destroyed because of it.
func TestCrashLoop(t *testing.T) {
	loop := flysim.Behaviour{CrashExit: pointer(3), RunsFor: 4 * time.Second, Log: []string{"no queue"}}
	late := flysim.Behaviour{CrashExit: pointer(3), RunsFor: 45 * time.Second, Log: []string{"no queue"}}
	for name, test := range map[string]struct {
		repo  repo
		b     flysim.Behaviour
		group string
		cause string
	}{
		"worker":                     {repo{toml: workers, service: ofApp}, loop, "worker", "while verifying"},
		"worker, bluegreen":          {repo{strategy: "bluegreen", toml: workers, service: ofApp}, loop, "worker", "exit code 3"},
		"worker, canary":             {repo{strategy: "canary", toml: workers, service: ofApp, env: "canary = \"1m\""}, loop, "worker", "while baking"},
		"worker, in the bake":        {repo{toml: workers, service: ofApp}, late, "worker", "while baking"},
		"checks pass between":        {repo{}, late, "app", "while baking"},
		"nothing checks it, in bake": {repo{bare: true}, late, "app", "while baking"},
		"exits with 0, and again":    {repo{toml: workers + "[[restart]]\npolicy = \"always\"\nprocesses = [\"worker\"]\n", service: ofApp}, flysim.Behaviour{CrashExit: pointer(0), RunsFor: 4 * time.Second, Log: []string{"no queue"}}, "worker", "exit code 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, test.repo, test.repo)
				was := s.configs("production")
				s.behave(test.b, inGroup(test.group))
				rep := s.run()
				if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, test.cause) || !strings.Contains(rep.Cause.Message, "exit code") {
					t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
				}
				if f := rep.Cause.Failures; len(f) == 0 || !slices.Contains(f[0].Log, "no queue") {
					t.Errorf("what the process said is missing: %+v", f)
				}
				now := s.configs("production")
				for id, config := range was {
					if now[id] != config {
						t.Errorf("machine %s is not as it was, or gone", id)
					}
				}
			})
		})
	}
}

// Stops that somebody asked for, and exits of the version before, are nobody's
// fault.
func TestCrashLoop_WhatDoesNotCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		for _, m := range s.sim.Machines(theWeb) { // v1 ends, and Fly starts it again
			if err := signal(s, theWeb, m.ID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		s.when(release.Baking, "production", func() { // a person restarts one
			m := s.sim.Machines(theWeb)[0]
			req, err := http.NewRequest(http.MethodPost, "http://fly/v1/apps/"+theWeb+"/machines/"+m.ID+"/restart", nil)
			if err == nil {
				var held map[string]string
				for id, lease := range s.sim.Leases(theWeb) {
					if id == m.ID {
						held = map[string]string{"nonce": lease.Nonce}
					}
				}
				req.Header.Set("fly-machine-lease-nonce", held["nonce"])
				_, err = (&http.Client{Transport: s.sim.Transport()}).Do(req)
			}
			if err != nil {
				t.Error(err)
			}
		})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v2")
	})
}

// signal has a machine's process end by itself.
func signal(s *scenario, app, id string) error {
	resp, err := (&http.Client{Transport: s.sim.Transport()}).Post("http://fly/v1/apps/"+app+"/machines/"+id+"/signal", "application/json", strings.NewReader(`{"signal":9}`))
	if err == nil && resp.StatusCode >= 300 {
		err = errors.New(resp.Status)
	}
	return err
}

// What nothing checks is promoted with that word beside it, and not otherwise.
func TestUnchecked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{bare: true}, repo{bare: true})
		warned := false
		s.when(release.Awaiting, "production", func() {
			for _, target := range s.status().Plan.Targets {
				if target.Target.App == "web" {
					warned = target.Unchecked && target.Probe == nil && strings.Contains(fmt.Sprint(target.Warnings), "nothing checks it")
				}
			}
		})
		rep := s.run()
		v := verdictOf(t, rep, "web")
		if rep.Outcome != release.Promoted || v.Health != release.Unchecked || v.Probed != "" || !slices.Contains(v.Notes, "nothing checks it") {
			t.Errorf("%s: %+v, verdict %+v", rep.Outcome, rep.Cause, v)
		}
		if api := verdictOf(t, rep, "api"); api.Health != release.Healthy || api.Probed == "" {
			t.Errorf("api is checked and probed, and its verdict is %+v", api)
		}
		if !warned {
			t.Error("the plan does not say that nothing checks web")
		}
		if w := rep.EnvironmentStatus("production").Warnings; len(w) != 1 || !strings.HasPrefix(w[0], "web: nothing checks it") {
			t.Errorf("the report warns of %q", w)
		}
	})
}

func TestUnchecked_Refused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := repo{bare: true, app: `unchecked = "refuse"`}
		s := newScenario(t, r)
		rep := s.run()
		if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, `unchecked = "refuse"`) {
			t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
		}
	})
}

// A process that does not listen where Fly's proxy sends traffic to is not well,
// and the verdict says so.
func TestUnchecked_NobodyListens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{bare: true}, repo{bare: true})
		s.behave(flysim.Behaviour{NoListener: true}, always)
		rep := s.run()
		v := verdictOf(t, rep, "web")
		if rep.Outcome != release.Promoted || v.Health != release.Unchecked || !strings.Contains(fmt.Sprint(v.Notes), "not listening on internal_port 8080") {
			t.Errorf("%s: %+v, verdict %+v", rep.Outcome, rep.Cause, v)
		}
	})
}

// A failed read of the process list is not a listener: the port is read again, and a
// port that stays unreadable is noted.
func TestUnchecked_NobodyListensAndFlyIsAway(t *testing.T) {
	for name, fault := range map[string]flysim.Fault{"for a moment": {Times: 3}, "all the time": {}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := second(t, repo{bare: true}, repo{bare: true})
				s.behave(flysim.Behaviour{NoListener: true}, always)
				fault.Route, fault.Status, fault.Skip = "GET /v1/apps/{app}/machines/{id}/ps", 503, 1
				s.sim.Inject(fault)
				rep := s.run()
				v := verdictOf(t, rep, "web")
				want := "not listening on internal_port 8080"
				if fault.Times == 0 {
					want = "listens on internal_port 8080 could not be read: "
				}
				if rep.Outcome != release.Promoted || v.Health != release.Unchecked || !strings.Contains(fmt.Sprint(v.Notes), want) {
					t.Errorf("%s: %+v, verdict %+v", rep.Outcome, rep.Cause, v)
				}
			})
		})
	}
}

// An app without a public address has no name that resolves: its checks are what
// counts.
func TestPrivateAppIsNotProbed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := repo{app: `addresses = "none"`}
		s := newScenario(t, r)
		s.act.Edge = &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			if strings.Contains(req.URL.Host, "-web.") {
				return nil, fmt.Errorf("lookup %s: no such host", req.URL.Host)
			}
			return edge{s.sim}.RoundTrip(req)
		})}
		s.whenAsked(s.approve)
		rep := s.run()
		v := verdictOf(t, rep, "web")
		if rep.Outcome != release.Promoted || v.Health != release.Healthy || v.Probed != "" {
			t.Errorf("%s: %+v, verdict %+v", rep.Outcome, rep.Cause, v)
		}
		if took := rep.Ended.Sub(rep.Started); took > 10*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A probe that failed before the first change does not keep a rollback from
// being one.
func TestSickBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		was := s.configs("production")
		s.act.Edge = &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			if strings.Contains(req.URL.Host, theWeb) {
				return &http.Response{StatusCode: 500, Status: "500 Internal Server Error", Body: http.NoBody, Request: req}, nil
			}
			return edge{s.sim}.RoundTrip(req)
		})}
		rep := s.run()
		if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, "http_service.checks in infra/fly/web/production/fly.toml") {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if now := s.configs("production"); fmt.Sprint(now) != fmt.Sprint(was) {
			t.Error("production is not as it was")
		}
	})
}

// Work that ends with exit code 0, and may end, is done; another exit code is
// shown.
func TestWorkThatEnds(t *testing.T) {
	r := repo{toml: "\n[processes]\napp = \"serve\"\nonce = \"once\"\n[[restart]]\npolicy = \"never\"\nprocesses = [\"once\"]\n", service: ofApp}
	for name, code := range map[string]int{"good": 0, "bad": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := newScenario(t, r)
				s.sim.Behave = func(_ string, config json.RawMessage) flysim.Behaviour {
					if inGroup("once")(string(config)) {
						return flysim.Behaviour{CrashExit: &code, RunsFor: 100 * time.Millisecond}
					}
					return flysim.Behaviour{}
				}
				s.whenAsked(s.approve)
				rep := s.run()
				if code == 0 {
					if v := verdictOf(t, rep, "web"); rep.Outcome != release.Promoted || v.Health != release.Healthy || !strings.Contains(fmt.Sprint(v.Notes), "its work is done") {
						t.Errorf("%s: %+v, verdict %+v", rep.Outcome, rep.Cause, v)
					}
					return
				}
				if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, "exit code 4") {
					t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
				}
			})
		})
	}
}

// Work that is done is not done again by an update: that it has not run stands in the
// last verdict, too, which is the one after the bake.
func TestWorkThatEnds_Updated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := repo{toml: "\n[processes]\napp = \"serve\"\nonce = \"once\"\n[[restart]]\npolicy = \"never\"\nprocesses = [\"once\"]\n", service: ofApp}
		done := 0
		s := newScenario(t, r)
		s.sim.Behave = func(_ string, config json.RawMessage) flysim.Behaviour {
			if inGroup("once")(string(config)) {
				return flysim.Behaviour{CrashExit: &done, RunsFor: 100 * time.Millisecond}
			}
			return flysim.Behaviour{}
		}
		s.runs("v1")
		s.req.Revision = revision("v2")
		s.whenAsked(s.approve)
		rep := s.run()
		v := verdictOf(t, rep, "web")
		if rep.Outcome != release.Promoted || v.Health != release.Healthy || !strings.Contains(fmt.Sprint(v.Notes), "group once: nothing runs: its machines are stopped") {
			t.Errorf("%s: %+v, verdict %+v", rep.Outcome, rep.Cause, v)
		}
	})
}

// What a person should know of a rollout stands in plan and report.
func TestWarnings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := repo{toml: workers, service: ofApp}
		s := second(t, r, r)
		for _, m := range s.sim.Machines(theWeb) {
			if m.Metadata()["fly_process_group"] == "worker" {
				if err := s.act.Fly.Destroy(t.Context(), theWeb, m.ID, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		rep := s.run()
		w := rep.EnvironmentStatus("production").Warnings
		if rep.Outcome != release.Promoted || len(w) != 1 || !strings.HasPrefix(w[0], "web: group worker has no machines: 2 are made") {
			t.Errorf("%s: %+v; warned of %q", rep.Outcome, rep.Cause, w)
		}
	})
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.req.Apps = []string{"web"}
		s.whenAsked(s.approve)
		rep := s.run()
		w := rep.EnvironmentStatus("staging").Warnings
		if rep.Outcome != release.Promoted || len(w) != 1 || w[0] != "web: api, which it needs, has no machines in staging" {
			t.Errorf("%s: %+v; warned of %q", rep.Outcome, rep.Cause, w)
		}
	})
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{deploy: "", service: "", toml: "\n[checks.slow]\ntype = \"tcp\"\ngrace_period = \"2m\"\n"})
		s.whenAsked(s.approve)
		rep := s.run()
		w := rep.EnvironmentStatus("staging").Warnings
		if len(w) != 2 || !strings.Contains(w[0], "wait_timeout of [deploy] is short: 1m0s is shorter than grace_period 2m0s of checks.slow") {
			t.Errorf("%s: %+v; warned of %q", rep.Outcome, rep.Cause, w)
		}
	})
}
