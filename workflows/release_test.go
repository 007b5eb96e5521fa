package workflows_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// A first release creates the machines of both environments.
func TestRelease_First(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.onApproval(s.approve)
		rep := s.run()
		if rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("staging", "v1")
		s.mustRun("production", "v1")
	})
}

// While Fly is unavailable, requests back off. (Temporal's test environment does not
// retry after the limit of one attempt, so the outage is shorter than that.)
func TestRelease_BackoffWhileFlyUnavailable(t *testing.T) {
	const list = "GET /v1/apps/{app}/machines"
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.sim.Inject(flysim.Fault{Route: list, Status: http.StatusServiceUnavailable})
		asked := 0
		time.AfterFunc(4*time.Minute, func() { asked = s.sim.Counts()[list]; s.sim.ClearFaults() })
		s.onApproval(s.approve)
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if asked < 20 || asked > 80 { // two apps: every second at first, every 15 seconds at the end
			t.Errorf("it was asked %d times", asked)
		}
	})
}

// v1 runs everywhere, v2 is released, and a fault happens in production. Each case
// asserts the outcome and what production runs afterwards.
func TestRelease(t *testing.T) {
	const api, web = "shop-production-api", "shop-production-web"
	for name, tc := range map[string]struct {
		repo    repo
		faults  []flysim.Fault
		before  func(*scenario) // once v1 runs
		answer  func(*scenario) // at the gate; nil approves
		held    release.Choice  // resolution of the hold; "": a hold is a failure
		outcome release.Outcome
		cause   string // part of the cause
		staging string // version in staging at the end; "" is v2
		runs    string // version in production at the end
	}{
		"healthy": {
			outcome: release.Promoted, runs: "v2",
		},
		"healthy, one machine at a time": {
			repo: repo{maxDown: "1"}, outcome: release.Promoted, runs: "v2",
		},
		"healthy, canary": {
			repo: repo{strategy: "canary"}, outcome: release.Promoted, runs: "v2",
		},
		"healthy, immediate": {
			repo: repo{strategy: "immediate"}, outcome: release.Promoted, runs: "v2",
		},
		"healthy, bluegreen": {
			repo: repo{strategy: "bluegreen"}, outcome: release.Promoted, runs: "v2",
		},
		"bluegreen: green never passes its checks": {
			repo:    repo{strategy: "bluegreen"},
			faults:  []flysim.Fault{{Route: create, App: web, Times: 1, Effect: flysim.NeverPasses}},
			outcome: release.RolledBack, cause: "did not pass", runs: "v1",
		},
		"bluegreen: green fails while baking": {
			repo:    repo{strategy: "bluegreen"},
			faults:  []flysim.Fault{{Route: create, App: web, Times: 1, Effect: flysim.TurnsCritical, For: 90 * time.Second}},
			outcome: release.RolledBack, cause: "while baking", runs: "v1",
		},
		"Fly is unavailable for a moment": {
			faults:  []flysim.Fault{{App: api, Times: 5, Status: 503}},
			outcome: release.Promoted, runs: "v2",
		},
		"Fly is unavailable for minutes": {
			faults:  []flysim.Fault{{Route: get, App: api, Times: 20, Status: 500}, {Route: update, App: api, Times: 10, Status: 502}},
			outcome: release.Promoted, runs: "v2",
		},
		"the response to an update is lost": {
			faults:  []flysim.Fault{flysim.LostAnswer(update, 3)},
			outcome: release.Promoted, runs: "v2",
		},
		"the connection drops after an update": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 1, After: true, Drop: true}},
			outcome: release.Promoted, runs: "v2",
		},
		"another client releases a lease": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 1, Effect: flysim.LeaseLost}},
			outcome: release.RolledBack, cause: "lost its lease: another client released it", runs: "v1",
		},
		"another client takes a lease": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 1, Effect: flysim.LeaseStolen, For: 40 * time.Second}},
			outcome: release.RolledBack, cause: "is a flyctl deploy under way?", runs: "v1",
		},
		"Fly asks to slow down": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 2, Status: 429}},
			outcome: release.Promoted, runs: "v2",
		},
		"Fly refuses the config": {
			faults:  []flysim.Fault{{Route: update, App: web, Times: 1, Status: 422}},
			outcome: release.RolledBack, cause: "422", runs: "v1",
		},
		"a check never passes": {
			faults:  []flysim.Fault{{Route: update, App: web, Times: 1, Effect: flysim.NeverPasses}},
			outcome: release.RolledBack, cause: "check servicecheck-00-http-8080 did not pass within 1m0s", runs: "v1",
		},
		"a machine crashes at start": {
			faults:  []flysim.Fault{{Route: update, App: web, Times: 1, Effect: flysim.Crashes, Exit: 3}},
			outcome: release.RolledBack, cause: "exit code 3", runs: "v1",
		},
		"a machine never starts": {
			faults:  []flysim.Fault{{Route: update, App: web, Times: 1, Effect: flysim.NeverStarts}},
			outcome: release.RolledBack, cause: "not started", runs: "v1",
		},
		"Fly restores the old version and reports started": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 1, Effect: flysim.Reverts}},
			outcome: release.RolledBack, cause: "put another version in its place", runs: "v1",
		},
		"a check fails while baking": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 1, Effect: flysim.TurnsCritical, For: 2 * time.Minute}},
			outcome: release.RolledBack, cause: "while baking", runs: "v1",
		},
		"no review within the timeout": {
			answer:  func(*scenario) {},
			outcome: release.Stopped, cause: "nobody decided on production within 24h0m0s", runs: "v1",
		},
		"rejected by update": {
			answer: func(s *scenario) {
				s.review(release.Review{By: "ben", Reason: "not on a Friday", Plan: s.status().Plan.Hash})
			},
			outcome: release.Stopped, cause: "rejected by ben: not on a Friday", runs: "v1",
		},
		"approved by signal": {
			answer: func(s *scenario) {
				s.signal(release.ApproveSignal, fmt.Sprintf(`{"by":"ben","reason":"","plan":%q}`, s.status().Plan.Hash[:8]))
			},
			outcome: release.Promoted, runs: "v2",
		},
		"rejected by signal": {
			answer: func(s *scenario) {
				s.signal(release.RejectSignal, fmt.Sprintf(`{"by":"ben","reason":"no","plan":%q}`, s.status().Plan.Hash[:8]))
			},
			outcome: release.Stopped, cause: "rejected by ben: no", runs: "v1",
		},
		"two approvals are required": {
			repo: repo{gate: `{ approvals = 2, timeout = "1h" }`},
			answer: func(s *scenario) {
				s.approve()
				s.review(release.Review{Approve: true, By: "cleo", Plan: s.status().Plan.Hash})
			},
			outcome: release.Promoted, runs: "v2",
		},
		"two approvals by one reviewer": {
			repo: repo{gate: `{ approvals = 2, timeout = "1h" }`},
			answer: func(s *scenario) {
				s.approve()
				s.signal(release.ApproveSignal, fmt.Sprintf(`{"by":" ben ","plan":%q}`, s.status().Plan.Hash))
			},
			outcome: release.Stopped, cause: "nobody decided", runs: "v1",
		},
		"aborted while it waits for approval": {
			answer:  func(s *scenario) { s.env.CancelWorkflow() },
			outcome: release.Stopped, cause: "aborted", runs: "v1",
		},
		"aborted while it builds": {
			before: func(s *scenario) {
				s.act.Go = digestBuilder{takes: time.Hour, over: s.over}
				s.onPhase(release.Building, "", func() { s.env.CancelWorkflow() })
			},
			outcome: release.Stopped, cause: "aborted", staging: "v1", runs: "v1",
		},
		"aborted while it rolls out": {
			answer: func(s *scenario) {
				s.approve()
				s.env.RegisterDelayedCallback(s.env.CancelWorkflow, 2*time.Second)
			},
			outcome: release.RolledBack, cause: "aborted", runs: "v1",
		},
		"aborted twice while it bakes": {
			answer: func(s *scenario) {
				s.approve()
				s.env.RegisterDelayedCallback(s.env.CancelWorkflow, time.Minute)
				s.env.RegisterDelayedCallback(s.env.CancelWorkflow, time.Minute+time.Second)
			},
			outcome: release.RolledBack, cause: "aborted", runs: "v1",
		},
		"the tests fail": {
			repo:    repo{test: "echo broken; exit 3"},
			outcome: release.Stopped, cause: "ended with exit code 3", staging: "v1", runs: "v1",
		},
		"the build fails": {
			// The build takes a second, so that the tests, a real process, end first: a
			// scenario must not end while a process runs.
			before: func(s *scenario) {
				s.act.Go = digestBuilder{fails: &image.BuildError{Name: "web", Reason: "syntax error"}, takes: time.Second, over: s.over}
			},
			outcome: release.Stopped, cause: "syntax error", staging: "v1", runs: "v1",
		},
		"another client changes a machine before the first change": {
			answer:  approveAfterChange(api),
			outcome: release.Promoted, runs: "v2",
		},
		"another client changes a machine during the rollout": {
			answer: func(s *scenario) {
				s.approve()
				s.env.RegisterDelayedCallback(func() { changeByHand(s, web) }, 2*time.Second)
			},
			held:    release.ChoiceRollback,
			outcome: release.RolledBack, cause: "changed by another client", runs: "v1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newScenario(t, tc.repo)
				s.installVersion("v1")
				was := s.configs("production")
				s.req.Revision = revision("v2")
				for _, f := range tc.faults {
					if f.App == "" {
						f.App = api
					}
					s.sim.Inject(f)
				}
				if tc.before != nil {
					tc.before(s)
				}
				answer := s.approve
				if tc.answer != nil {
					answer = func() { tc.answer(s) }
				}
				s.onApproval(answer)
				if tc.held != "" {
					s.resolveWhenHeld(tc.held)
				}
				rep := s.run()

				if rep.Outcome != tc.outcome {
					t.Fatalf("outcome %q (%+v), want %q", rep.Outcome, rep.Cause, tc.outcome)
				}
				if tc.cause != "" && (rep.Cause == nil || !strings.Contains(rep.Cause.Message, tc.cause)) {
					t.Errorf("cause %+v, want %q in it", rep.Cause, tc.cause)
				}
				s.mustRun("staging", cmpOr(tc.staging, "v2"))
				if tc.runs != "" {
					s.mustRun("production", tc.runs)
				}
				if tc.runs == "v1" && !maps.Equal(s.configs("production"), was) {
					t.Errorf("the configs in production differ from before:\n%v\n%v", s.configs("production"), was)
				}
			})
		})
	}
}

// An update whose response is lost is not sent again.
func TestUpdate_LostResponses(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		before := s.changes(update)
		s.sim.Inject(flysim.LostAnswer(update, 8))
		s.req.Revision = revision("v2")
		s.onApproval(s.approve)
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatal(rep.Outcome, rep.Cause)
		}
		for machine := range s.configs("production") {
			for _, app := range []string{"shop-production-api", "shop-production-web"} {
				for _, m := range s.sim.Machines(app) {
					if m.ID == machine && m.InstanceID == "" {
						t.Error("no version")
					}
				}
			}
		}
		for machine, n := range s.changes(update) {
			if n-before[machine] > 1 {
				t.Errorf("machine %s was changed %d times", machine, n-before[machine])
			}
		}
	})
}

// A create whose response is lost, or that Fly lists late, creates one machine.
func TestCreate_LostResponses(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.sim.Inject(flysim.LostAnswer(create, 3))
		s.sim.Inject(flysim.Fault{Route: create, Times: 2, Effect: flysim.NotYet, For: 2 * time.Second})
		s.onApproval(s.approve)
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatal(rep.Outcome, rep.Cause)
		}
		s.mustRun("staging", "v1")
		s.mustRun("production", "v1")
	})
}

// A release of the running revision sends no change and requests no approval.
func TestRelease_Unchanged(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		before := len(s.sim.Requests())
		rep := s.run()
		if rep.Outcome != release.Unchanged {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		for _, r := range s.sim.Requests()[before:] {
			t.Errorf("it sent a change: %s %s", r.Route, r.App)
		}
	})
}

// A stopped machine is updated and stays stopped.
func TestRollout_StoppedMachineStaysStopped(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		m := s.sim.Machines("shop-production-web")[0]
		if err := s.act.Fly.Stop(t.Context(), "shop-production-web", m.ID, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // virtual time, until it has stopped
		s.req.Revision = revision("v2")
		s.onApproval(s.approve)
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		for _, now := range s.sim.Machines("shop-production-web") {
			if now.ID == m.ID && now.State != "stopped" {
				t.Errorf("it was stopped and is %s", now.State)
			}
			if now.ImageRef.Digest != digestOf("web", "v2") {
				t.Errorf("machine %s runs %s", now.ID, now.ImageRef.Digest)
			}
		}
	})
}

// A plan that became stale between the approval and the first change is replaced by a
// new plan, which needs its own approval.
func TestGate_StalePlanNeedsNewApproval(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		var plans []string
		s.onApproval(func() {
			plans = append(plans, s.status().Plan.Hash)
			if len(plans) == 1 {
				changeByHand(s, "shop-production-api")
			}
			s.approve()
		})
		rep := s.run()
		if len(plans) != 2 || plans[0] == plans[1] {
			t.Errorf("asked about the plans %v, want two different ones", plans)
		}
		if rep.Outcome != release.Promoted || len(rep.Notes) == 0 {
			t.Errorf("%s, notes %q", rep.Outcome, rep.Notes)
		}
		s.mustRun("production", "v2")
	})
}

// The gate ignores reviews that come early, name another plan or are malformed.
func TestGate_IgnoredReviews(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		s.act.Go = digestBuilder{takes: time.Minute, over: s.over}
		s.onPhase(release.Building, "", func() {
			s.review(release.Review{Approve: true, By: "before the gate", Plan: "00000000"})
			s.signal(release.ApproveSignal, `{"by":"early","plan":"00000000"}`)
		})
		s.onApproval(func() {
			hash := s.status().Plan.Hash
			s.review(release.Review{Approve: true, By: "another plan", Plan: "0123456789"})
			s.review(release.Review{Approve: true, By: "no plan"})
			s.review(release.Review{Approve: true, By: "seven digits", Plan: hash[:7]})
			s.review(release.Review{Approve: true, By: " ", Plan: hash})
			for _, doc := range []string{``, `null`, `{}`, `"approve"`, `[1]`, `{"by":"ben"}`, `not json`, `{"by":"ben","plan":"ffffffff"}`, `{"by":7,"plan":"` + hash + `"}`,
				`{"by":"ben","plan":"` + hash + `","approve":true}`, `{"by":"ben","plan":"` + hash + `","plan":"` + hash + `"}`, `{"By":"ben","plan":"` + hash + `"}`, `{"by":"ben","plan":"` + hash + `"} {}`} {
				s.signal(release.ApproveSignal, doc)
				s.signal(release.RejectSignal, doc)
				s.update(release.ApproveUpdate, doc)
				s.update(release.RejectUpdate, doc)
			}
		})
		rep := s.run()
		if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, "nobody decided") {
			t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if len(s.refused) != 5 {
			t.Errorf("refused by the validator: %v, want 5", s.refused)
		}
		if len(rep.Reviews) != 27 {
			t.Errorf("%d reviews are on record, want the 27 signals: %+v", len(rep.Reviews), rep.Reviews)
		}
		if s.taken != 0 {
			t.Errorf("%d updates that are no reviews were taken", s.taken)
		}
		for _, d := range rep.Reviews {
			if d.IgnoredReason == "" {
				t.Errorf("%+v counts", d)
			}
		}
		s.mustRun("production", "v1")
	})
}

// A rollback that fails is held, and the operator's choice decides how it ends.
func TestHeld_RollbackFails(t *testing.T) {
	for choice, tc := range map[release.Choice]struct {
		outcome release.Outcome
		runs    string
	}{
		release.ChoiceRetry:   {release.RolledBack, "v1"},
		release.ChoiceKeep:    {release.Kept, ""},
		release.ChoiceAbandon: {"", ""},
	} {
		t.Run(string(choice), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T) {
				s := newScenario(t, repo{})
				s.installVersion("v1")
				s.req.Revision = revision("v2")
				const web = "shop-production-web"
				s.sim.Inject(flysim.Fault{Route: update, App: web, Times: 1, Effect: flysim.NeverPasses})
				s.sim.Inject(flysim.Fault{Route: update, App: web, Status: 422})
				s.onApproval(s.approve)
				s.resolveWhenHeld(choice)
				rep, err := s.runErr()
				if choice == release.ChoiceAbandon {
					var stranded *temporal.ApplicationError
					if !errors.As(err, &stranded) || stranded.Type() != release.KindStranded || !strings.Contains(stranded.Message(), "machine") {
						t.Fatalf("got %v, want a stranded release that lists its machines", err)
					}
					return
				}
				if err != nil || rep.Outcome != tc.outcome {
					t.Fatalf("%s %v: %+v", rep.Outcome, err, rep.Cause)
				}
				if !strings.Contains(strings.Join(rep.Notes, "\n"), string(choice)+" by dora") {
					t.Errorf("no note has the choice and its author: %q", rep.Notes)
				}
				if tc.runs != "" {
					s.mustRun("production", tc.runs)
				}
			})
		})
	}
}

// Blue cannot serve again, so the unhealthy green machines keep serving until the
// operator has chosen: an app without serving machines would be worse.
func TestRollback_KeepsServingMachines(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{strategy: "bluegreen"})
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		const web, uncordon = "shop-production-web", "POST /v1/apps/{app}/machines/{id}/uncordon"
		s.sim.Inject(flysim.Fault{Route: create, App: web, Times: 1, Effect: flysim.TurnsCritical, For: 90 * time.Second})
		s.onPhase(release.Baking, "production", func() {
			s.sim.Inject(flysim.Fault{Route: uncordon, App: web, Status: 422})
		})
		s.onApproval(s.approve)
		serving := -1
		s.resolveWhenHeldAfter(release.ChoiceRetry, func() {
			serving = 0
			for _, m := range s.sim.Machines(web) {
				if m.State == "started" && !m.Cordoned {
					serving++
				}
			}
		})
		if rep := s.run(); rep.Outcome != release.RolledBack {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if serving < 1 {
			t.Errorf("%d machines served while the rollout was held", serving)
		}
		s.mustRun("production", "v1")
	})
}

// A rollout whose verdict cannot be read is held, not promoted.
func TestHeld_UnknownVerdict(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		s.onApproval(func() {
			s.approve()
			s.env.RegisterDelayedCallback(func() { s.sim.Inject(flysim.Fault{Route: list, Status: 500}) }, time.Minute)
		})
		s.resolveWhenHeld(release.ChoiceRollback)
		rep := s.run()
		if rep.Outcome != release.RolledBack {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v1")
	})
}

// resolveWhenHeld clears all faults and answers once the rollout is held.
func (s *scenario) resolveWhenHeld(choice release.Choice) {
	s.resolveWhenHeldAfter(choice, func() {})
}

// resolveWhenHeldAfter is resolveWhenHeld with a call of first before the answer.
func (s *scenario) resolveWhenHeldAfter(choice release.Choice, first func()) {
	s.mayBeHeld = true
	id := release.RolloutID("shop", "production")
	var poll func()
	poll = func() {
		v, err := s.env.QueryWorkflowByID(id, release.StatusQuery)
		var st release.Status
		if err == nil && v.Get(&st) == nil && st.Phase == release.HeldPhase {
			if len(st.Held.Machines) == 0 {
				s.t.Error("held without a list of machines")
			}
			s.sim.ClearFaults()
			first()
			if err := s.env.SignalWorkflowByID(id, release.ResolveSignal, release.Resolution{Choice: choice, By: "dora"}); err != nil {
				s.t.Error(err)
			}
			s.mayBeHeld = false
			return
		}
		if s.status().Phase != release.Done {
			s.env.RegisterDelayedCallback(poll, time.Second)
		}
	}
	s.env.RegisterDelayedCallback(poll, time.Second)
}

// approveAfterChange returns a function that approves, and changes a machine by hand
// the first time.
func approveAfterChange(app string) func(*scenario) {
	changed := false
	return func(s *scenario) {
		if !changed {
			changeByHand(s, app)
		}
		changed = true
		s.approve()
	}
}

// changeByHand changes a machine as another client does: a new version with another env
// var.
func changeByHand(s *scenario, app string) {
	s.t.Helper()
	m := s.sim.Machines(app)[1]
	m.Config = []byte(strings.Replace(string(m.Config), `"env":{`, `"env":{"PERSON":"was here",`, 1))
	m.InstanceID = "01PERSON" + m.InstanceID[8:]
	s.sim.Put(app, m)
}

// The report has, for each machine, what was done to it.
func TestReport_Machines(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		const web = "shop-production-web"
		s.sim.Inject(flysim.Fault{Route: update, App: web, Times: 1, Effect: flysim.NeverPasses})
		s.onApproval(s.approve)
		rep := s.run()
		before := s.changes(update)
		for _, target := range rep.EnvironmentStatus("production").Targets {
			for _, m := range target.Machines {
				touched := before[target.FlyApp+"/"+m.ID] > 0
				if reported := m.Progress != release.ProgressUnchanged; reported != touched {
					t.Errorf("machine %s of %s is reported as %q (%s), and was changed %d times", m.ID, target.Target, m.Progress, m.Verb, before[target.FlyApp+"/"+m.ID])
				}
				if m.Image.Digest() != digestOf(target.Target.App, "v1") {
					t.Errorf("machine %s is reported to run %s", m.ID, m.Image)
				}
			}
		}
		if f := rep.Cause.Failures; len(f) != 1 || f[0].Machine == "" || f[0].Check == "" || f[0].Output == "" {
			t.Errorf("the failures are %+v, want one with machine, check and output", f)
		}
	})
}

// A request of another protocol version changes nothing.
func TestRelease_OtherProtocolRefused(t *testing.T) {
	for protocol, want := range map[int]string{release.Protocol + 1: "is newer", release.Protocol - 1: "is older"} {
		inVirtualTime(t, func(t *testing.T) {
			s := newScenario(t, repo{})
			s.req.Protocol = protocol
			if rep := s.run(); rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, want) || len(s.sim.Requests()) > 0 {
				t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
			}
		})
	}
}

// A failed machine is started with the new version: otherwise the release would shrink
// the fleet.
func TestRollout_FailedMachineIsStarted(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		const web = "shop-production-web"
		m := s.sim.Machines(web)[0]
		m.State, m.Checks = "failed", nil
		s.sim.Put(web, m)
		s.req.Revision = revision("v2")
		s.onApproval(s.approve)
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v2")
	})
}
