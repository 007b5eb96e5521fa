package view_test

import (
	"strings"
	"testing"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// logText returns the lines of events of one run.
func logText(log *view.Log, run string, events ...release.Event) string {
	var b strings.Builder
	for _, e := range events {
		for _, line := range log.Lines(run, e) {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// machineEvent returns the event of a step on a machine of a target.
func machineEvent(t release.TargetStatus, i int, p release.Progress) release.Event {
	m := t.Machines[i]
	m.Verb, m.Progress = release.Update, p
	return release.MachineChanged(t.Target, view.Ref(m.Name), m)
}

// outcomeResult returns the result of a rollout that has ended with e.
func outcomeResult(e release.EnvironmentStatus, notes ...string) *release.RolloutResult {
	return &release.RolloutResult{Environment: &e, Notes: notes}
}

// A release from its start to its gate, its rollout, which is held and then rolled back,
// and its end. The first event of each rollout and what its release repeats give no line.
func TestLog(t *testing.T) {
	const main, staged, produced = "run-1", "run-2", "run-3"
	s, back := status(), rolledBack()
	log := new(view.Log)
	var b strings.Builder
	add := func(run string, events ...release.Event) { b.WriteString(logText(log, run, events...)) }
	add(main, release.WorkflowBegun(release.Begun{ID: s.ID, Run: main, Project: s.Project, Revision: s.Revision, By: s.By}),
		release.PhaseEntered(release.Loading, ""), release.PathExtended([]string{"staging", "production"}, ""),
		release.PhaseEntered(release.Preflight, ""), release.PhaseEntered(release.Building, ""),
		release.JobStarted("test unit"), release.TestFinished(s.Tests[0]), release.JobEnded("test unit"),
		release.BuildFinished(s.Builds[0]), release.BuildFinished(s.Builds[1]),
		release.PhaseEntered(release.Planning, "staging"), release.QueueJoined("staging", "release/microbima/aaaa holds staging", ""),
		release.QueueLeft("staging"), release.PhaseEntered(release.RollingOut, "staging"),
		release.RolloutStarted("staging", release.RolloutRef{ID: "rollout/microbima/staging", Run: staged}))
	e := staging()
	add(staged, release.WorkflowBegun(release.Begun{ID: "rollout/microbima/staging", Run: staged, Release: s.ID}),
		release.PhaseEntered(release.RollingOut, "staging"), release.TargetsPlanned("staging", e.Targets, nil),
		release.MachineChanged(e.Targets[0].Target, "s-one", e.Targets[0].Machines[0]),
		release.PhaseEntered(release.Verifying, "staging"),
		release.VerdictReached(e.Verdicts[0]), release.VerdictReached(e.Verdicts[1]), release.PhaseEntered(release.Baking, "staging"),
		release.VerdictReached(e.Verdicts[0]), release.Noted("a remark"),
		release.OutcomeReached("staging", release.Promoted, nil), release.WorkflowEnded(release.Promoted))
	add(main, release.RolloutEnded("staging", release.RolloutRef{}, outcomeResult(e, "a remark", "a remark that was not read")),
		release.PhaseEntered(release.AwaitingApproval, "production"), release.GateOpened(*s.Gate),
		release.ReviewReceived("production", s.Reviews[0]), release.ReviewReceived("production", s.Reviews[1]), release.GateClosed("production"),
		release.PhaseEntered(release.RollingOut, "production"))
	p := back.Environments[1]
	add(produced, release.WorkflowBegun(release.Begun{ID: "rollout/microbima/production", Run: produced, Release: s.ID}),
		release.PhaseEntered(release.RollingOut, "production"), release.CommandRan(p.Commands[0]),
		machineEvent(p.Targets[0], 0, release.ProgressDone), machineEvent(p.Targets[0], 1, release.ProgressRunning), machineEvent(p.Targets[0], 1, release.ProgressFailed),
		release.RolloutHeld("production", *held().Held), release.PhaseEntered(release.HeldPhase, "production"),
		release.HoldEnded("production", &release.Resolution{}, "held (Fly refuses), then rollback by bob"), release.PhaseEntered(release.RollingBack, "production"),
		release.CauseFound(*back.Cause), release.OutcomeReached("production", release.RolledBack, nil), release.WorkflowEnded(release.RolledBack))
	add(main, release.RolloutEnded("production", release.RolloutRef{}, outcomeResult(p)), release.Noted(back.Notes[0]),
		release.CauseFound(*back.Cause), release.WorkflowEnded(release.RolledBack))
	golden(t, "lines", b.String())
}

// The log of a rollout by itself has its start and its end.
func TestLog_RolloutAlone(t *testing.T) {
	got := logText(new(view.Log), "run-2",
		release.WorkflowBegun(release.Begun{ID: "rollout/shop/staging", Project: "shop", Release: "release/shop/4f2d"}),
		release.OutcomeReached("staging", release.Promoted, nil), release.WorkflowEnded(release.Promoted))
	if want := "release rollout/shop/staging of shop\nstaging: promoted\npromoted\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A new wait has a line, another attempt of it has none.
func TestWaitLines(t *testing.T) {
	s := release.Status{Waits: []release.Wait{{Workflow: "w", Activity: "Plan staging", Error: "Fly does not answer", Attempt: 2}}}
	again := release.Status{Waits: []release.Wait{{Workflow: "w", Activity: "Plan staging", Error: "Fly does not answer", Attempt: 3, Next: at(9)}}}
	ahead := release.Status{Queue: "release x holds it", HeldAhead: "release/shop/x", Waits: again.Waits}
	for i, test := range []struct {
		before, after release.Status
		want          string
	}{
		{release.Status{}, s, "waiting: Plan staging: Fly does not answer (attempt 2)"},
		{s, again, ""},
		{again, ahead, "waiting: release x holds it; it is held and waits for: release resolve x"},
		{ahead, ahead, ""},
	} {
		if got := strings.Join(view.WaitLines(test.before, test.after), "\n"); got != test.want {
			t.Errorf("%d: got %q, want %q", i, got, test.want)
		}
	}
}
