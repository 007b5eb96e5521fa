package workflows_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
	"github.com/microbima/release/workflows"
)

// An older revision is superseded by a newer one without a request for approval.
func TestOrder_OlderRevisionSuperseded(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v2")
		was := len(s.sim.Requests())
		s.req.Revision = revision("v1")
		s.onApproval(func() { t.Error("an approval was requested"); s.approve() })
		rep := s.run()
		if rep.Outcome != release.Superseded || !strings.Contains(rep.Cause.Message, revision("v2").Short()) {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if staging := rep.EnvironmentStatus("staging"); staging.Outcome != release.Superseded || staging.Lineage.Relation != release.Backward {
			t.Errorf("the report says of staging: %+v", staging)
		}
		s.mustRun("staging", "v2")
		s.mustRun("production", "v2")
		for _, r := range s.sim.Requests()[was:] {
			if !strings.Contains(r.Route, "/lease") {
				t.Errorf("it sent a change: %s %s", r.Route, r.App)
			}
		}
	})
}

// A diverged revision needs an approval, also without a gate; so does one whose lineage
// cannot be read. --allow-diverged does not pass a gate.
func TestOrder_DivergedNeedsApproval(t *testing.T) {
	for name, tc := range map[string]struct {
		repo    repo
		version string
		allow   bool
		asked   []string // environments
		because string
	}{
		"diverged":          {version: "x9", asked: []string{"staging", "production"}, because: "takes away 1 commit"},
		"diverged, allowed": {version: "x9", allow: true, asked: []string{"production"}},
		"unknown":           {repo: repo{unreachable: true}, version: "v2", asked: []string{"staging", "production"}, because: "no route to host"},
		"forward":           {version: "v2", asked: []string{"production"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newScenario(t, repo{})
				s.installVersion("v1")
				s.act.Git = tc.repo
				s.req.Revision, s.req.AllowDiverged = revision(tc.version), tc.allow
				var asked []string
				s.onApproval(func() {
					st := s.status()
					asked = append(asked, st.Gate.Environment)
					because := strings.Join(st.Gate.Reasons, "\n")
					if tc.because != "" && !strings.Contains(because, tc.because) || tc.because == "" && because != "" {
						t.Errorf("asked about %s because %q, want %q", st.Gate.Environment, because, tc.because)
					}
					s.approve()
				})
				if rep := s.run(); rep.Outcome != release.Promoted {
					t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
				}
				if !slices.Equal(asked, tc.asked) {
					t.Errorf("asked about %q, want %q", asked, tc.asked)
				}
			})
		})
	}
}

// The hash of a plan covers its lineage: an approval of a forward plan is no approval
// of a diverged one.
func TestOrder_HashCoversLineage(t *testing.T) {
	plan := release.Plan{Environment: "production"}.WithContentHash() // the lineage is found after that
	plan.Lineage = release.Lineage{Relation: release.Forward}
	forward := plan.Seal("run").Hash
	plan.Lineage = release.Lineage{Relation: release.Diverged, RemovedCount: 2}
	diverged := plan.Seal("run").Hash
	if diverged == forward {
		t.Error("a diverged plan has the hash of one that goes forward")
	}
	plan.Skipped = []release.Skipped{{Environment: "staging"}}
	if plan.Seal("run").Hash == diverged {
		t.Error("a plan that skips an environment has the hash of one that does not")
	}
}

// After a rollback the environment is pinned: releases do not change it.
func TestOrder_PinnedAfterRollback(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		forward := newScenario(t, repo{})
		forward.sim, forward.act.Fly, forward.act.Edge, forward.temporal.runs = s.sim, s.act.Fly, s.act.Edge, s.temporal.runs
		forward.req.Revision = revision("v2")
		forward.onApproval(forward.approve)
		if rep := forward.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.temporal.runs = forward.temporal.runs
		s.req.Revision = revision("v2")
		s.req.Rollback = &release.Rollback{Environment: "production", Reason: "checkout is down"}
		s.endPins()
		s.onApproval(s.approve)
		if rep := s.run(); rep.Outcome != release.Restored {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v1")

		pushed := newScenario(t, repo{})
		pushed.sim, pushed.act.Fly, pushed.act.Edge, pushed.temporal.runs = s.sim, s.act.Fly, s.act.Edge, s.temporal.runs
		pushed.req.Revision = revision("v3")
		pushed.onApproval(pushed.approve)
		rep := pushed.run()
		if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, "production is pinned") || !strings.Contains(rep.Cause.Message, "checkout is down") {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		pushed.mustRun("staging", "v3")
		pushed.mustRun("production", "v1")
	})
}

// A revision that lowers the gate must pass the previous gate.
func TestOrder_LoweredGate(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		before := newScenario(t, repo{gate: `{ approvals = 2, timeout = "1h" }`})
		before.onApproval(func() {
			before.approve()
			before.review(release.Review{Approve: true, By: "cleo", Plan: before.status().Plan.Hash})
		})
		if rep := before.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		for i, want := range []release.GateStatus{{Approvals: 2, Reasons: []string{"lowers the gate"}}, {Approvals: 1}} {
			s := newScenario(t, repo{})
			s.sim, s.act.Fly, s.act.Edge, s.temporal.runs = before.sim, before.act.Fly, before.act.Edge, before.temporal.runs
			s.req.Revision = revision([]string{"v2", "v3"}[i])
			s.onApproval(func() {
				g := s.status().Gate
				if g.Approvals != want.Approvals || len(g.Reasons) != len(want.Reasons) || len(g.Reasons) > 0 && !strings.Contains(g.Reasons[0], want.Reasons[0]) {
					t.Errorf("release %d asks for %+v", i, g)
				}
				s.approve()
				s.review(release.Review{Approve: true, By: "cleo", Plan: s.status().Plan.Hash})
			})
			if rep := s.run(); rep.Outcome != release.Promoted {
				t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
			}
			before.temporal.runs = s.temporal.runs
		}
	})
}

// A skipped environment is not changed, and the gate of the next one has a note.
func TestOrder_SkippedEnvironment(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		s.req.Skip = []release.Skipped{{Environment: "staging", By: "ana", Reason: "staging tests 2.0"}}
		s.onApproval(func() {
			st := s.status()
			if len(st.Plan.Skipped) != 1 || !strings.Contains(strings.Join(st.Gate.Reasons, "\n"), "staging was skipped by ana (staging tests 2.0)") {
				t.Errorf("the gate is %+v, the skipped environments %+v", st.Gate, st.Plan.Skipped)
			}
			s.approve()
		})
		if rep := s.run(); rep.Outcome != release.Promoted || len(rep.Environments) != 1 {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("staging", "v1")
		s.mustRun("production", "v2")
	})
}

// A release to staging that is extended to production is built for and promoted to
// both.
func TestOrder_ExtendedRelease(t *testing.T) {
	for name, phase := range map[string]release.Phase{"while it builds": release.Building, "while it rolls out": release.RollingOut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newScenario(t, repo{})
				s.req.To = "staging"
				s.act.Go = digestBuilder{takes: time.Second, over: s.over}
				var refused error
				in := map[release.Phase]string{release.RollingOut: "staging"}[phase]
				s.onPhase(phase, in, func() {
					for i, to := range []string{"nowhere", "production", "production", "staging"} {
						s.env.UpdateWorkflow(release.ExtendUpdate, string(rune('a'+i)), &testsuite.TestUpdateCallback{
							OnAccept: func() {}, OnReject: func(err error) { t.Error(err) },
							OnComplete: func(_ any, err error) {
								if to == "nowhere" {
									refused = err
								} else if err != nil {
									t.Errorf("to %s: %v", to, err)
								}
							},
						}, release.Extension{To: to, By: "ben"})
					}
				})
				s.onApproval(s.approve)
				rep := s.run()
				if rep.Outcome != release.Promoted || len(rep.Environments) != 2 || len(rep.Tests) != 1 {
					t.Fatalf("%s: %+v, %+v, %d tests", rep.Outcome, rep.Cause, rep.Environments, len(rep.Tests))
				}
				if refused == nil || !strings.Contains(refused.Error(), "nowhere") {
					t.Errorf("the extension to an unknown environment returned %v", refused)
				}
				s.mustRun("staging", "v1")
				s.mustRun("production", "v1")
			})
		})
	}
}

// Waiting releases get their turn by signal: in the order of their start, or only the
// newest. Waiting needs no activity.
func TestOrder_Queue(t *testing.T) {
	for name, tc := range map[string]struct {
		queue string
		want  []release.Outcome
	}{
		"newest": {"", []release.Outcome{release.Promoted, release.Superseded, release.Promoted}},
		"each":   {"each", []release.Outcome{release.Promoted, release.Promoted, release.Promoted}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				r := repo{}
				if tc.queue != "" {
					r.staging = `queue = "` + tc.queue + `"`
				}
				s := newScenario(t, r)
				s.sim.Latency.Boot = 20 * time.Second
				s.sim.Latency.API = time.Second // a release with a stale plan keeps its place while it plans again
				reports := s.releaseConcurrently("v1", "v2", "v3")
				for i, rep := range reports {
					if rep.Outcome != tc.want[i] {
						t.Errorf("release %d: %s: %+v, want %s", i+1, rep.Outcome, rep.Cause, tc.want[i])
					}
				}
				reads := 0
				for _, info := range s.temporal.startedActivities() {
					if info.ActivityType.Name == "ReadLockHolder" {
						reads++
					}
				}
				if reads > 6 {
					t.Errorf("the lock was read %d times", reads)
				}
				if cause := reports[1].Cause; reports[1].Outcome == release.Superseded && !strings.Contains(cause.Message, revision("v3").Short()) {
					t.Errorf("superseded: %s", cause.Message)
				}
				s.mustRun("staging", "v3")
			})
		})
	}
}

// A waiting release rechecks the lock if its holder sends no signal.
func TestOrder_QueueHolderGone(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.temporal.hasNoParents = true
		s.sim.Latency.Boot = 20 * time.Second
		for i, rep := range s.releaseConcurrently("v1", "v2") {
			if rep.Outcome != release.Promoted {
				t.Errorf("release %d: %s: %+v", i+1, rep.Outcome, rep.Cause)
			}
		}
		s.mustRun("staging", "v2")
	})
}

// releaseConcurrently releases the versions to staging, one second apart.
func (s *scenario) releaseConcurrently(versions ...string) []release.Report {
	s.t.Helper()
	reports := make([]release.Report, len(versions))
	s.env.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		all := workflow.NewWaitGroup(ctx)
		for i, version := range versions {
			all.Add(1)
			workflow.Go(ctx, func(ctx workflow.Context) {
				defer all.Done()
				if err := workflow.Sleep(ctx, time.Duration(i+1)*time.Second); err != nil {
					return
				}
				req := s.req
				req.Revision, req.To = revision(version), "staging"
				id := release.ReleaseID(req.Project, req.Revision)
				err := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: id}), workflows.Release, req).Get(ctx, &reports[i])
				if err != nil {
					s.t.Errorf("%s: %v", version, err)
				}
			})
		}
		all.Wait(ctx)
		return nil
	}, workflow.RegisterOptions{Name: "together"})
	s.env.ExecuteWorkflow("together")
	time.Sleep(5 * time.Second)
	if err := s.env.GetWorkflowError(); err != nil {
		s.t.Fatal(err)
	}
	return reports
}
