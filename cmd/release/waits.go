package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// untaken is how long an activity waits for a worker before people are told.
const untaken = 10 * time.Second

// addWaits adds to seen what the activities of a workflow and of its rollout
// wait for, and why one of the two stands still. Temporal does not count these
// reads as actions. What cannot be read is left out: it is read again.
func (s *server) addWaits(ctx context.Context, seen *sight, described *workflowservice.DescribeWorkflowExecutionResponse) {
	seen.Waits, seen.TaskFailure = s.waits(ctx, described), s.taskFailure(ctx, described)
	for _, child := range described.GetPendingChildren() {
		rollout, err := s.DescribeWorkflowExecution(ctx, child.GetWorkflowId(), child.GetRunId())
		if err != nil {
			continue
		}
		seen.Waits = append(seen.Waits, s.waits(ctx, rollout)...)
		if seen.TaskFailure == nil {
			seen.TaskFailure = s.taskFailure(ctx, rollout)
		}
	}
}

// waits returns what the activities of one workflow wait for.
func (s *server) waits(ctx context.Context, described *workflowservice.DescribeWorkflowExecutionResponse) (waits []release.Wait) {
	for _, a := range described.GetPendingActivities() {
		w := release.Wait{Workflow: described.WorkflowExecutionInfo.Execution.WorkflowId, Attempt: int(a.Attempt), Error: s.lastError(a)}
		if a.State == enums.PENDING_ACTIVITY_STATE_SCHEDULED && a.Attempt > 1 && a.NextAttemptScheduleTime != nil {
			w.Next = a.NextAttemptScheduleTime.AsTime()
		}
		if w.Error != "" {
			w.What = s.summary(ctx, described.WorkflowExecutionInfo.Execution, a)
			waits = append(waits, w)
		}
	}
	slices.SortFunc(waits, func(a, b release.Wait) int { return a.Next.Compare(b.Next) })
	return waits
}

// lastError returns why an activity is not done yet, or "" when it goes on as it
// should.
func (s *server) lastError(a *workflowpb.PendingActivityInfo) string {
	var said release.Heartbeat
	failed := a.GetLastFailure()
	switch {
	case a.GetPaused():
		return "a person has paused it in the Temporal UI: it continues once it is unpaused there"
	case worker.DataConverter().FromPayloads(a.HeartbeatDetails, &said) == nil && said.Waiting != "" && a.State != enums.PENDING_ACTIVITY_STATE_SCHEDULED:
		return said.Waiting
	case a.State == enums.PENDING_ACTIVITY_STATE_SCHEDULED && a.Attempt <= 1 && s.env.now().Sub(a.ScheduledTime.AsTime()) > untaken:
		return fmt.Sprintf("no worker has taken it from the task queue %s: every worker of that queue is busy, or there is none", a.GetActivityOptions().GetTaskQueue().GetName())
	case failed == nil || a.Attempt <= 1:
		return ""
	case failed.GetTimeoutFailureInfo() == nil:
		return failed.GetMessage()
	case a.State == enums.PENDING_ACTIVITY_STATE_SCHEDULED:
		return "the worker that had it did not answer in time"
	}
	return "" // its worker died, and another one goes on with it
}

// summary returns the summary of a pending activity, from the event that
// scheduled it; else its type.
func (s *server) summary(ctx context.Context, run *commonpb.WorkflowExecution, a *workflowpb.PendingActivityInfo) string {
	key := run.RunId + " " + a.ActivityId
	if known, ok := s.summaries.Load(key); ok {
		return known.(string)
	}
	it := s.GetWorkflowHistory(ctx, run.WorkflowId, run.RunId, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		event, err := it.Next()
		if err != nil {
			return a.ActivityType.GetName()
		}
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			var text string
			if worker.DataConverter().FromPayload(event.GetUserMetadata().GetSummary(), &text) != nil || text == "" {
				text = scheduled.ActivityType.GetName()
			}
			s.summaries.Store(run.RunId+" "+scheduled.ActivityId, text)
		}
	}
	if known, ok := s.summaries.Load(key); ok {
		return known.(string)
	}
	return a.ActivityType.GetName()
}

// recentEvents is how far back the failure of a workflow task is looked for: its
// event is among the last ones.
const recentEvents = 100

// taskFailure returns why a workflow stands still, or nil when it does not.
func (s *server) taskFailure(ctx context.Context, described *workflowservice.DescribeWorkflowExecutionResponse) *release.TaskFailure {
	task, run := described.GetPendingWorkflowTask(), described.WorkflowExecutionInfo.Execution
	if task.GetAttempt() <= 1 {
		return nil
	}
	recent, err := s.WorkflowService().GetWorkflowExecutionHistoryReverse(ctx, &workflowservice.GetWorkflowExecutionHistoryReverseRequest{
		Namespace: s.namespace, Execution: run, MaximumPageSize: recentEvents,
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
			return nil // a worker died, and the next one goes on
		}
	}
	return nil
}
