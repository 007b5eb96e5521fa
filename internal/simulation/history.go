package simulation

import (
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/microbima/release/release"
)

// A historyRecord has the events of a rollout's history that activities read.
type historyRecord struct{ events []*historypb.HistoryEvent }

// appendEvent appends e with the current time and returns its ID.
func (r *historyRecord) appendEvent(e *historypb.HistoryEvent) int64 {
	e.EventId, e.EventTime = int64(len(r.events)+1), timestamppb.New(time.Now())
	r.events = append(r.events, e)
	return e.EventId
}

// encodePayloads returns the values in Temporal's encoding.
func encodePayloads(values ...any) *commonpb.Payloads {
	out, err := converter.GetDefaultDataConverter().ToPayloads(values...)
	if err != nil {
		panic(err) // plain data
	}
	return out
}

// recordedActivities are the activities that other activities look up in a history.
var recordedActivities = []string{"RecordBaseline", "TakeLeases", "OpenRollout", "ApplyStep", "Wake"}

// mayEndWithoutReport reports whether a rollout of the case may be terminated or
// abandoned.
func (s *simulation) mayEndWithoutReport() bool {
	return s.hasTrouble(terminated) || s.hasLastingTrouble() || slices.Contains(s.Answers, release.ChoiceAbandon)
}

// recordStarted records the start of a rollout.
func (c *checker) recordStarted(r *rolloutRun) {
	if !c.recordsHistories {
		return
	}
	r.history.appendEvent(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: "Rollout"}, Input: encodePayloads(r.req),
		}}})
}

// recordScheduled records that a rollout has scheduled an activity.
func (c *checker) recordScheduled(run, id, name string, args []any) {
	if !c.recordsHistories || !slices.Contains(recordedActivities, name) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rollouts {
		if r.runID == run {
			c.scheduled[id] = scheduledActivity{r, r.history.appendEvent(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
				Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
					ActivityId: id, ActivityType: &commonpb.ActivityType{Name: name}, Input: encodePayloads(args...),
				}}})}
		}
	}
}

// A scheduledActivity is an activity of a rollout and the ID of its scheduled event.
type scheduledActivity struct {
	*rolloutRun
	event int64
}

// recordCompleted records the result of an activity.
func (c *checker) recordCompleted(id string, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.scheduled[id]
	if !ok || !s.ended.IsZero() {
		return
	}
	done := &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: s.event}
	if value != nil {
		done.Result = encodePayloads(value)
	}
	s.history.appendEvent(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
		Attributes: &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{ActivityTaskCompletedEventAttributes: done}})
}

// recordTerminated records that the rollout was terminated.
func (r *rolloutRun) recordTerminated() {
	r.history.appendEvent(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionTerminatedEventAttributes{WorkflowExecutionTerminatedEventAttributes: &historypb.WorkflowExecutionTerminatedEventAttributes{
			Reason: "simulated", Identity: "ben",
		}}})
}

// An eventIterator iterates over the events of a history.
type eventIterator struct {
	rest []*historypb.HistoryEvent
	lost bool // the history was deleted
}

// HasNext implements client.HistoryEventIterator.
func (i *eventIterator) HasNext() bool { return len(i.rest) > 0 || i.lost }

// Next implements client.HistoryEventIterator.
func (i *eventIterator) Next() (*historypb.HistoryEvent, error) {
	if len(i.rest) == 0 {
		return nil, serviceerror.NewNotFound("workflow history not found")
	}
	e := i.rest[0]
	i.rest = i.rest[1:]
	return e, nil
}
