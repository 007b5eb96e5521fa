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

func TestFirstRelease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.whenAsked(s.approve)
		rep := s.run()
		if rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("staging", "v1")
		s.mustRun("production", "v1")
	})
}

// Fly that is away is asked less and less often. (For longer than one attempt
// may take, Temporal's test environment does not try again.)
func TestFlyThatIsAwayIsAskedLess(t *testing.T) {
	const list = "GET /v1/apps/{app}/machines"
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.sim.Inject(flysim.Fault{Route: list, Status: http.StatusServiceUnavailable})
		asked := 0
		time.AfterFunc(4*time.Minute, func() { asked = s.sim.Counts()[list]; s.sim.ClearFaults() })
		s.whenAsked(s.approve)
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if asked < 20 || asked > 80 { // two apps: at first again and again, and in the end every quarter of a minute
			t.Errorf("it was asked %d times", asked)
		}
	})
}

// Version v1 runs everywhere; v2 is released, and things go wrong in
// production. What the world looks like then is what a user would lose.
func TestRelease(t *testing.T) {
	const api, web = "shop-production-api", "shop-production-web"
	for name, tc := range map[string]struct {
		repo    repo
		faults  []flysim.Fault
		before  func(*scenario) // once v1 runs
		answer  func(*scenario) // at the gate; nil approves
		held    release.Choice  // what a person says when it is held; "": nobody is there
		outcome release.Outcome
		cause   string // part of it
		staging string // what runs there at the end; "" is v2
		runs    string // what production runs at the end
	}{
		"it is good": {
			outcome: release.Promoted, runs: "v2",
		},
		"it is good, one at a time": {
			repo: repo{maxDown: "1"}, outcome: release.Promoted, runs: "v2",
		},
		"it is good, by canary": {
			repo: repo{strategy: "canary"}, outcome: release.Promoted, runs: "v2",
		},
		"it is good, all at once": {
			repo: repo{strategy: "immediate"}, outcome: release.Promoted, runs: "v2",
		},
		"it is good, bluegreen": {
			repo: repo{strategy: "bluegreen"}, outcome: release.Promoted, runs: "v2",
		},
		"bluegreen, and green never passes": {
			repo:    repo{strategy: "bluegreen"},
			faults:  []flysim.Fault{{Route: create, App: web, Times: 1, Effect: flysim.NeverPasses}},
			outcome: release.RolledBack, cause: "did not pass", runs: "v1",
		},
		"bluegreen, and it sours while baking": {
			repo:    repo{strategy: "bluegreen"},
			faults:  []flysim.Fault{{Route: create, App: web, Times: 1, Effect: flysim.TurnsCritical, For: 90 * time.Second}},
			outcome: release.RolledBack, cause: "while baking", runs: "v1",
		},
		"Fly is down for a moment": {
			faults:  []flysim.Fault{{App: api, Times: 5, Status: 503}},
			outcome: release.Promoted, runs: "v2",
		},
		"Fly is down for minutes": {
			faults:  []flysim.Fault{{Route: get, App: api, Times: 20, Status: 500}, {Route: update, App: api, Times: 10, Status: 502}},
			outcome: release.Promoted, runs: "v2",
		},
		"the answer to a change is lost": {
			faults:  []flysim.Fault{flysim.LostAnswer(update, 3)},
			outcome: release.Promoted, runs: "v2",
		},
		"the connection drops after a change": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 1, After: true, Drop: true}},
			outcome: release.Promoted, runs: "v2",
		},
		"somebody clears a lease": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 1, Effect: flysim.LeaseLost}},
			outcome: release.RolledBack, cause: "lost its lease: somebody cleared it", runs: "v1",
		},
		"somebody takes a lease": {
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
		"Fly puts the old version back and says started": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 1, Effect: flysim.Reverts}},
			outcome: release.RolledBack, cause: "put another version in its place", runs: "v1",
		},
		"it sours while baking": {
			faults:  []flysim.Fault{{Route: update, App: api, Times: 1, Effect: flysim.TurnsCritical, For: 2 * time.Minute}},
			outcome: release.RolledBack, cause: "while baking", runs: "v1",
		},
		"nobody answers": {
			answer:  func(*scenario) {},
			outcome: release.Stopped, cause: "nobody decided on production within 24h0m0s", runs: "v1",
		},
		"somebody says no": {
			answer: func(s *scenario) {
				s.decide(release.Decision{By: "ben", Reason: "not on a Friday", Plan: s.status().Plan.Hash})
			},
			outcome: release.Stopped, cause: "rejected by ben: not on a Friday", runs: "v1",
		},
		"a signal says yes": {
			answer: func(s *scenario) {
				s.signal(release.ApproveSignal, fmt.Sprintf(`{"by":"ben","reason":"","plan":%q}`, s.status().Plan.Hash[:8]))
			},
			outcome: release.Promoted, runs: "v2",
		},
		"a signal says no": {
			answer: func(s *scenario) {
				s.signal(release.RejectSignal, fmt.Sprintf(`{"by":"ben","reason":"no","plan":%q}`, s.status().Plan.Hash[:8]))
			},
			outcome: release.Stopped, cause: "rejected by ben: no", runs: "v1",
		},
		"two must say yes": {
			repo: repo{gate: `{ approvals = 2, timeout = "1h" }`},
			answer: func(s *scenario) {
				s.approve()
				s.decide(release.Decision{Approve: true, By: "cleo", Plan: s.status().Plan.Hash})
			},
			outcome: release.Promoted, runs: "v2",
		},
		"one says yes twice where two must": {
			repo: repo{gate: `{ approvals = 2, timeout = "1h" }`},
			answer: func(s *scenario) {
				s.approve()
				s.signal(release.ApproveSignal, fmt.Sprintf(`{"by":" ben ","plan":%q}`, s.status().Plan.Hash))
			},
			outcome: release.Stopped, cause: "nobody decided", runs: "v1",
		},
		"abort while it waits": {
			answer:  func(s *scenario) { s.env.CancelWorkflow() },
			outcome: release.Stopped, cause: "aborted", runs: "v1",
		},
		"abort while it builds": {
			before: func(s *scenario) {
				s.act.Go = recipe{takes: time.Hour, over: s.over}
				s.when(release.Building, "", func() { s.env.CancelWorkflow() })
			},
			outcome: release.Stopped, cause: "aborted", staging: "v1", runs: "v1",
		},
		"abort while it rolls out": {
			answer: func(s *scenario) {
				s.approve()
				s.env.RegisterDelayedCallback(s.env.CancelWorkflow, 2*time.Second)
			},
			outcome: release.RolledBack, cause: "aborted", runs: "v1",
		},
		"abort while it bakes, twice": {
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
		"it does not compile": {
			// It takes a moment, so that the tests, a real process, are over: a
			// scenario must not end while one runs.
			before: func(s *scenario) {
				s.act.Go = recipe{fails: &image.BuildError{Name: "web", Reason: "syntax error"}, takes: time.Second, over: s.over}
			},
			outcome: release.Stopped, cause: "syntax error", staging: "v1", runs: "v1",
		},
		"somebody changes a machine before the first change": {
			answer:  changedOnce(api),
			outcome: release.Promoted, runs: "v2",
		},
		"somebody changes a machine in the middle": {
			answer: func(s *scenario) {
				s.approve()
				s.env.RegisterDelayedCallback(func() { touch(s, web) }, 2*time.Second)
			},
			held:    release.GoBack,
			outcome: release.RolledBack, cause: "changed by somebody else", runs: "v1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := newScenario(t, tc.repo)
				s.runs("v1")
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
				s.whenAsked(answer)
				if tc.held != "" {
					s.answerWhenHeld(tc.held)
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
					t.Errorf("production's configs are not, byte for byte, what they were:\n%v\n%v", s.configs("production"), was)
				}
			})
		})
	}
}

// A change is never sent twice because its answer was lost.
func TestLostAnswersChangeOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		before := s.changes(update)
		s.sim.Inject(flysim.LostAnswer(update, 8))
		s.req.Revision = revision("v2")
		s.whenAsked(s.approve)
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

// A create whose answer is lost, or which Fly does not show at once, makes one
// machine.
func TestLostCreatesMakeOneMachine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.sim.Inject(flysim.LostAnswer(create, 3))
		s.sim.Inject(flysim.Fault{Route: create, Times: 2, Effect: flysim.NotYet, For: 2 * time.Second})
		s.whenAsked(s.approve)
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatal(rep.Outcome, rep.Cause)
		}
		s.mustRun("staging", "v1")
		s.mustRun("production", "v1")
	})
}

// Releasing what already runs touches nothing, and asks nobody.
func TestUnchanged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		before := len(s.sim.Requests())
		rep := s.run()
		if rep.Outcome != release.Unchanged {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		for _, r := range s.sim.Requests()[before:] {
			t.Errorf("it changed something: %s %s", r.Route, r.App)
		}
	})
}

// A stopped machine is updated and stays stopped.
func TestStoppedStaysStopped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		m := s.sim.Machines("shop-production-web")[0]
		if err := s.act.Fly.Stop(t.Context(), "shop-production-web", m.ID, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // the bubble's: until it has stopped
		s.req.Revision = revision("v2")
		s.whenAsked(s.approve)
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

// A plan that went stale between the approval and the first change is made
// again, and asked for again: the first approval does not count for it.
func TestStalePlanIsAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		s.req.Revision = revision("v2")
		var plans []string
		s.whenAsked(func() {
			plans = append(plans, s.status().Plan.Hash)
			if len(plans) == 1 {
				touch(s, "shop-production-api")
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

// What the gate must never take for an approval.
func TestDecisionsThatDoNotCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		s.req.Revision = revision("v2")
		s.act.Go = recipe{takes: time.Minute, over: s.over}
		s.when(release.Building, "", func() {
			s.decide(release.Decision{Approve: true, By: "before the gate", Plan: "00000000"})
			s.signal(release.ApproveSignal, `{"by":"early","plan":"00000000"}`)
		})
		s.whenAsked(func() {
			hash := s.status().Plan.Hash
			s.decide(release.Decision{Approve: true, By: "another plan", Plan: "0123456789"})
			s.decide(release.Decision{Approve: true, By: "no plan"})
			s.decide(release.Decision{Approve: true, By: "seven digits", Plan: hash[:7]})
			s.decide(release.Decision{Approve: true, By: " ", Plan: hash})
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
			t.Errorf("refused at the door: %v, want 5", s.refused)
		}
		if len(rep.Decisions) != 27 {
			t.Errorf("%d decisions are on record, want the 27 signals: %+v", len(rep.Decisions), rep.Decisions)
		}
		if s.taken != 0 {
			t.Errorf("%d updates that are no reviews were taken", s.taken)
		}
		for _, d := range rep.Decisions {
			if d.Ignored == "" {
				t.Errorf("%+v counts", d)
			}
		}
		s.mustRun("production", "v1")
	})
}

// A rollback that can't succeed is held, and a person says what then.
func TestHeld(t *testing.T) {
	for choice, tc := range map[release.Choice]struct {
		outcome release.Outcome
		runs    string
	}{
		release.Retry:   {release.RolledBack, "v1"},
		release.Keep:    {release.Kept, ""},
		release.Abandon: {"", ""},
	} {
		t.Run(string(choice), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newScenario(t, repo{})
				s.runs("v1")
				s.req.Revision = revision("v2")
				const web = "shop-production-web"
				s.sim.Inject(flysim.Fault{Route: update, App: web, Times: 1, Effect: flysim.NeverPasses})
				s.sim.Inject(flysim.Fault{Route: update, App: web, Status: 422})
				s.whenAsked(s.approve)
				s.answerWhenHeld(choice)
				rep, err := s.runErr()
				if choice == release.Abandon {
					var stranded *temporal.ApplicationError
					if !errors.As(err, &stranded) || stranded.Type() != release.KindStranded || !strings.Contains(stranded.Message(), "machine") {
						t.Fatalf("got %v, want a stranded release that says which machines are what", err)
					}
					return
				}
				if err != nil || rep.Outcome != tc.outcome {
					t.Fatalf("%s %v: %+v", rep.Outcome, err, rep.Cause)
				}
				if !strings.Contains(strings.Join(rep.Notes, "\n"), string(choice)+" by dora") {
					t.Errorf("the report does not say who chose what: %q", rep.Notes)
				}
				if tc.runs != "" {
					s.mustRun("production", tc.runs)
				}
			})
		})
	}
}

// The blue machines can't serve again: so the green ones, bad as they may be, go
// on, until somebody has said what to do. An app that nobody serves would be
// worse.
func TestNothingIsRemovedThatServesWhileTheOldCannot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{strategy: "bluegreen"})
		s.runs("v1")
		s.req.Revision = revision("v2")
		const web, uncordon = "shop-production-web", "POST /v1/apps/{app}/machines/{id}/uncordon"
		s.sim.Inject(flysim.Fault{Route: create, App: web, Times: 1, Effect: flysim.TurnsCritical, For: 90 * time.Second})
		s.when(release.Baking, "production", func() {
			s.sim.Inject(flysim.Fault{Route: uncordon, App: web, Status: 422})
		})
		s.whenAsked(s.approve)
		serving := -1
		s.answerWhenHeldAfter(release.Retry, func() {
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
			t.Errorf("%d machines served while a person was asked", serving)
		}
		s.mustRun("production", "v1")
	})
}

// What can't be found out is never called good: a person is asked.
func TestUnknownIsHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		s.req.Revision = revision("v2")
		s.whenAsked(func() {
			s.approve()
			s.env.RegisterDelayedCallback(func() { s.sim.Inject(flysim.Fault{Route: list, Status: 500}) }, time.Minute)
		})
		s.answerWhenHeld(release.GoBack)
		rep := s.run()
		if rep.Outcome != release.RolledBack {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v1")
	})
}

// answerWhenHeld clears all trouble and answers, once the rollout is held.
func (s *scenario) answerWhenHeld(choice release.Choice) {
	s.answerWhenHeldAfter(choice, func() {})
}

// answerWhenHeldAfter does something about it first.
func (s *scenario) answerWhenHeldAfter(choice release.Choice, first func()) {
	s.mayBeHeld = true
	id := release.RolloutID("shop", "production")
	var look func()
	look = func() {
		v, err := s.env.QueryWorkflowByID(id, release.StatusQuery)
		var st release.Status
		if err == nil && v.Get(&st) == nil && st.Phase == release.HeldPhase {
			if len(st.Held.Machines) == 0 {
				s.t.Error("held, and nobody is told which machines are what")
			}
			s.sim.ClearFaults()
			first()
			if err := s.env.SignalWorkflowByID(id, release.AnswerSignal, release.Answer{Choice: choice, By: "dora"}); err != nil {
				s.t.Error(err)
			}
			s.mayBeHeld = false
			return
		}
		if s.status().Phase != release.Done {
			s.env.RegisterDelayedCallback(look, time.Second)
		}
	}
	s.env.RegisterDelayedCallback(look, time.Second)
}

// changedOnce approves, after somebody has changed a machine the first time.
func changedOnce(app string) func(*scenario) {
	changed := false
	return func(s *scenario) {
		if !changed {
			touch(s, app)
		}
		changed = true
		s.approve()
	}
}

// touch is what somebody does who knows nothing of the release: a new version
// of a machine, with an env var of their own.
func touch(s *scenario, app string) {
	s.t.Helper()
	m := s.sim.Machines(app)[1]
	m.Config = []byte(strings.Replace(string(m.Config), `"env":{`, `"env":{"PERSON":"was here",`, 1))
	m.InstanceID = "01PERSON" + m.InstanceID[8:]
	s.sim.Put(app, m)
}

// The report says of each machine what was done to it, and no more.
func TestReportIsTrue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		s.req.Revision = revision("v2")
		const web = "shop-production-web"
		s.sim.Inject(flysim.Fault{Route: update, App: web, Times: 1, Effect: flysim.NeverPasses})
		s.whenAsked(s.approve)
		rep := s.run()
		before := s.changes(update)
		for _, target := range rep.EnvironmentStatus("production").Targets {
			for _, m := range target.Machines {
				touched := before[target.FlyApp+"/"+m.ID] > 0
				if said := m.Progress != release.Still; said != touched {
					t.Errorf("machine %s of %s is said to be %q (%s); it was changed %d times", m.ID, target.Target, m.Progress, m.Verb, before[target.FlyApp+"/"+m.ID])
				}
				if m.Image.Digest() != digestOf(target.Target.App, "v1") {
					t.Errorf("machine %s is said to run %s", m.ID, m.Image)
				}
			}
		}
		if f := rep.Cause.Failures; len(f) != 1 || f[0].Machine == "" || f[0].Check == "" || f[0].Output == "" {
			t.Errorf("the evidence is %+v: want machine, check and output", f)
		}
	})
}

// A request that the worker may misunderstand changes nothing.
func TestAnotherProtocolIsRefused(t *testing.T) {
	for protocol, want := range map[int]string{release.Protocol + 1: "is newer", release.Protocol - 1: "is older"} {
		bubble(t, func(t *testing.T) {
			s := newScenario(t, repo{})
			s.req.Protocol = protocol
			if rep := s.run(); rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, want) || len(s.sim.Requests()) > 0 {
				t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
			}
		})
	}
}

// A machine that failed is started with the new version; leaving it down would
// be a smaller fleet that nobody asked for.
func TestFailedMachinesGetAnotherChance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		const web = "shop-production-web"
		m := s.sim.Machines(web)[0]
		m.State, m.Checks = "failed", nil
		s.sim.Put(web, m)
		s.req.Revision = revision("v2")
		s.whenAsked(s.approve)
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v2")
	})
}
