package client

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// Describe returns the newest run of a workflow.
func (c *Client) Describe(ctx context.Context, id string) (Execution, error) {
	described, err := c.temporal.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return Execution{}, c.Wrap(ctx, "read "+id, err)
	}
	info := described.WorkflowExecutionInfo
	return Execution{ID: id, Run: info.Execution.RunId, Closed: info.CloseTime != nil}, nil
}

// Get returns a snapshot of a release or a rollout; run "" is its newest run. It reads
// the report of a completed workflow, and queries a worker otherwise.
func (c *Client) Get(ctx context.Context, id, run string) (Snapshot, error) {
	return c.readSnapshot(ctx, id, run, c.query)
}

// A statusReader returns the status of a workflow run.
type statusReader func(ctx context.Context, id, run string) (release.Status, error)

// readSnapshot is Get with another way to read the status of a running workflow.
func (c *Client) readSnapshot(ctx context.Context, id, run string, read statusReader) (Snapshot, error) {
	described, err := c.temporal.DescribeWorkflowExecution(ctx, id, run)
	if err != nil {
		return Snapshot{}, c.Wrap(ctx, "read "+id, err)
	}
	info := described.WorkflowExecutionInfo
	run = info.Execution.RunId
	var s Snapshot
	switch info.Status {
	case enums.WORKFLOW_EXECUTION_STATUS_RUNNING, enums.WORKFLOW_EXECUTION_STATUS_PAUSED:
		var waiting Snapshot
		c.addWaits(ctx, &waiting, described)
		s, err = c.queryStatus(ctx, info, waiting.TaskFailure != nil, read)
		s.Waits, s.TaskFailure = waiting.Waits, waiting.TaskFailure
	case enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		var report release.Report
		err = c.Wrap(ctx, "read the report of "+id, c.temporal.GetWorkflow(ctx, id, run).Get(ctx, &report))
		s.Status = report.Status
	default:
		s, err = c.queryStatus(ctx, info, false, read)
		s.Failed = describeFailure(c.temporal.GetWorkflow(ctx, id, run).Get(ctx, nil), info.Status)
		if s.Cause == nil {
			s.Cause = &release.Cause{Message: s.Failed}
		}
		if isCutOff(info.Status) && info.GetType().GetName() == release.ReleaseWorkflow {
			c.addLastRollout(ctx, info, &s)
		}
	}
	s.Page = c.PageURL(id, run)
	return s, err
}

// describeFailure returns the reason why a workflow did not complete.
func describeFailure(err error, status enums.WorkflowExecutionStatus) string {
	var failed *temporal.ApplicationError
	if errors.As(err, &failed) {
		return failed.Message()
	}
	switch status {
	case enums.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return "it was terminated: nothing was rolled back"
	case enums.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return "it was cancelled before it began"
	}
	if err != nil {
		return err.Error()
	}
	return "it ended as " + status.String()
}

// queryStatus queries the workflow and its running rollout. If no worker responds, or if
// the workflow task fails on all workers, it returns the facts that the server has.
func (c *Client) queryStatus(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, taskFails bool, read statusReader) (Snapshot, error) {
	id, run := info.Execution.WorkflowId, info.Execution.RunId
	status, err := read(ctx, id, run)
	if isWithoutWorker(ctx, err) || err != nil && taskFails && ctx.Err() == nil {
		return partialSnapshot(info), nil
	}
	if err != nil {
		return Snapshot{}, c.Wrap(ctx, "query "+id, err)
	}
	if status.Queue != "" && status.Outcome == "" {
		c.addHeld(ctx, &status)
	}
	if status.Rollout == "" || status.Outcome != "" {
		return Snapshot{Status: status}, nil
	}
	rollout, err := read(ctx, status.Rollout, "")
	if err != nil { // the rollout has not started
		return Snapshot{Status: status}, nil
	}
	return Snapshot{Status: view.Merge(status, &rollout)}, nil
}

// addHeld sets HeldAhead of s, a release that waits for an environment, if the rollout
// before it is held.
func (c *Client) addHeld(ctx context.Context, s *release.Status) {
	rollout, err := c.query(ctx, release.RolloutID(s.Project, s.Environment), "")
	if err == nil && rollout.Held != nil && rollout.Outcome == "" {
		s.HeldAhead = rollout.Release
	}
}

// partialSnapshot returns a snapshot with the facts that the server has without a worker.
func partialSnapshot(info *workflowpb.WorkflowExecutionInfo) Snapshot {
	e, request := newEntry(info), decodeRequest(info)
	if request.Rollback != nil {
		request.Revision = restoredRevision(info, request).Revision
	}
	return Snapshot{Partial: true, Status: release.Status{
		ID: e.ID, Run: e.Run, Project: e.Project, Revision: request.Revision, By: request.By,
		Phase: release.Phase(e.Phase), Environment: e.Environment, Started: e.Started, Ended: e.Ended,
	}}
}

func (c *Client) query(ctx context.Context, id, run string) (status release.Status, err error) {
	call, cancel := context.WithTimeout(ctx, c.workerTimeout)
	defer cancel()
	answer, err := c.temporal.QueryWorkflow(call, id, run, release.StatusQuery)
	if err != nil {
		return status, err
	}
	if err := answer.Get(&status); err != nil {
		return status, err
	}
	if err := release.CheckProtocol(status.Protocol, "worker"); err != nil {
		c.warn(err.Error())
	}
	return status, nil
}

// pollInterval is the interval at which WaitFor reads a release.
const pollInterval = 500 * time.Millisecond

// WaitFor reads a release until done returns true or the limit has passed, and returns
// the last Snapshot. It does not call done for partial snapshots.
func (c *Client) WaitFor(ctx context.Context, limit time.Duration, id, run string, done func(Snapshot) bool) (Snapshot, error) {
	end := time.Now().Add(limit)
	for {
		s, err := c.Get(ctx, id, run)
		if err != nil || !s.Partial && done(s) || time.Now().After(end) {
			return s, err
		}
		_ = sleep.For(ctx, pollInterval)
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
	}
}
