package cost_test

import (
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/microbima/release/internal/cost"
	"github.com/microbima/release/internal/view"
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
	})
	if want := (view.Cost{Events: 17, Actions: 11}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if d := (view.Cost{Actions: 1_000_000}).Dollars(); d != 50 {
		t.Errorf("a million actions cost $%f", d)
	}
}
