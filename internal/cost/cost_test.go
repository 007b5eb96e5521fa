package cost_test

import (
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/microbima/release/internal/cost"
	"github.com/microbima/release/release"
)

// What Temporal Cloud counts, as its price list says.
func TestCost(t *testing.T) {
	event := func(kind enums.EventType, change ...func(*historypb.HistoryEvent)) *historypb.HistoryEvent {
		e := &historypb.HistoryEvent{EventType: kind}
		for _, c := range change {
			c(e)
		}
		return e
	}
	attempt := func(n int32) func(*historypb.HistoryEvent) {
		return func(e *historypb.HistoryEvent) {
			e.Attributes = &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{Attempt: n}}
		}
	}
	marker := func(name string, task int64) func(*historypb.HistoryEvent) {
		return func(e *historypb.HistoryEvent) {
			e.Attributes = &historypb.HistoryEvent_MarkerRecordedEventAttributes{MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{MarkerName: name, WorkflowTaskCompletedEventId: task}}
		}
	}
	child := func(e *historypb.HistoryEvent) {
		e.Attributes = &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			ParentWorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "release/shop/4f2d"},
		}}
	}
	got := cost.Of([]*historypb.HistoryEvent{
		event(enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, child),                         // 2
		event(enums.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED),                                   // nothing
		event(enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED),                                   // nothing
		event(enums.EVENT_TYPE_ACTIVITY_TASK_STARTED, attempt(3)),                         // 3
		event(enums.EVENT_TYPE_TIMER_STARTED),                                             // 1
		event(enums.EVENT_TYPE_TIMER_CANCELED),                                            // nothing
		event(enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED),                               // 1
		event(enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED),                        // 1
		event(enums.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES),                         // 1
		event(enums.EVENT_TYPE_MARKER_RECORDED, marker("LocalActivity", 7)),               // 1
		event(enums.EVENT_TYPE_MARKER_RECORDED, marker("LocalActivity", 7)),               // of the same task
		event(enums.EVENT_TYPE_MARKER_RECORDED, marker("LocalActivity", 9)),               // 1
		event(enums.EVENT_TYPE_MARKER_RECORDED, marker("SideEffect", 11)),                 // nothing
		event(enums.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED),                  // the child's own history counts it
		event(enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, marker("", 0)),               // nothing
		event(enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED, child),                // nothing
		event(enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, func(*historypb.HistoryEvent) {}), // nothing
	}, time.Now())
	if want := (release.Cost{Events: 17, Actions: 11}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if d := (release.Cost{Actions: 1_000_000}).Dollars(); d != 50 {
		t.Errorf("a million actions cost $%f", d)
	}
}

// A bake of an hour must not cost thousands of actions, and what its heartbeats
// cost is in the sum: a price without them is a false word.
func TestCost_HeartbeatsOfABake(t *testing.T) {
	start := time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC)
	at := func(d time.Duration, id int64, kind enums.EventType) *historypb.HistoryEvent {
		return &historypb.HistoryEvent{EventId: id, EventType: kind, EventTime: timestamppb.New(start.Add(d))}
	}
	scheduled := func(id int64, timeout time.Duration) *historypb.HistoryEvent {
		e := at(0, id, enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
		e.Attributes = &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{HeartbeatTimeout: durationpb.New(timeout)}}
		return e
	}
	started := at(time.Second, 7, enums.EVENT_TYPE_ACTIVITY_TASK_STARTED)
	started.Attributes = &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{ScheduledEventId: 5, Attempt: 1}}
	completed := at(time.Hour+time.Second, 8, enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
	completed.Attributes = &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: 5, StartedEventId: 7}}
	// A bake of an hour, and beside it leases that are kept until the workflow
	// ends, whose activity has no end in the history.
	events := []*historypb.HistoryEvent{scheduled(5, 30*time.Second), scheduled(6, 150*time.Second), started, completed, at(time.Hour+time.Minute, 9, enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED)}
	got := cost.Of(events, start.Add(48*time.Hour))
	if want := (release.Cost{Events: 5, Actions: 1 + 150 + 30, Heartbeats: 150 + 30}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := cost.Of(events[:3], start.Add(time.Second+10*time.Minute)); got.Heartbeats != 25+5 {
		t.Errorf("a bake under way for 10 minutes: %d heartbeats, want 30", got.Heartbeats)
	}
}
