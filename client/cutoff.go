package client

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

// addLastRollout adds to s, the snapshot of a release that was terminated or timed out,
// the result of its last rollout. Temporal cancels that rollout, which then ends itself.
func (c *Client) addLastRollout(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, s *Snapshot) {
	rollout, err := c.findLastRollout(ctx, info.GetExecution())
	if err != nil {
		return // the snapshot has the termination without the rollout
	}
	cause := c.describeEnd(ctx, info.GetExecution())
	id := rollout.GetExecution().GetWorkflowId()
	switch {
	case rollout == nil:
		s.Outcome, s.Failed = release.Stopped, ""
		cause += "; no machine was changed"
	case rollout.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING:
		cause += "; its rollout continues: release status " + id
		s.Failed = cause
	case rollout.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		cause += fmt.Sprintf("; %s, too: nothing was rolled back, and the next release or rollback there resumes from its baseline", c.describeEnd(ctx, rollout.GetExecution()))
		s.Failed = cause
	default:
		format := "its rollout of %s continued and ended: %s"
		if rollout.GetCloseTime().AsTime().Before(info.GetCloseTime().AsTime()) {
			format = "its rollout of %s had ended before: %s"
		}
		cause += c.addRolloutReport(ctx, rollout, s, format)
	}
	s.Cause = &release.Cause{Message: cause}
}

// addRolloutReport adds the report of the last rollout of a terminated release to s. It
// returns format with the environment and the outcome, or the error of reading the report.
func (c *Client) addRolloutReport(ctx context.Context, rollout *workflowpb.WorkflowExecutionInfo, s *Snapshot, format string) string {
	var report release.Report
	err := c.temporal.GetWorkflow(ctx, rollout.GetExecution().GetWorkflowId(), rollout.GetExecution().GetRunId()).Get(ctx, &report)
	if err != nil {
		return "; the report of its rollout could not be read: " + err.Error()
	}
	s.Status = view.Merge(s.Status, &report.Status)
	s.Failed, s.Outcome, s.Phase, s.Ended = "", terminatedOutcome(report.Outcome), release.Done, report.Ended
	s.Held, s.Gate, s.Queue = nil, nil, ""
	return "; " + fmt.Sprintf(format, report.Environment, report.Outcome)
}

// terminatedOutcome returns the outcome of a terminated release from the outcome of its
// last rollout.
func terminatedOutcome(rollout release.Outcome) release.Outcome {
	if rollout == release.RolledBack || rollout == release.Kept {
		return rollout
	}
	return release.Stopped
}

// findLastRollout returns the newest rollout of a release, or nil if it has none.
func (c *Client) findLastRollout(ctx context.Context, of *commonpb.WorkflowExecution) (*workflowpb.WorkflowExecutionInfo, error) {
	call, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	list, err := c.temporal.ListWorkflow(call, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: c.namespace, PageSize: 1,
		Query: fmt.Sprintf("WorkflowType = '%s' AND ParentWorkflowId = '%s' AND ParentRunId = '%s'", release.RolloutWorkflow, of.GetWorkflowId(), of.GetRunId()),
	})
	if err != nil || len(list.GetExecutions()) == 0 {
		return nil, err
	}
	return list.GetExecutions()[0], nil
}

// describeEnd returns a sentence on the end of a workflow that ended without a report.
func (c *Client) describeEnd(ctx context.Context, of *commonpb.WorkflowExecution) string {
	last := c.temporal.GetWorkflowHistory(ctx, of.GetWorkflowId(), of.GetRunId(), false, enums.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
	if last.HasNext() {
		if event, err := last.Next(); err == nil {
			if sentence := activities.DescribeEnd(of.GetWorkflowId(), event); sentence != "" {
				return sentence
			}
		}
	}
	return of.GetWorkflowId() + " ended without a report"
}

// correctOutcome sets the outcome of a terminated release in a list from its last rollout.
func (c *Client) correctOutcome(ctx context.Context, e *release.Entry) {
	rollout, err := c.findLastRollout(ctx, &commonpb.WorkflowExecution{WorkflowId: e.ID, RunId: e.Run})
	switch {
	case err != nil:
	case rollout == nil:
		e.Outcome = string(release.Stopped)
	case rollout.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		e.Outcome = string(terminatedOutcome(release.Outcome(newEntry(rollout).Outcome)))
	}
}
