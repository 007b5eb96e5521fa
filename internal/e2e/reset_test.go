package e2e_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// TestReset resets releases after the start of their rollout. The new run must not wait
// forever for results that it never receives.
func TestReset(t *testing.T) {
	playStories(t, "reset", map[string]backStory{
		"after the start of a running rollout":  {before: "v1", tell: (*back).resetWhileRollingOut},
		"after the start of a closed rollout":   {before: "v1", tell: (*back).resetAfterwards},
		"before the start of a running rollout": {before: "v1", tell: (*back).resetToTheGateWhileRollingOut},
		"before the start of a closed rollout":  {before: "v1", tell: (*back).resetToTheGate},
		"held after the rollout was terminated": {before: "v1", tell: (*back).resetWhileTakenOver},
		"after another release":                 {before: "v1", tell: (*back).resetAfterAnother},
		"release and rollout terminated":        {before: "v1", tell: (*back).resetAfterBoth},
	})
}

// resetWhileRollingOut resets the release after one of two machines was updated.
func (b *back) resetWhileRollingOut() {
	b.stuck()
	b.reset(lastRollout)
	b.calm()
	b.mustSettle("v2")
}

// resetAfterwards resets a promoted release to the start of its rollout.
func (b *back) resetAfterwards() {
	b.promote("v2")
	b.reset(lastRollout)
	b.mustSettle("v2")
}

// The rollout of the reset run has no parent then.
func (b *back) resetToTheGateWhileRollingOut() {
	b.stuck()
	b.reset(beforeRollouts)
	b.calm()
	b.mustSettle("v2")
}

func (b *back) resetToTheGate() {
	b.promote("v2")
	b.reset(beforeRollouts)
	b.mustSettle("v2")
}

// resetWhileTakenOver resets the release while a rollout holds the place of a terminated
// one.
func (b *back) resetWhileTakenOver() {
	b.terminates()
	b.mustSay(b.held())
	b.reset(lastRollout)
	b.say(release.GoBack)
	b.mustSettle("v1")
}

// resetAfterBoth resets a release that was terminated together with its rollout, after
// another release was promoted. Temporal sent no notice of the end of the rollout, because
// its parent was closed: the release reads it and ends.
func (b *back) resetAfterBoth() {
	b.stuck()
	b.must(b.c.TerminateWorkflow(b.ctx, b.run.GetID(), "", "by hand"))
	b.must(b.c.TerminateWorkflow(b.ctx, b.rollout(), "", "by hand"))
	b.calm()
	first := b.run
	b.promote("v3")
	b.run = first
	b.reset(lastRollout)
	err := b.c.GetWorkflow(b.ctx, first.GetID(), "").Get(b.ctx, nil)
	if err == nil || !strings.Contains(err.Error(), "the rollout of production ended without a report while this release was closed: terminated") {
		b.wrong("ended with %v", err)
	}
	b.mustRun("v3")
}

// resetAfterAnother resets a release whose rollout was terminated and abandoned, after
// another release was promoted. The second release has replaced the result of the first,
// so that the first is superseded without a hold.
func (b *back) resetAfterAnother() {
	b.terminates()
	b.mustSay(b.held())
	b.say(release.Abandon)
	if _, err := b.end(); err == nil {
		b.wrong("an abandoned rollout is no failure")
	}
	b.calm()
	first := b.run
	b.promote("v3")
	second := b.run.GetID()
	b.run = first
	b.reset(firstRollout)
	var report release.Report
	b.must(b.c.GetWorkflow(b.ctx, first.GetID(), "").Get(b.ctx, &report))
	if report.Outcome != release.Superseded || report.Cause == nil || !strings.Contains(report.Cause.Message, "since then "+second+" has changed production (promoted)") {
		b.wrong("ended %q, %+v", report.Outcome, report.Cause)
	}
	b.mustRun("v3")
}

// stuck starts v2, whose rollout stays incomplete until b.calm is called.
func (b *back) stuck() {
	second := b.sim.Machines(b.app)[1].ID
	b.calm = b.sim.Inject(flysim.Fault{Route: update, App: b.app, Machine: second, Status: http.StatusServiceUnavailable})
	b.must(b.begin(request(b.project, "v2")))
	b.must(b.decide(true))
	for b.ctx.Err() == nil && !slices.Contains(b.versions(), digestOf("api", commitOf("v2"))) {
		time.Sleep(20 * time.Millisecond)
	}
}

// A resetPoint is the event to which a release is reset.
type resetPoint int

const (
	beforeRollouts resetPoint = iota // before the start of the first rollout
	firstRollout                     // after the start of the first rollout
	lastRollout
)

// reset resets the release to point.
func (b *back) reset(point resetPoint) {
	run, err := b.c.DescribeWorkflowExecution(b.ctx, b.run.GetID(), "")
	b.must(err)
	exec := run.GetWorkflowExecutionInfo().GetExecution()
	events := b.c.GetWorkflowHistory(b.ctx, exec.GetWorkflowId(), exec.GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	to, task, started := int64(0), int64(0), false
	for events.HasNext() {
		e, err := events.Next()
		b.must(err)
		switch e.GetEventType() {
		case enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			if task = e.GetEventId(); started && (point == lastRollout || point == firstRollout && to == 0) {
				to, started = task, false
			}
		case enums.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
			if point == beforeRollouts && to == 0 {
				to = task
			}
		case enums.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
			started = true
		}
	}
	if to == 0 {
		b.wrong("there is nothing to reset to")
		return
	}
	_, err = b.c.ResetWorkflowExecution(b.ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", RequestId: b.project, Reason: "by hand", WorkflowTaskFinishEventId: to,
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: exec.GetWorkflowId(), RunId: exec.GetRunId()},
	})
	b.must(err)
}

// mustSettle checks that the release ends, with a resolution if it asks for one, that every
// machine runs version, and that nothing is left.
func (b *back) mustSettle(version string) {
	ended := make(chan error, 1)
	var report release.Report
	ctx, cancel := context.WithTimeout(b.ctx, 3*time.Minute)
	defer cancel()
	go func() { ended <- b.c.GetWorkflow(ctx, b.run.GetID(), "").Get(ctx, &report) }()
	for plan := ""; ; {
		select {
		case err := <-ended:
			if err != nil {
				b.wrong("after the reset: %v", err)
			}
			b.Logf("%s: after the reset: %q, %+v", b.story, report.Outcome, report.Cause)
			b.mustRun(version)
			return
		case <-time.After(200 * time.Millisecond):
		}
		var s release.Status
		v, err := b.c.QueryWorkflow(ctx, b.run.GetID(), "", release.StatusQuery)
		if err != nil || v.Get(&s) != nil {
			continue
		}
		if s.Gate != nil && s.Gate.Plan != plan && s.Outcome == "" {
			plan = s.Gate.Plan
			_ = b.answer(true, plan) // or an earlier one counts
		}
	}
}
