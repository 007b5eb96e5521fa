package sim

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

// A record is the history of a rollout, as far as anybody reads it.
type historyRecord struct{ events []*historypb.HistoryEvent }

func (r *historyRecord) appendEvent(e *historypb.HistoryEvent) int64 {
	e.EventId, e.EventTime = int64(len(r.events)+1), timestamppb.New(time.Now())
	r.events = append(r.events, e)
	return e.EventId
}

func encodePayloads(values ...any) *commonpb.Payloads {
	out, err := converter.GetDefaultDataConverter().ToPayloads(values...)
	if err != nil {
		panic(err) // plain data
	}
	return out
}

// recorded are the activities that somebody looks for in a history.
var recordedActivities = []string{"RecordBaseline", "TakeLeases", "OpenRollout", "ApplyStep", "Wake"}

// endsWithoutReport reports whether a rollout of the case may: it is terminated, or
// abandoned.
func (s *simulation) mayEndWithoutReport() bool {
	return s.hasTrouble(terminated) || s.hasLastingTrouble() || slices.Contains(s.Answers, release.Abandon)
}

// starts records that a rollout begins.
func (c *checker) recordStarted(r *rolloutRun) {
	if !c.recordsHistories {
		return
	}
	r.history.appendEvent(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: "Rollout"}, Input: encodePayloads(r.req),
		}}})
}

// schedules records that a rollout schedules an activity of that ID.
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

// A scheduled activity is one of a rollout's, and its event there.
type scheduledActivity struct {
	*rolloutRun
	event int64
}

// completes records the result of an activity of that ID.
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

// closes records that a rollout was terminated.
func (r *rolloutRun) recordTerminated() {
	r.history.appendEvent(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionTerminatedEventAttributes{WorkflowExecutionTerminatedEventAttributes: &historypb.WorkflowExecutionTerminatedEventAttributes{
			Reason: "simulated", Identity: "ben",
		}}})
}

// An eventIterator reads a record.
type eventIterator struct {
	rest []*historypb.HistoryEvent
	lost bool // it is no longer kept
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
