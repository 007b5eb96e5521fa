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

// reverted builds from v2 what it builds from v1: v2 has taken back what came
// between them.
type reverted struct{ recipe }

func (r reverted) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	if src.Revision.Commit == commitOf("v2") {
		src.Revision.Commit = commitOf("v1")
	}
	return r.recipe.Build(ctx, src, req)
}

// branch is a repository whose commits are v1, x9, v2 and v3, in that order.
type branch struct{ repo }

func (branch) Lineage(_ context.Context, _, commit string, running []string) (release.Lineage, error) {
	versions := []string{"v1", "x9", "v2", "v3"}
	var history []string
	for _, v := range versions {
		history = append(history, commitOf(v))
	}
	found := simulation.StraightLineage(history, commit, running)
	for i := slices.Index(history, commit) + 1; i < len(history) && len(running) == 1 && i <= slices.Index(history, running[0]); i++ {
		found.Takes, found.Taken = found.Takes+1, append(found.Taken, revision(versions[i]))
	}
	return found, nil
}

// on returns a scenario that goes on where s ended, with a release of version.
func (s *scenario) on(version string) *scenario {
	s.t.Helper()
	next := newScenario(s.t, repo{})
	next.sim, next.act.Fly, next.act.Edge, next.ledger.runs = s.sim, s.act.Fly, s.act.Edge, s.ledger.runs
	next.act.Git, next.act.Go = branch{}, reverted{}
	next.req.Revision = revision(version)
	return next
}

func (s *scenario) mustEnd(outcome release.Outcome) release.Report {
	s.t.Helper()
	rep := s.run()
	if rep.Outcome != outcome {
		s.t.Fatalf("%s of %s: %+v, want %s", rep.Outcome, s.req.Revision.Subject, rep.Cause, outcome)
	}
	return rep
}

// A revision that changes nothing is what the environment runs from then on: an
// older one that comes later does not take its place.
func TestOrder_OlderAfterUnchanged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first := newScenario(t, repo{})
		first.runs("v1")
		newer := first.on("v2")
		newer.mustEnd(release.Unchanged)
		older := newer.on("x9")
		older.whenAsked(func() { t.Error("somebody was asked"); older.approve() })
		rep := older.mustEnd(release.Superseded)
		if !strings.Contains(rep.Cause.Message, revision("v2").Short()) {
			t.Errorf("superseded: %s", rep.Cause.Message)
		}
		older.mustRun("staging", "v1")
	})
}

// The same while the older one waits for an approval: what was compared when its
// plan was made is compared again under the lock.
func TestOrder_UnchangedWhileAnOlderWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		s = s.on("x9")
		asked := 0
		s.whenAsked(func() {
			asked++
			s.ledger.mu.Lock()
			s.ledger.runs = append(s.ledger.runs, &ledgerRun{
				id: release.RolloutID("shop", "production"), run: "newer", begun: time.Now(), ended: time.Now(), in: release.RolloutRequest{},
				result: &release.Report{Status: release.Status{Outcome: release.Unchanged}, Head: &release.Head{Commit: commitOf("v2"), Covers: []string{commitOf("v1")}}},
			})
			s.ledger.mu.Unlock()
			s.approve()
		})
		rep := s.mustEnd(release.Superseded)
		if asked != 1 || !strings.Contains(rep.Cause.Message, revision("v2").Short()) {
			t.Errorf("asked %d times; superseded: %s", asked, rep.Cause.Message)
		}
		s.mustRun("production", "v1")
	})
}

// A rollback brings back what the environment was as a whole, too: a revision
// between what machines name and that is older.
func TestOrder_OlderAfterRollback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		unchanged := s.on("v2")
		unchanged.mustEnd(release.Unchanged)
		newest := unchanged.on("v3")
		newest.whenAsked(newest.approve)
		newest.mustEnd(release.Promoted)
		back := newest.on("v3")
		back.req.Rollback = &release.Rollback{Environment: "staging", Reason: "checkout is down"}
		back.endPins()
		back.mustEnd(release.Restored)
		back.mustRun("staging", "v1")
		for _, r := range back.ledger.runs { // somebody unpins it
			if r.ended.IsZero() {
				r.ended = time.Now()
			}
		}
		older := back.on("x9")
		older.req.To = "staging"
		older.mustEnd(release.Superseded)
		older.mustRun("staging", "v1")
	})
}

// A release without changes does not overtake a rollout that holds the lock, and a
// pinned environment stays what it was.
func TestOrder_UnchangedInAPinnedEnvironment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		s = s.on("v2")
		s.ledger.runs = append(s.ledger.runs, &ledgerRun{
			id: release.PinID("shop", "staging"), run: "pin", begun: time.Now(), in: release.Pin{Project: "shop", Environment: "staging", By: "ana"},
		})
		s.mustEnd(release.Unchanged)
		for _, r := range s.ledger.runs {
			rep, ok := r.result.(*release.Report)
			if ok && r.id == release.RolloutID("shop", "staging") && rep.Head != nil && rep.Head.Commit == commitOf("v2") {
				t.Error("a pinned environment is said to be at v2")
			}
		}
	})
}
