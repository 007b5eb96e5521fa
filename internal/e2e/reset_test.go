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
	runCases(t, "reset", map[string]rollbackCase{
		"after the start of a running rollout":  {before: "v1", run: (*rollbackTest).resetWhileRollingOut},
		"after the start of a closed rollout":   {before: "v1", run: (*rollbackTest).resetAfterwards},
		"before the start of a running rollout": {before: "v1", run: (*rollbackTest).resetToTheGateWhileRollingOut},
		"before the start of a closed rollout":  {before: "v1", run: (*rollbackTest).resetToTheGate},
		"held after the rollout was terminated": {before: "v1", run: (*rollbackTest).resetWhileTakenOver},
		"after another release":                 {before: "v1", run: (*rollbackTest).resetAfterAnother},
		"release and rollout terminated":        {before: "v1", run: (*rollbackTest).resetAfterBoth},
	})
}

// resetWhileRollingOut resets the release after one of two machines was updated.
func (b *rollbackTest) resetWhileRollingOut() {
	b.startIncomplete()
	b.resetTo(lastRollout)
	b.endFault()
	b.checkSettled("v2")
}

// resetAfterwards resets a promoted release to the start of its rollout.
func (b *rollbackTest) resetAfterwards() {
	b.promote("v2")
	b.resetTo(lastRollout)
	b.checkSettled("v2")
}

// The rollout of the reset run has no parent then.
func (b *rollbackTest) resetToTheGateWhileRollingOut() {
	b.startIncomplete()
	b.resetTo(beforeRollouts)
	b.endFault()
	b.checkSettled("v2")
}

func (b *rollbackTest) resetToTheGate() {
	b.promote("v2")
	b.resetTo(beforeRollouts)
	b.checkSettled("v2")
}

// resetWhileTakenOver resets the release while a rollout holds the place of a terminated
// one.
func (b *rollbackTest) resetWhileTakenOver() {
	b.terminateMidRollout()
	b.checkHold(b.waitForHold())
	b.resetTo(lastRollout)
	b.resolveHold(release.ChoiceRollback)
	b.checkSettled("v1")
}

// resetAfterBoth resets a release that was terminated together with its rollout, after
// another release was promoted. Temporal sent no notice of the end of the rollout,
// because its parent was closed: the release reads it and ends.
func (b *rollbackTest) resetAfterBoth() {
	b.startIncomplete()
	b.requireNoError(b.c.TerminateWorkflow(b.ctx, b.run.GetID(), "", "by hand"))
	b.requireNoError(b.c.TerminateWorkflow(b.ctx, b.rolloutID(), "", "by hand"))
	b.endFault()
	first := b.run
	b.promote("v3")
	b.run = first
	b.resetTo(lastRollout)
	err := b.c.GetWorkflow(b.ctx, first.GetID(), "").Get(b.ctx, nil)
	if err == nil || !strings.Contains(err.Error(), "the rollout of production ended without a report while this release was closed: terminated") {
		b.fail("ended with %v", err)
	}
	b.checkVersion("v3")
}

// resetAfterAnother resets a release whose rollout was terminated and abandoned, after
// another release was promoted. The second release has replaced the result of the first,
// so that the first is superseded without a hold.
func (b *rollbackTest) resetAfterAnother() {
	b.terminateMidRollout()
	b.checkHold(b.waitForHold())
	b.resolveHold(release.ChoiceAbandon)
	if _, err := b.waitForReport(); err == nil {
		b.fail("an abandoned rollout is no failure")
	}
	b.endFault()
	first := b.run
	b.promote("v3")
	second := b.run.GetID()
	b.run = first
	b.resetTo(firstRollout)
	var report release.Report
	b.requireNoError(b.c.GetWorkflow(b.ctx, first.GetID(), "").Get(b.ctx, &report))
	if report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "since then "+second+" has changed production (promoted)") {
		b.fail("ended %q, %+v", report.Outcome, report.Cause)
	}
	b.checkVersion("v3")
}

// startIncomplete starts v2, whose rollout stays incomplete until b.endFault is called.
func (b *rollbackTest) startIncomplete() {
	second := b.sim.Machines(b.app)[1].ID
	b.endFault = b.sim.Inject(flysim.Fault{Route: update, App: b.app, Machine: second, Status: http.StatusServiceUnavailable})
	b.requireNoError(b.startRelease(request(b.project, "v2")))
	b.requireNoError(b.reviewNext(true))
	for b.ctx.Err() == nil && !slices.Contains(b.runningDigests(), digestOf("api", commitOf("v2"))) {
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

// resetTo resets the release to point.
func (b *rollbackTest) resetTo(point resetPoint) {
	run, err := b.c.DescribeWorkflowExecution(b.ctx, b.run.GetID(), "")
	b.requireNoError(err)
	exec := run.GetWorkflowExecutionInfo().GetExecution()
	events := b.c.GetWorkflowHistory(b.ctx, exec.GetWorkflowId(), exec.GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	to, task, started := int64(0), int64(0), false
	for events.HasNext() {
		e, err := events.Next()
		b.requireNoError(err)
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
		b.fail("there is nothing to reset to")
		return
	}
	_, err = b.c.ResetWorkflowExecution(b.ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", RequestId: b.project, Reason: "by hand", WorkflowTaskFinishEventId: to,
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: exec.GetWorkflowId(), RunId: exec.GetRunId()},
	})
	b.requireNoError(err)
}

// checkSettled checks that the release ends, with a resolution if it asks for one, that
// every machine runs version, and that nothing is left.
func (b *rollbackTest) checkSettled(version string) {
	ended := make(chan error, 1)
	var report release.Report
	ctx, cancel := context.WithTimeout(b.ctx, 3*time.Minute)
	defer cancel()
	go func() { ended <- b.c.GetWorkflow(ctx, b.run.GetID(), "").Get(ctx, &report) }()
	for plan := ""; ; {
		select {
		case err := <-ended:
			if err != nil {
				b.fail("after the reset: %v", err)
			}
			b.Logf("%s: after the reset: %q, %+v", b.story, report.Outcome, report.Cause)
			b.checkVersion(version)
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
			_ = b.review(true, plan) // or an earlier one counts
		}
	}
}
