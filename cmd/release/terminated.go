package main

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// isCutOff reports whether a workflow was ended from outside, without a report.
func isCutOff(status enums.WorkflowExecutionStatus) bool {
	return status == enums.WORKFLOW_EXECUTION_STATUS_TERMINATED || status == enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT
}

// settle adds to seen, a release that was cut off, what became of its rollout:
// that gets a cancellation and ends by itself.
func (s *server) settle(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, seen *sight) {
	rollout, err := s.lastRollout(ctx, info.GetExecution())
	if err != nil {
		return // it is said that it was cut off
	}
	why := s.cutOff(ctx, info.GetExecution())
	ref := ""
	if rollout != nil {
		ref = rollout.GetExecution().GetWorkflowId()
	}
	switch {
	case rollout == nil:
		seen.Outcome, seen.Failed = release.Stopped, ""
		why += "; it had changed nothing"
	case rollout.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING:
		why += fmt.Sprintf("; its rollout goes on by itself: release status %s", ref)
		seen.Failed = why
	case rollout.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		why += fmt.Sprintf("; %s, too: nothing was brought back, and the next release or rollback there begins with what ran before", s.cutOff(ctx, rollout.GetExecution()))
		seen.Failed = why
	default:
		did := "its rollout of %s went on by itself and ended: %s"
		if rollout.GetCloseTime().AsTime().Before(info.GetCloseTime().AsTime()) {
			did = "before that its rollout of %s had ended: %s"
		}
		why += s.adopt(ctx, rollout, seen, did)
	}
	seen.Cause = &release.Cause{Message: why}
}

// adopt adds to seen what the last rollout of a release reports that was cut off. It
// returns that in words: did with the environment and the outcome.
func (s *server) adopt(ctx context.Context, rollout *workflowpb.WorkflowExecutionInfo, seen *sight, did string) string {
	var report release.Report
	err := s.GetWorkflow(ctx, rollout.GetExecution().GetWorkflowId(), rollout.GetExecution().GetRunId()).Get(ctx, &report)
	if err != nil {
		return "; the report of its rollout could not be read: " + err.Error()
	}
	seen.Status = view.Merged(seen.Status, &report.Status)
	seen.Failed, seen.Outcome, seen.Phase, seen.Ended = "", endOfCutOff(report.Outcome), release.Done, report.Ended
	seen.Held, seen.Gate, seen.Queue = nil, nil, ""
	return "; " + fmt.Sprintf(did, report.Environment, report.Outcome)
}

// endOfCutOff returns how a release ended that was cut off, whose last rollout
// ended so.
func endOfCutOff(rollout release.Outcome) release.Outcome {
	if rollout == release.RolledBack || rollout == release.Kept {
		return rollout
	}
	return release.Stopped
}

// lastRollout returns the newest rollout of a release, or nil if it has none.
func (s *server) lastRollout(ctx context.Context, of *commonpb.WorkflowExecution) (*workflowpb.WorkflowExecutionInfo, error) {
	call, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	list, err := s.ListWorkflow(call, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: s.namespace, PageSize: 1,
		Query: fmt.Sprintf("WorkflowType = '%s' AND ParentWorkflowId = '%s' AND ParentRunId = '%s'", release.RolloutWorkflow, of.GetWorkflowId(), of.GetRunId()),
	})
	if err != nil || len(list.GetExecutions()) == 0 {
		return nil, err
	}
	return list.GetExecutions()[0], nil
}

// cutOff returns in a sentence how a workflow ended that did not end by itself.
func (s *server) cutOff(ctx context.Context, of *commonpb.WorkflowExecution) string {
	last := s.GetWorkflowHistory(ctx, of.GetWorkflowId(), of.GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
	if last.HasNext() {
		if event, err := last.Next(); err == nil {
			if said := activities.DescribeEnd(of.GetWorkflowId(), event); said != "" {
				return said
			}
		}
	}
	return of.GetWorkflowId() + " ended without a report"
}

// settleEntry corrects the outcome of a release in a list that was cut off.
func (s *server) settleEntry(ctx context.Context, e *view.Entry) {
	rollout, err := s.lastRollout(ctx, &commonpb.WorkflowExecution{WorkflowId: e.ID, RunId: e.Run})
	switch {
	case err != nil:
	case rollout == nil:
		e.Outcome = string(release.Stopped)
	case rollout.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		e.Outcome = string(endOfCutOff(release.Outcome(entry(rollout).Outcome)))
	}
}
