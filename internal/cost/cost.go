// Package cost counts what the history of a workflow costs on Temporal Cloud.
package cost

import (
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/microbima/release/internal/view"
)

// Of counts what Temporal Cloud would count as actions of one history: starts
// (twice for a child), activities with their retries, timers, signals, updates,
// changes of search attributes, and local activities, once for each workflow
// task that ran some. Heartbeats and queries leave no event.
func Of(events []*historypb.HistoryEvent) view.Cost {
	c := view.Cost{Events: len(events)}
	local := map[int64]bool{}
	for _, e := range events {
		switch e.EventType {
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			c.Actions++
			if e.GetWorkflowExecutionStartedEventAttributes().GetParentWorkflowExecution() != nil {
				c.Actions++
			}
		case enums.EVENT_TYPE_ACTIVITY_TASK_STARTED:
			c.Actions += max(1, int(e.GetActivityTaskStartedEventAttributes().GetAttempt()))
		case enums.EVENT_TYPE_TIMER_STARTED,
			enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
			enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
			enums.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
			enums.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED:
			c.Actions++
		case enums.EVENT_TYPE_MARKER_RECORDED:
			if m := e.GetMarkerRecordedEventAttributes(); m.GetMarkerName() == "LocalActivity" && !local[m.GetWorkflowTaskCompletedEventId()] {
				local[m.GetWorkflowTaskCompletedEventId()] = true
				c.Actions++
			}
		}
	}
	return c
}
