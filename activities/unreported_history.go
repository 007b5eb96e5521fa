package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/microbima/release/release"
)

// readUnreported reads from the history of a run how far it came, its baseline, and
// what it left at Fly. It returns an UnreadError if the history does not have them.
func readUnreported(ctx context.Context, c Temporal, id, run string) (Unreported, error) {
	r := historyReader{
		Unreported: Unreported{Run: run, Written: Written{}}, id: id, started: map[string]bool{},
		scheduled: map[int64]*historypb.ActivityTaskScheduledEventAttributes{},
	}
	events := c.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if missing := new(serviceerror.NotFound); errors.As(err, &missing) {
			return r.Unreported, &UnreadError{Rollout: id, Run: run, Why: "its history is no longer kept"}
		}
		if err != nil {
			return r.Unreported, err
		}
		if err := r.addEvent(e); err != nil {
			return r.Unreported, &UnreadError{Rollout: id, Run: run, Why: err.Error()}
		}
	}
	return r.result(), nil
}

// A historyReader collects the facts in the events of a rollout's history.
type historyReader struct {
	Unreported
	id        string // workflow ID
	request   release.RolloutRequest
	start     Start
	scheduled map[int64]*historypb.ActivityTaskScheduledEventAttributes // by event ID
	opening   OpenInput                                                 // of an OpenRollout that has not completed
	started   map[string]bool                                           // IDs of machines that it started or updated
}

// addEvent adds the facts of one event. It returns an error if the event cannot be
// decoded.
func (r *historyReader) addEvent(e *historypb.HistoryEvent) (err error) {
	switch attr := e.GetAttributes().(type) {
	case *historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes:
		req := &r.request
		if err := decodePayloads(attr.WorkflowExecutionStartedEventAttributes.GetInput(), req); err != nil {
			return fmt.Errorf("its request could not be read: %w", err)
		}
		r.Release, r.Plan, r.Restores, r.PredecessorRun, r.Head = req.Release, req.Plan, req.Restores, req.PredecessorRun, req.Head
		r.Close = CloseInput{Release: req.Release, Status: "interrupted", Since: e.GetEventTime().AsTime()}
	case *historypb.HistoryEvent_ActivityTaskScheduledEventAttributes:
		r.scheduled[e.GetEventId()] = attr.ActivityTaskScheduledEventAttributes
		err = r.addScheduled(attr.ActivityTaskScheduledEventAttributes)
	case *historypb.HistoryEvent_ActivityTaskCompletedEventAttributes:
		err = r.addCompleted(attr.ActivityTaskCompletedEventAttributes)
	default:
		r.Why = cmp.Or(DescribeEnd(r.id, e), r.Why)
	}
	if err != nil {
		return fmt.Errorf("its history could not be decoded: %w", err)
	}
	return nil
}

// addScheduled records the possible effects of a scheduled activity at Fly.
func (r *historyReader) addScheduled(a *historypb.ActivityTaskScheduledEventAttributes) error {
	switch a.GetActivityType().GetName() {
	case "TakeLeases":
		var in LeaseInput
		err := decodePayloads(a.GetInput(), &in)
		r.Close.Holder, r.Close.Machines = in.Holder, in.Machines
		return err
	case "OpenRollout":
		return decodePayloads(a.GetInput(), &r.opening)
	case "ApplyStep":
		var in StepInput
		err := decodePayloads(a.GetInput(), &in)
		r.Begun = true
		r.RanCommand = r.RanCommand || in.Step.Verb == release.Run
		if in.Step.Verb == release.Stop && !slices.Contains(r.Stopped, in.Step.Machine) {
			r.Stopped = append(r.Stopped, in.Step.Machine)
		}
		if runs := in.Step.Verb == release.Run || len(in.Step.MachineChecks) > 0; runs && !slices.Contains(r.Close.Commands, in.Step.FlyApp) {
			r.Close.Commands = append(r.Close.Commands, in.Step.FlyApp)
		}
		return err
	case "Wake":
		var in StepInput
		err := decodePayloads(a.GetInput(), &in)
		r.Begun = true
		if in.Step.SkipLaunch { // other machines may have run before
			r.Close.addWoken(in)
		}
		return err
	}
	return nil
}

// addCompleted records the result of an activity.
func (r *historyReader) addCompleted(done *historypb.ActivityTaskCompletedEventAttributes) error {
	scheduled := r.scheduled[done.GetScheduledEventId()]
	switch scheduled.GetActivityType().GetName() {
	case "RecordBaseline":
		return decodePayloads(done.GetResult(), &r.start)
	case "OpenRollout":
		r.opening = OpenInput{}
		return decodePayloads(done.GetResult(), &r.Opened)
	case "TakeLeases":
		return decodePayloads(done.GetResult(), &r.Close.Machines)
	case "Wake":
		return r.addWake(scheduled, done)
	case "ApplyStep":
		return r.addStep(scheduled, done)
	}
	return nil
}

// addWake records whether a Wake started its machine.
func (r *historyReader) addWake(scheduled *historypb.ActivityTaskScheduledEventAttributes, done *historypb.ActivityTaskCompletedEventAttributes) error {
	var in StepInput
	var woken StartedMachine
	if err := errors.Join(decodePayloads(scheduled.GetInput(), &in), decodePayloads(done.GetResult(), &woken)); err != nil {
		return err
	}
	if woken.Started {
		r.Close.addWoken(in)
	} else {
		r.Close.removeWoken(in)
	}
	return nil
}

// addStep records the version that a step gave a machine, that a machine that was stopped
// runs again, and that a machine that was started for verification was stopped.
func (r *historyReader) addStep(scheduled *historypb.ActivityTaskScheduledEventAttributes, done *historypb.ActivityTaskCompletedEventAttributes) error {
	var in StepInput
	var result StepResult
	if err := errors.Join(decodePayloads(scheduled.GetInput(), &in), decodePayloads(done.GetResult(), &result)); err != nil {
		return err
	}
	r.addWritten(in.Step, result.Machine)
	if in.Step.Verb == release.Start || in.Step.Verb == release.Update {
		r.started[in.Step.Machine] = true
		r.Stopped = slices.DeleteFunc(r.Stopped, func(id string) bool { return id == in.Step.Machine })
	}
	if in.Step.Verb == release.Stop || in.Step.Verb == release.Destroy {
		r.Close.removeWoken(in)
	}
	return nil
}

// addWritten records the version of a machine after a step.
func (r *historyReader) addWritten(step release.Step, after release.Machine) {
	switch {
	case step.Verb == release.Destroy:
		delete(r.Written[step.FlyApp], step.Machine)
	case step.Verb == release.Create || step.Verb == release.Update:
		if r.Written[step.FlyApp] == nil {
			r.Written[step.FlyApp] = map[string]string{}
		}
		r.Written[step.FlyApp][after.ID] = after.Version
	}
}

// result returns the rollout. It is called after the last event.
func (r *historyReader) result() Unreported {
	u := r.Unreported
	u.States = r.request.Plan.WithKnownConfigs(r.start.States)
	u.Baselines = r.request.Plan.Baselines(u.States)
	if before := r.start.Before; before != nil {
		u.Stopped = append(slices.DeleteFunc(slices.Clone(before.Stopped), func(id string) bool {
			return r.started[id] || slices.Contains(u.Stopped, id)
		}), u.Stopped...)
	}
	if before := r.start.Before; before != nil && r.request.TakeOver {
		u = u.takenOverFrom(*before)
	} else if before != nil {
		u.Baselines = release.ResumeBaselines(before.Plan, before.Baselines, before.States, u.Baselines)
	}
	u.Why = cmp.Or(u.Why, r.id+" ended without a report")
	u.Close.Releases, u.Close.Error = u.Opened.Releases, u.Why
	for _, t := range r.opening.Targets { // OpenRollout did not complete
		if u.Close.Begun == nil {
			u.Close.Begun = map[string]release.Image{}
		}
		u.Close.Begun[t.FlyApp] = t.Image
	}
	return u
}

// takenOverFrom returns the facts of u, a rollout that took over from before: the
// remains of before are not settled yet.
func (u Unreported) takenOverFrom(before Unreported) Unreported {
	before.Run, before.PredecessorRun, before.Why = u.Run, u.PredecessorRun, cmp.Or(u.Why, before.Why)
	before.Begun, before.Stopped = true, u.Stopped
	before.Close.Holder, before.Close.Machines = u.Close.Holder, u.Close.Machines
	before.Close.VerificationStarts = append(before.Close.VerificationStarts, u.Close.VerificationStarts...)
	return before
}
