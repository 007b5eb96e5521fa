// Package cost counts the events and actions of workflow histories, and their price on
// Temporal Cloud.
package cost

import (
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/microbima/release/release"
)

// DollarsPerMillion is the price of a million actions on Temporal Cloud, without
// discount.
const DollarsPerMillion = 50.0

// A Cost is the number of events in the histories of a release's workflows, and of the
// actions that Temporal Cloud would bill.
type Cost struct {
	Events  int `json:"events"`
	Actions int `json:"actions"`
	// Heartbeats are part of the actions. Histories do not record them; their number is
	// an estimate.
	Heartbeats int `json:"heartbeats"`
}

// Plus returns the sum of c and d.
func (c Cost) Plus(d Cost) Cost {
	return Cost{Events: c.Events + d.Events, Actions: c.Actions + d.Actions, Heartbeats: c.Heartbeats + d.Heartbeats}
}

// Dollars returns the price at DollarsPerMillion.
func (c Cost) Dollars() float64 { return float64(c.Actions) * DollarsPerMillion / 1e6 }

// String returns the cost on one line, or "" if c has no events.
func (c Cost) String() string {
	if c.Events == 0 {
		return ""
	}
	noun := "actions"
	if c.Actions == 1 {
		noun = "action"
	}
	return fmt.Sprintf("%d history events; %d %s on Temporal Cloud, about %d of them heartbeats, $%.4f at $%.0f per million (queries not included)",
		c.Events, c.Actions, noun, c.Heartbeats, c.Dollars(), DollarsPerMillion)
}

// Of counts the actions that Temporal Cloud bills for one history: starts (two for a
// child), activities with their retries, timers, signals, updates, upserts of search
// attributes, one for each workflow task with local activities, and heartbeats.
// Heartbeats leave no event: Of estimates them from the time that an activity ran, up
// to now, and its heartbeat timeout. Queries are not counted.
func Of(events []*historypb.HistoryEvent, now time.Time) Cost {
	c := Cost{Events: len(events)}
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
			now = e.GetEventTime().AsTime() // activities send no heartbeats after it
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

// An activity is a scheduled activity without a closing event so far.
type activity struct {
	since   time.Time // start of its last attempt, or its scheduling if no attempt is recorded
	timeout time.Duration
}

// heartbeats returns how many heartbeats the activity sent until a time.
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
