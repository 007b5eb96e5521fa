package workflows_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/simulation"
	"github.com/microbima/release/release"
)

// revertingBuilder builds v1 for v2: v2 reverts the commits between them.
type revertingBuilder struct{ digestBuilder }

func (r revertingBuilder) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	if src.Revision.Commit == commitOf("v2") {
		src.Revision.Commit = commitOf("v1")
	}
	return r.digestBuilder.Build(ctx, src, req)
}

// linearRepo is a repository with the commits v1, x9, v2 and v3, in that order.
type linearRepo struct{ repo }

func (linearRepo) Lineage(_ context.Context, _, commit string, running []string) (release.Lineage, error) {
	versions := []string{"v1", "x9", "v2", "v3"}
	var history []string
	for _, v := range versions {
		history = append(history, commitOf(v))
	}
	found := simulation.StraightLineage(history, commit, running)
	for i := slices.Index(history, commit) + 1; i < len(history) && len(running) == 1 && i <= slices.Index(history, running[0]); i++ {
		found.RemovedCount, found.Removed = found.RemovedCount+1, append(found.Removed, revision(versions[i]))
	}
	return found, nil
}

// nextRelease returns a scenario that continues where s ended, with a release of version.
func (s *scenario) nextRelease(version string) *scenario {
	s.t.Helper()
	next := newScenario(s.t, repo{})
	next.sim, next.act.Fly, next.act.Edge, next.temporal.runs = s.sim, s.act.Fly, s.act.Edge, s.temporal.runs
	next.act.Git, next.act.Go = linearRepo{}, revertingBuilder{}
	next.req.Revision = revision(version)
	return next
}

// runTo runs the release and fails unless it has that outcome.
func (s *scenario) runTo(outcome release.Outcome) release.Report {
	s.t.Helper()
	rep := s.run()
	if rep.Outcome != outcome {
		s.t.Fatalf("%s of %s: %+v, want %s", rep.Outcome, s.req.Revision.Subject, rep.Cause, outcome)
	}
	return rep
}

// A revision that changes nothing becomes the head of the environment: an older
// revision that comes later is superseded.
func TestOrder_OlderAfterUnchanged(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		first := newScenario(t, repo{})
		first.installVersion("v1")
		newer := first.nextRelease("v2")
		newer.runTo(release.Unchanged)
		older := newer.nextRelease("x9")
		older.onApproval(func() { t.Error("an approval was requested"); older.approve() })
		rep := older.runTo(release.Superseded)
		if !strings.Contains(rep.Cause.Message, revision("v2").Short()) {
			t.Errorf("superseded: %s", rep.Cause.Message)
		}
		older.mustRun("staging", "v1")
	})
}

// comparingRepo calls compared when a plan is made, before its revision is compared.
type comparingRepo struct {
	repo
	compared func()
}

func (r comparingRepo) Lineage(ctx context.Context, remote, commit string, running []string) (release.Lineage, error) {
	r.compared()
	return r.repo.Lineage(ctx, remote, commit, running)
}

// A release whose revision runs everywhere waits while another rollout is in flight: its
// machines are about to be replaced.
func TestUnchanged_WaitsForRolloutInFlight(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{deploy: "release_command = \"migrate\"\n"})
		s.installVersion("v1")
		s.sim.Latency.Boot = 20 * time.Second // the release command runs, and no other machine is changed
		reports := s.releaseConcurrently("v2", "v1")
		if reports[0].Outcome != release.Promoted {
			t.Errorf("v2: %s: %+v", reports[0].Outcome, reports[0].Cause)
		}
		if reports[1].Outcome != release.Superseded {
			t.Errorf("v1 while v2 was rolled out: %s, want superseded", reports[1].Outcome)
		}
		s.mustRun("staging", "v2")
	})
}

// A person changes a machine after the plan without steps was made.
func TestUnchanged_MachineChangedMeanwhile(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.To = "staging"
		changed := false
		s.act.Git = comparingRepo{s.act.Git.(repo), func() {
			if !changed {
				changeByHand(s, "shop-staging-web")
			}
			changed = true
		}}
		s.runTo(release.Promoted)
		if !changed {
			t.Error("the machine was never changed")
		}
		s.mustRun("staging", "v1")
	})
}

// An older revision waits for approval while a newer one becomes the head. The rollout
// compares the head again under the lock.
func TestOrder_UnchangedWhileOlderWaits(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s = s.nextRelease("x9")
		asked := 0
		s.onApproval(func() {
			asked++
			s.temporal.mu.Lock()
			s.temporal.runs = append(s.temporal.runs, &fakeRun{
				id: release.RolloutID("shop", "production"), run: "newer", begun: time.Now(), ended: time.Now(), in: release.RolloutRequest{},
				result: &release.Report{Status: release.Status{Outcome: release.Unchanged}, Head: &release.Head{Commit: commitOf("v2"), Covers: []string{commitOf("v1")}}},
			})
			s.temporal.mu.Unlock()
			s.approve()
		})
		rep := s.runTo(release.Superseded)
		if asked != 1 || !strings.Contains(rep.Cause.Message, revision("v2").Short()) {
			t.Errorf("asked %d times; superseded: %s", asked, rep.Cause.Message)
		}
		s.mustRun("production", "v1")
	})
}

// A rollback also restores the head of the environment: a revision between the
// machines' metadata and the head is older.
func TestOrder_OlderAfterRollback(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		unchanged := s.nextRelease("v2")
		unchanged.runTo(release.Unchanged)
		newest := unchanged.nextRelease("v3")
		newest.onApproval(newest.approve)
		newest.runTo(release.Promoted)
		back := newest.nextRelease("v3")
		back.req.Rollback = &release.Rollback{Environment: "staging", Reason: "checkout is down"}
		back.endPins()
		back.runTo(release.Restored)
		back.mustRun("staging", "v1")
		for _, r := range back.temporal.runs { // an operator removes the pin
			if r.ended.IsZero() {
				r.ended = time.Now()
			}
		}
		older := back.nextRelease("x9")
		older.req.To = "staging"
		older.runTo(release.Superseded)
		older.mustRun("staging", "v1")
	})
}

// A release without changes does not change the head of a pinned environment.
func TestOrder_UnchangedInPinnedEnvironment(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s = s.nextRelease("v2")
		s.temporal.runs = append(s.temporal.runs, &fakeRun{
			id: release.PinID("shop", "staging"), run: "pin", begun: time.Now(), in: release.Pin{Project: "shop", Environment: "staging", By: "ana"},
		})
		s.runTo(release.Unchanged)
		for _, r := range s.temporal.runs {
			rep, ok := r.result.(*release.Report)
			if ok && r.id == release.RolloutID("shop", "staging") && rep.Head != nil && rep.Head.Commit == commitOf("v2") {
				t.Error("the head of a pinned environment is v2")
			}
		}
	})
}
