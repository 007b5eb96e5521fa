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
	autoStop       = "auto_stop_machines = \"stop\"\nmin_machines_running = 0\n"
	workerGroup    = "\n[processes]\napp = \"serve\"\nworker = \"work\"\n"
	appProcessOnly = `processes = ["app"]`
)

// setBehaviour sets the behaviour of machines of web in production that run v2 and whose
// config satisfies is.
func (s *scenario) setBehaviour(b flysim.Behaviour, is func(config string) bool) {
	s.sim.Behave = func(app string, config json.RawMessage) flysim.Behaviour {
		if app == webApp && strings.Contains(string(config), digestOf("web", "v2")) && is(string(config)) {
			return b
		}
		return flysim.Behaviour{}
	}
}

func always(string) bool { return true }

func inGroup(name string) func(string) bool {
	return func(config string) bool { return strings.Contains(config, `"fly_process_group":"`+name+`"`) }
}

// stopAll stops every machine of an app as Fly's proxy does.
func (s *scenario) stopAll(app string) {
	for _, m := range s.sim.Machines(app) {
		s.sim.Idle(app, m.ID)
	}
	time.Sleep(5 * time.Second) // virtual time, until they have stopped
}

// machineStates returns the distinct states of the machines of an app.
func (s *scenario) machineStates(app string) (states []string) {
	for _, m := range s.sim.Machines(app) {
		if !slices.Contains(states, m.State) {
			states = append(states, m.State)
		}
	}
	return states
}

// verdictOf returns the last verdict of a target in production.
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

// A version that cannot start is not promoted while all machines are stopped: one
// machine of each serving group is started for verification and stopped again.
func TestVerify_StoppedMachines(t *testing.T) {
	for _, strategy := range []string{"rolling", "canary", "bluegreen", "immediate"} {
		for name, exits := range map[string]bool{"version starts": false, "version exits at start": true} {
			t.Run(strategy+" "+name, func(t *testing.T) {
				t.Parallel()
				inVirtualTime(t, func(t *testing.T) {
					r := repo{strategy: strategy, service: autoStop}
					s := newUpdate(t, r, r)
					s.stopAll(webApp)
					was := s.configs("production")
					if exits {
						s.setBehaviour(flysim.Behaviour{CrashExit: pointer(7), Log: []string{"settings: DATABASE_URL is not set"}}, always)
					}
					rep := s.run()
					if states := s.machineStates(webApp); !slices.Equal(states, []string{"stopped"}) {
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
						t.Errorf("the log of the process is missing: %+v", f)
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

// A machine that was started for verification is also stopped if the release is aborted
// meanwhile.
func TestVerify_AbortedWithStartedMachine(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := repo{service: autoStop}
		s := newUpdate(t, r, r)
		s.stopAll(webApp)
		var abort func()
		abort = func() {
			if slices.Contains(s.machineStates(webApp), "started") {
				s.env.CancelWorkflow()
				return
			}
			s.env.RegisterDelayedCallback(abort, 200*time.Millisecond)
		}
		s.env.RegisterDelayedCallback(abort, time.Second)
		rep := s.run()
		if states := s.machineStates(webApp); rep.Outcome != release.RolledBack || !slices.Equal(states, []string{"stopped"}) {
			t.Errorf("%s: %+v; all were stopped, and they are %v", rep.Outcome, rep.Cause, states)
		}
		s.mustBeClean()
	})
}

// A machine that Fly's proxy started is not stopped after the verification.
func TestVerify_ProxyStartsMachine(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := repo{service: autoStop}
		s := newUpdate(t, r, r)
		s.stopAll(webApp)
		s.sim.Inject(flysim.Fault{Route: update, App: webApp, Skip: 1, Times: 1, After: true, Delay: 4 * time.Second})
		var wake func()
		wake = func() { // once both are updated
			n := 0
			for _, m := range s.sim.Machines(webApp) {
				if m.ImageRef.Digest == digestOf("web", "v2") && m.State == "stopped" {
					n++
				}
			}
			if n < 2 {
				s.env.RegisterDelayedCallback(wake, 100*time.Millisecond)
				return
			}
			for _, m := range s.sim.Machines(webApp) {
				s.sim.Wake(webApp, m.ID)
			}
		}
		s.env.RegisterDelayedCallback(wake, time.Second)
		rep := s.run()
		if states := s.machineStates(webApp); rep.Outcome != release.Promoted || !slices.Equal(states, []string{"started"}) {
			t.Errorf("%s: %+v; the proxy started them, and they are %v", rep.Outcome, rep.Cause, states)
		}
	})
}

// Machines that were stopped by hand, and that the proxy does not start, stay stopped.
// The verdict is unchecked.
func TestVerify_MachinesStoppedByHand(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := repo{service: "auto_start_machines = false\n"}
		s := newUpdate(t, r, r)
		for _, m := range s.sim.Machines(webApp) {
			if err := s.act.Fly.Stop(t.Context(), webApp, m.ID, ""); err != nil {
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

// A crash loop fails the rollout, with and without checks, and the rollback destroys no
// machine.
func TestCrashLoop_RolledBack(t *testing.T) {
	loop := flysim.Behaviour{CrashExit: pointer(3), RunsFor: 4 * time.Second, Log: []string{"no queue"}}
	late := flysim.Behaviour{CrashExit: pointer(3), RunsFor: 45 * time.Second, Log: []string{"no queue"}}
	for name, test := range map[string]struct {
		repo  repo
		b     flysim.Behaviour
		group string
		cause string
	}{
		"worker":                     {repo{toml: workerGroup, service: appProcessOnly}, loop, "worker", "while verifying"},
		"worker, bluegreen":          {repo{strategy: "bluegreen", toml: workerGroup, service: appProcessOnly}, loop, "worker", "exit code 3"},
		"worker, canary":             {repo{strategy: "canary", toml: workerGroup, service: appProcessOnly, env: "canary = \"1m\""}, loop, "worker", "while baking"},
		"worker, in the bake":        {repo{toml: workerGroup, service: appProcessOnly}, late, "worker", "while baking"},
		"checks pass between":        {repo{}, late, "app", "while baking"},
		"nothing checks it, in bake": {repo{bare: true}, late, "app", "while baking"},
		"exits with 0, and again":    {repo{toml: workerGroup + "[[restart]]\npolicy = \"always\"\nprocesses = [\"worker\"]\n", service: appProcessOnly}, flysim.Behaviour{CrashExit: pointer(0), RunsFor: 4 * time.Second, Log: []string{"no queue"}}, "worker", "exit code 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, test.repo, test.repo)
				was := s.configs("production")
				s.setBehaviour(test.b, inGroup(test.group))
				rep := s.run()
				if rep.Outcome != release.RolledBack || !strings.Contains(rep.Cause.Message, test.cause) || !strings.Contains(rep.Cause.Message, "exit code") {
					t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
				}
				if f := rep.Cause.Failures; len(f) == 0 || !slices.Contains(f[0].Log, "no queue") {
					t.Errorf("the log of the process is missing: %+v", f)
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

// Requested stops, and exits of the previous version, do not fail the rollout.
func TestCrashLoop_RequestedStops(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		for _, m := range s.sim.Machines(webApp) { // v1 ends, and Fly starts it again
			if err := killProcess(s, webApp, m.ID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		s.onPhase(release.Baking, "production", func() { // a person restarts one
			m := s.sim.Machines(webApp)[0]
			req, err := http.NewRequest(http.MethodPost, "http://fly/v1/apps/"+webApp+"/machines/"+m.ID+"/restart", nil)
			if err == nil {
				var held map[string]string
				for id, lease := range s.sim.Leases(webApp) {
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

// killProcess kills the process of a machine.
func killProcess(s *scenario, app, id string) error {
	resp, err := (&http.Client{Transport: s.sim.Transport()}).Post("http://fly/v1/apps/"+app+"/machines/"+id+"/signal", "application/json", strings.NewReader(`{"signal":9}`))
	if err == nil && resp.StatusCode >= 300 {
		err = errors.New(resp.Status)
	}
	return err
}

// A target without checks is promoted with the verdict unchecked, and plan and report
// warn.
func TestUnchecked_Promoted(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{bare: true}, repo{bare: true})
		warned := false
		s.onPhase(release.AwaitingApproval, "production", func() {
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

// With unchecked = "refuse" a target without checks stops the release.
func TestUnchecked_Refused(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := repo{bare: true, app: `unchecked = "refuse"`}
		s := newScenario(t, r)
		rep := s.run()
		if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, `unchecked = "refuse"`) {
			t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
		}
	})
}

// The verdict notes a process that does not listen on the port to which Fly's proxy
// sends traffic.
func TestUnchecked_NoListener(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{bare: true}, repo{bare: true})
		s.setBehaviour(flysim.Behaviour{NoListener: true}, always)
		rep := s.run()
		v := verdictOf(t, rep, "web")
		if rep.Outcome != release.Promoted || v.Health != release.Unchecked || !strings.Contains(fmt.Sprint(v.Notes), "not listening on internal_port 8080") {
			t.Errorf("%s: %+v, verdict %+v", rep.Outcome, rep.Cause, v)
		}
	})
}

// A failed read of the process list is not a listener: it is repeated, and a note has
// the error if it keeps failing.
func TestUnchecked_NoListenerFlyUnavailable(t *testing.T) {
	for name, fault := range map[string]flysim.Fault{"for a moment": {Times: 3}, "all the time": {}} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{bare: true}, repo{bare: true})
				s.setBehaviour(flysim.Behaviour{NoListener: true}, always)
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

// An app without a public address is not probed: only its checks count.
func TestProbe_PrivateApp(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := repo{app: `addresses = "none"`}
		s := newScenario(t, r)
		s.act.Edge = &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			if strings.Contains(req.URL.Host, "-web.") {
				return nil, fmt.Errorf("lookup %s: no such host", req.URL.Host)
			}
			return edge{s.sim}.RoundTrip(req)
		})}
		s.onApproval(s.approve)
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

// A probe that failed before the first change does not fail the rollback.
func TestProbe_FailedBefore(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		was := s.configs("production")
		s.act.Edge = &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			if strings.Contains(req.URL.Host, webApp) {
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

// A machine that may end is healthy after exit code 0, and unhealthy after another exit
// code.
func TestVerify_FinishedWork(t *testing.T) {
	r := repo{toml: "\n[processes]\napp = \"serve\"\nonce = \"once\"\n[[restart]]\npolicy = \"never\"\nprocesses = [\"once\"]\n", service: appProcessOnly}
	for name, code := range map[string]int{"good": 0, "bad": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newScenario(t, r)
				s.sim.Behave = func(_ string, config json.RawMessage) flysim.Behaviour {
					if inGroup("once")(string(config)) {
						return flysim.Behaviour{CrashExit: &code, RunsFor: 100 * time.Millisecond}
					}
					return flysim.Behaviour{}
				}
				s.onApproval(s.approve)
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

// An update does not run finished work again. The last verdict, after the bake, notes
// that the group did not run.
func TestVerify_FinishedWorkUpdated(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := repo{toml: "\n[processes]\napp = \"serve\"\nonce = \"once\"\n[[restart]]\npolicy = \"never\"\nprocesses = [\"once\"]\n", service: appProcessOnly}
		done := 0
		s := newScenario(t, r)
		s.sim.Behave = func(_ string, config json.RawMessage) flysim.Behaviour {
			if inGroup("once")(string(config)) {
				return flysim.Behaviour{CrashExit: &done, RunsFor: 100 * time.Millisecond}
			}
			return flysim.Behaviour{}
		}
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		s.onApproval(s.approve)
		rep := s.run()
		v := verdictOf(t, rep, "web")
		if rep.Outcome != release.Promoted || v.Health != release.Healthy || !strings.Contains(fmt.Sprint(v.Notes), "group once: nothing runs: its machines are stopped") {
			t.Errorf("%s: %+v, verdict %+v", rep.Outcome, rep.Cause, v)
		}
	})
}

// Plan and report have the warnings of a rollout.
func TestWarnings_PlanAndReport(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := repo{toml: workerGroup, service: appProcessOnly}
		s := newUpdate(t, r, r)
		for _, m := range s.sim.Machines(webApp) {
			if m.Metadata()["fly_process_group"] == "worker" {
				if err := s.act.Fly.Destroy(t.Context(), webApp, m.ID, ""); err != nil {
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
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.req.Apps = []string{"web"}
		s.onApproval(s.approve)
		rep := s.run()
		w := rep.EnvironmentStatus("staging").Warnings
		if rep.Outcome != release.Promoted || len(w) != 1 || w[0] != "web: api, which it needs, has no machines in staging" {
			t.Errorf("%s: %+v; warned of %q", rep.Outcome, rep.Cause, w)
		}
	})
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{deploy: "", service: "", toml: "\n[checks.slow]\ntype = \"tcp\"\ngrace_period = \"2m\"\n"})
		s.onApproval(s.approve)
		rep := s.run()
		w := rep.EnvironmentStatus("staging").Warnings
		if len(w) != 2 || !strings.Contains(w[0], "wait_timeout of [deploy] is short: 1m0s is shorter than grace_period 2m0s of checks.slow") {
			t.Errorf("%s: %+v; warned of %q", rep.Outcome, rep.Cause, w)
		}
	})
}
