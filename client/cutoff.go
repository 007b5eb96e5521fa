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

// addRolloutOfCutOff adds to s, a release that was cut off, how its last rollout
// ended: that gets a cancellation and ends by itself.
func (c *Client) addRolloutOfCutOff(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, s *Snapshot) {
	rollout, err := c.lastRollout(ctx, info.GetExecution())
	if err != nil {
		return // the snapshot says that it was cut off
	}
	cause := c.describeEnd(ctx, info.GetExecution())
	id := rollout.GetExecution().GetWorkflowId()
	switch {
	case rollout == nil:
		s.Outcome, s.Failed = release.Stopped, ""
		cause += "; it had changed nothing"
	case rollout.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING:
		cause += "; its rollout continues by itself: release status " + id
		s.Failed = cause
	case rollout.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		cause += fmt.Sprintf("; %s, too: nothing was brought back, and the next release or rollback there begins with what ran before", c.describeEnd(ctx, rollout.GetExecution()))
		s.Failed = cause
	default:
		format := "its rollout of %s went on by itself and ended: %s"
		if rollout.GetCloseTime().AsTime().Before(info.GetCloseTime().AsTime()) {
			format = "before that its rollout of %s had ended: %s"
		}
		cause += c.addReportOfRollout(ctx, rollout, s, format)
	}
	s.Cause = &release.Cause{Message: cause}
}

// addReportOfRollout adds the report of a cut-off release's last rollout to s. It
// returns a sentence: format with the environment and the outcome.
func (c *Client) addReportOfRollout(ctx context.Context, rollout *workflowpb.WorkflowExecutionInfo, s *Snapshot, format string) string {
	var report release.Report
	err := c.temporal.GetWorkflow(ctx, rollout.GetExecution().GetWorkflowId(), rollout.GetExecution().GetRunId()).Get(ctx, &report)
	if err != nil {
		return "; the report of its rollout could not be read: " + err.Error()
	}
	s.Status = view.Merge(s.Status, &report.Status)
	s.Failed, s.Outcome, s.Phase, s.Ended = "", outcomeOfCutOff(report.Outcome), release.Done, report.Ended
	s.Held, s.Gate, s.Queue = nil, nil, ""
	return "; " + fmt.Sprintf(format, report.Environment, report.Outcome)
}

// outcomeOfCutOff returns the outcome of a cut-off release whose last rollout has
// ended with that outcome.
func outcomeOfCutOff(rollout release.Outcome) release.Outcome {
	if rollout == release.RolledBack || rollout == release.Kept {
		return rollout
	}
	return release.Stopped
}

// lastRollout returns the newest rollout of a release, or nil if it has none.
func (c *Client) lastRollout(ctx context.Context, of *commonpb.WorkflowExecution) (*workflowpb.WorkflowExecutionInfo, error) {
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

// describeEnd returns in a sentence how a workflow ended that did not end by itself.
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

// correctOutcome sets the outcome of a cut-off release in a list to that of its last
// rollout.
func (c *Client) correctOutcome(ctx context.Context, e *release.Entry) {
	rollout, err := c.lastRollout(ctx, &commonpb.WorkflowExecution{WorkflowId: e.ID, RunId: e.Run})
	switch {
	case err != nil:
	case rollout == nil:
		e.Outcome = string(release.Stopped)
	case rollout.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		e.Outcome = string(outcomeOfCutOff(release.Outcome(entryOf(rollout).Outcome)))
	}
}
