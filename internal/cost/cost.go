// Package cost counts what the history of a workflow costs on Temporal Cloud.
package cost

import (
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/microbima/release/release"
)

// Of counts what Temporal Cloud would count as actions of one history: starts
// (twice for a child), activities with their retries, timers, signals, updates,
// changes of search attributes, local activities, once for each workflow task
// that ran some, and heartbeats. Those leave no event: their number follows from
// how long an activity took until now at the latest, and from its heartbeat
// timeout. Queries are not counted.
func Of(events []*historypb.HistoryEvent, now time.Time) release.Cost {
	c := release.Cost{Events: len(events)}
	local := map[int64]bool{}
	running := map[int64]*activity{} // by scheduled event
	for _, e := range events {
		switch e.EventType {
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			c.Actions++
			if e.GetWorkflowExecutionStartedEventAttributes().GetParentWorkflowExecution() != nil {
				c.Actions++
			}
		case enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			running[e.EventId] = &activity{since: e.GetEventTime().AsTime(), timeout: e.GetActivityTaskScheduledEventAttributes().GetHeartbeatTimeout().AsDuration()}
		case enums.EVENT_TYPE_ACTIVITY_TASK_STARTED:
			c.Actions += max(1, int(e.GetActivityTaskStartedEventAttributes().GetAttempt()))
			if a := running[e.GetActivityTaskStartedEventAttributes().GetScheduledEventId()]; a != nil {
				a.since = e.GetEventTime().AsTime()
			}
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
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
			enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
			enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
			enums.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
			now = e.GetEventTime().AsTime() // nothing is heard of an activity after it
		}
		if id := closedActivity(e); running[id] != nil {
			c.Heartbeats += running[id].heartbeats(e.GetEventTime().AsTime())
			delete(running, id)
		}
	}
	for _, a := range running {
		c.Heartbeats += a.heartbeats(now)
	}
	c.Actions += c.Heartbeats
	return c
}

// An activity is one whose end was not read yet.
type activity struct {
	since   time.Time // of its last attempt; of its scheduling while none is in the history
	timeout time.Duration
}

// heartbeats returns how many heartbeats it sent until then.
func (a *activity) heartbeats(until time.Time) int {
	interval := release.HeartbeatInterval(a.timeout)
	if interval <= 0 || !until.After(a.since) {
		return 0
	}
	return int(until.Sub(a.since) / interval)
}

// closedActivity returns the event that scheduled the activity that e ends, or 0.
func closedActivity(e *historypb.HistoryEvent) int64 {
	switch e.EventType {
	case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		return e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId()
	case enums.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		return e.GetActivityTaskFailedEventAttributes().GetScheduledEventId()
	case enums.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		return e.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId()
	case enums.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
		return e.GetActivityTaskCanceledEventAttributes().GetScheduledEventId()
	}
	return 0
}
