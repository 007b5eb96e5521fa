package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
)

// queueLimit is the time after which an activity without a worker is reported.
const queueLimit = 10 * time.Second

// addWaits adds to s the waiting activities of a workflow and of its rollout, and the
// workflow task failure of one of the two. Temporal does not bill these reads as actions.
// It leaves out reads that fail, because callers repeat them.
func (c *Client) addWaits(ctx context.Context, s *Snapshot, described *workflowservice.DescribeWorkflowExecutionResponse) {
	s.Waits, s.TaskFailure = c.listWaits(ctx, described), c.findTaskFailure(ctx, described)
	for _, child := range described.GetPendingChildren() {
		rollout, err := c.temporal.DescribeWorkflowExecution(ctx, child.GetWorkflowId(), child.GetRunId())
		if err != nil {
			continue
		}
		s.Waits = append(s.Waits, c.listWaits(ctx, rollout)...)
		if s.TaskFailure == nil {
			s.TaskFailure = c.findTaskFailure(ctx, rollout)
		}
	}
}

// listWaits returns the waiting activities of one workflow, the next retry first.
func (c *Client) listWaits(ctx context.Context, described *workflowservice.DescribeWorkflowExecutionResponse) (waits []release.Wait) {
	for _, a := range described.GetPendingActivities() {
		w := release.Wait{Workflow: described.WorkflowExecutionInfo.Execution.WorkflowId, Attempt: int(a.Attempt), Error: c.lastError(a)}
		if a.State == enums.PENDING_ACTIVITY_STATE_SCHEDULED && a.Attempt > 1 && a.NextAttemptScheduleTime != nil {
			w.Next = a.NextAttemptScheduleTime.AsTime()
		}
		if w.Error != "" {
			w.Activity = c.readSummary(ctx, described.WorkflowExecutionInfo.Execution, a)
			waits = append(waits, w)
		}
	}
	slices.SortFunc(waits, func(a, b release.Wait) int { return a.Next.Compare(b.Next) })
	return waits
}

// lastError returns the reason why an activity is delayed, or "".
func (c *Client) lastError(a *workflowpb.PendingActivityInfo) string {
	var heartbeat release.Heartbeat
	failed := a.GetLastFailure()
	switch {
	case a.GetPaused():
		return "it was paused in the Temporal UI: unpause it there to continue"
	case payload.NewConverter().FromPayloads(a.HeartbeatDetails, &heartbeat) == nil && heartbeat.Waiting != "" && a.State != enums.PENDING_ACTIVITY_STATE_SCHEDULED:
		return heartbeat.Waiting
	case a.State == enums.PENDING_ACTIVITY_STATE_SCHEDULED && a.Attempt <= 1 && c.now().Sub(a.ScheduledTime.AsTime()) > queueLimit:
		return fmt.Sprintf("no worker has taken it from the task queue %s: all workers of that queue are busy, or none runs", a.GetActivityOptions().GetTaskQueue().GetName())
	case failed == nil || a.Attempt <= 1:
		return ""
	case failed.GetTimeoutFailureInfo() == nil:
		return failed.GetMessage()
	case a.State == enums.PENDING_ACTIVITY_STATE_SCHEDULED:
		return "the worker that ran it did not respond in time"
	}
	return "" // its worker died, and another one resumes it
}

// readSummary returns the summary of a pending activity from the event that scheduled it,
// or its type if there is none.
func (c *Client) readSummary(ctx context.Context, run *commonpb.WorkflowExecution, a *workflowpb.PendingActivityInfo) string {
	key := run.RunId + " " + a.ActivityId
	if known, ok := c.summaries.Load(key); ok {
		return known.(string)
	}
	it := c.temporal.GetWorkflowHistory(ctx, run.WorkflowId, run.RunId, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		event, err := it.Next()
		if err != nil {
			return a.ActivityType.GetName()
		}
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			var text string
			if payload.NewConverter().FromPayload(event.GetUserMetadata().GetSummary(), &text) != nil || text == "" {
				text = scheduled.ActivityType.GetName()
			}
			c.summaries.Store(run.RunId+" "+scheduled.ActivityId, text)
		}
	}
	if known, ok := c.summaries.Load(key); ok {
		return known.(string)
	}
	return a.ActivityType.GetName()
}

// recentEvents is the number of last events to search for a workflow task failure.
const recentEvents = 100

// findTaskFailure returns the current workflow task failure, or nil if there is none.
func (c *Client) findTaskFailure(ctx context.Context, described *workflowservice.DescribeWorkflowExecutionResponse) *release.TaskFailure {
	task, run := described.GetPendingWorkflowTask(), described.WorkflowExecutionInfo.Execution
	if task.GetAttempt() <= 1 {
		return nil
	}
	recent, err := c.temporal.WorkflowService().GetWorkflowExecutionHistoryReverse(ctx, &workflowservice.GetWorkflowExecutionHistoryReverseRequest{
		Namespace: c.namespace, Execution: run, MaximumPageSize: recentEvents,
	})
	if err != nil {
		return nil
	}
	for _, event := range recent.GetHistory().GetEvents() {
		switch event.EventType {
		case enums.EVENT_TYPE_WORKFLOW_TASK_FAILED:
			failed := event.GetWorkflowTaskFailedEventAttributes()
			message := failed.GetFailure().GetMessage()
			if message == "" {
				message = failed.GetCause().String()
			}
			return &release.TaskFailure{Workflow: run.WorkflowId, Attempt: int(task.GetAttempt()), Message: message}
		case enums.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT, enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			return nil // a worker died, and another one resumes it
		}
	}
	return nil
}
