package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// A lostTask is a task of a killed worker: an attempt of an activity, or the next
// workflow task.
type lostTask struct {
	id, run  string
	phase    release.Phase
	activity string // ID; "" for a workflow task
	attempt  int32
	killed   time.Time
}

func (l lostTask) String() string {
	if l.activity == "" {
		return fmt.Sprintf("%s (%s): its next task", l.id, l.phase)
	}
	return fmt.Sprintf("%s (%s): attempt %d of activity %s", l.id, l.phase, l.attempt, l.activity)
}

// An execution is one run of a workflow.
type execution struct{ id, run string }

// describeOpen describes the running workflows: releases and their rollouts.
func (s *chaosTest) describeOpen(ctx context.Context) (all []*workflowservice.DescribeWorkflowExecutionResponse) {
	var under []execution
	s.mu.Lock()
	for _, run := range s.running {
		under = append(under, execution{run.GetID(), run.GetRunID()})
	}
	s.mu.Unlock()
	for _, k := range listKinds() {
		for _, env := range k.shop.environments() {
			under = append(under, execution{release.RolloutID(k.name, env), ""})
		}
	}
	for _, u := range under {
		if d, err := s.c.DescribeWorkflowExecution(ctx, u.id, u.run); err == nil && d.WorkflowExecutionInfo.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			all = append(all, d)
		}
	}
	return all
}

// listLostTasks returns the tasks of a worker that was just killed. A release that
// waits for approval has none: it is sent a review that does not count, as a user may
// do.
func (s *chaosTest) listLostTasks(ctx context.Context) (lost []lostTask) {
	killed := time.Now()
	for _, d := range s.describeOpen(ctx) {
		is := d.WorkflowExecutionInfo.Execution
		l := lostTask{id: is.WorkflowId, run: is.RunId, phase: phaseOf(d.WorkflowExecutionInfo), killed: killed}
		var mine []lostTask
		for _, a := range d.PendingActivities {
			// Leases last for minutes. Their refresh may take as long, and nothing
			// waits for it.
			if a.State == enums.PENDING_ACTIVITY_STATE_STARTED && a.ActivityType.GetName() != "KeepLeases" {
				one := l
				one.activity, one.attempt = a.ActivityId, a.Attempt
				if got, limit := a.ActivityOptions.GetHeartbeatTimeout().AsDuration(), heartbeatLimit(a.ActivityType.GetName()); got > limit {
					s.recordRelease("", fmt.Errorf("%s: %s has a heartbeat timeout of %s, more than %s", l.id, a.ActivityType.GetName(), got, limit))
				}
				mine = append(mine, one)
			}
		}
		switch {
		case len(mine) > 0:
		case d.PendingWorkflowTask != nil:
			mine = append(mine, l)
		case l.phase == release.AwaitingApproval:
			nobody := release.ReviewInput{By: "nobody", Plan: strings.Repeat("0", 64)}
			if err := s.c.SignalWorkflow(ctx, l.id, l.run, release.ApproveSignal, nobody); err == nil {
				mine = append(mine, l)
			}
		}
		lost = append(lost, mine...)
	}
	return lost
}

// heartbeatLimit returns the longest heartbeat timeout of an activity. It bounds the time
// until another worker resumes it.
func heartbeatLimit(activity string) time.Duration {
	switch activity {
	case "ApplyStep":
		return 4 * time.Second
	case "Verify":
		return 30 * time.Second
	}
	return 10 * time.Second
}

func phaseOf(info *workflowpb.WorkflowExecutionInfo) (p release.Phase) {
	if p = release.Loading; info.SearchAttributes.GetIndexedFields()[release.AttrPhase] == nil {
		return p // no phase yet
	}
	if err := converter.GetDefaultDataConverter().FromPayload(info.SearchAttributes.IndexedFields[release.AttrPhase], &p); err != nil {
		return "unknown"
	}
	return p
}

// waitForResumption waits until all lost tasks have started again, and records the time
// since the start of the new worker.
func (s *chaosTest) waitForResumption(ctx context.Context, begun time.Time, lost []lostTask) {
	for end := begun.Add(time.Minute); len(lost) > 0 && sleep.For(ctx, 250*time.Millisecond) == nil; {
		lost = slices.DeleteFunc(lost, func(l lostTask) bool {
			at, err := s.findResumption(ctx, l)
			if err != nil {
				return false
			}
			s.recordResumption(l.phase, max(0, at.Sub(begun)))
			return true
		})
		if time.Now().After(end) {
			s.recordRelease("", fmt.Errorf("a minute after the start of a worker did not begin again: %v", lost))
			return
		}
	}
}

var errNotYet = errors.New("not yet")

// findResumption returns when a lost task started again.
func (s *chaosTest) findResumption(ctx context.Context, l lostTask) (time.Time, error) {
	if l.activity != "" {
		d, err := s.c.DescribeWorkflowExecution(ctx, l.id, l.run)
		if err != nil {
			return time.Time{}, err
		}
		for _, a := range d.PendingActivities {
			switch {
			case a.ActivityId != l.activity:
			case a.Attempt > l.attempt && a.State == enums.PENDING_ACTIVITY_STATE_STARTED:
				return a.LastStartedTime.AsTime(), nil
			default:
				return time.Time{}, errNotYet
			}
		}
	}
	all, err := historyOf(ctx, s.c, l.id, l.run)
	if err != nil {
		return time.Time{}, err
	}
	return l.findResumption(all.events)
}

// findResumption returns from a history when a lost task started again or became
// unnecessary.
func (l lostTask) findResumption(events []*historypb.HistoryEvent) (time.Time, error) {
	ids := map[int64]bool{} // of the events about the activity
	for _, e := range events {
		at := e.EventTime.AsTime()
		switch {
		case l.activity == "" && at.After(l.killed) && e.EventType == enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			return at, nil
		case l.activity == "":
		case e.GetActivityTaskScheduledEventAttributes().GetActivityId() == l.activity:
			ids[e.EventId] = true
		case ids[e.GetActivityTaskStartedEventAttributes().GetScheduledEventId()]:
			if e.GetActivityTaskStartedEventAttributes().Attempt > l.attempt {
				return at, nil
			}
		case ids[e.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId()],
			ids[e.GetActivityTaskCanceledEventAttributes().GetScheduledEventId()],
			ids[e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId()],
			ids[e.GetActivityTaskFailedEventAttributes().GetScheduledEventId()]:
			return at, nil
		}
	}
	return time.Time{}, errNotYet
}

// countEvents returns the number of events of each open workflow.
func (s *chaosTest) countEvents(ctx context.Context) map[execution]int64 {
	n := map[execution]int64{}
	for _, d := range s.describeOpen(ctx) {
		is := d.WorkflowExecutionInfo.Execution
		n[execution{is.WorkflowId, is.RunId}] = d.WorkflowExecutionInfo.HistoryLength
	}
	return n
}

// waitForProgress waits until a workflow that was open when the server was killed has
// new events or has closed. Without open workflows it only waits for the server.
func (s *chaosTest) waitForProgress(ctx context.Context, begun time.Time, before map[execution]int64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := s.retry(ctx, func(ctx context.Context) error {
		if err := s.checkServer(ctx); err != nil {
			return err
		}
		if len(before) == 0 {
			return nil
		}
		for was, n := range before {
			d, err := s.c.DescribeWorkflowExecution(ctx, was.id, was.run)
			if err != nil {
				return err
			}
			if info := d.WorkflowExecutionInfo; info.HistoryLength > n || info.Status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
				return nil
			}
		}
		return errNotYet
	})
	s.recordProgress(theServer, time.Since(begun))
	return err
}
