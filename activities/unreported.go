package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
)

// An Unreported rollout is one that ended without a report: terminated, timed
// out or failed. What is here was read from its history.
type Unreported struct {
	Run     string `json:"run"`     // its run ID
	Release string `json:"release"` // workflow ID of the release it belonged to
	Why     string `json:"why"`     // how it ended, a sentence
	// Begun: a step on a machine was scheduled. Otherwise it changed nothing.
	Begun bool `json:"begun"`
	// Plan is the plan that it carried out; States is what it started from, and
	// Baselines what a rollback of it restores. Both are empty where the history
	// does not tell.
	Plan       release.Plan       `json:"plan"`
	States     []release.State    `json:"states,omitempty"`
	Baselines  []release.Baseline `json:"baselines,omitempty"`
	Opened     Opened             `json:"opened,omitzero"`
	RanCommand bool               `json:"ran_command,omitempty"`
	// Restores is what it went back to, if it was a rollback.
	Restores *release.Origin `json:"restores,omitempty"`
	// Head is what the environment ran as a whole before it, if it did.
	Head *release.Head `json:"head,omitempty"`
	// Follows is the run ID of the rollout without a report that it followed.
	Follows string `json:"follows,omitempty"`
	// Close is what CloseRollout has to clean up of it.
	Close CloseInput `json:"close"`
}

// Start is what a rollout starts from.
type Start struct {
	States []release.State `json:"states"`
	// Before is the rollout before this one, where it ended without a report
	// after its first change.
	Before *Unreported `json:"before,omitempty"`
	// Left is what CloseRollout has to clean up of rollouts without a report that
	// changed nothing.
	Left []CloseInput `json:"left,omitempty"`
	// Unread says which rollout before this one ended without a report that
	// could be read, and why not.
	Unread string `json:"unread,omitempty"`
	// Since is the rollout that has changed the environment since the one that
	// this rollout follows ended.
	Since *Since `json:"since,omitempty"`
}

// Since is a rollout that reported a change.
type Since struct {
	Release string          `json:"release"` // workflow ID of the release it belonged to
	Outcome release.Outcome `json:"outcome"`
	Lost    string          `json:"lost"` // how the rollout ended that had no report
}

// StartInput names the targets of a rollout, and the run that it follows where
// that is known to have ended without a report.
type StartInput struct {
	Places  []Place `json:"places"`
	Follows string  `json:"follows,omitempty"`
}

// RecordBaseline returns what the targets run before the first change, and the
// rollout before this one if it ended without a report. It is recorded under
// this name so that it can be read from the history of a rollout that ended
// without a report. It changes nothing.
func (a *Activities) RecordBaseline(ctx context.Context, in StartInput) (start Start, err error) {
	defer beat(ctx)()
	self := activity.GetInfo(ctx).WorkflowExecution
	g, all := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		start.States, err = a.observe(all, in.Places, nil)
		return err
	})
	g.Go(func() error {
		before, left, err := unreportedBefore(all, a.temporal(ctx), self.ID, self.RunID, in.Follows)
		if unread := new(UnreadError); errors.As(err, &unread) {
			start.Unread, start.Since = unread.Error(), unread.Since
			return nil
		}
		start.Before, start.Left = before, left
		return classify(all, err)
	})
	err = g.Wait()
	return start, err
}

// UnreadError is a rollout whose end can't be read, or is of no use any more.
type UnreadError struct {
	Rollout, Run, Why string
	Since             *Since // that has changed the environment since
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("%s (run %s): %s", e.Rollout, e.Run, e.Why)
}

// unreportedBefore returns the newest closed rollout with that ID, other than
// the run self, if it changed something and ended without a report; else nil. left
// is what those without a report since then left on Fly. A caller that follows a
// run without a report is told of that run, or of the one that it followed itself,
// even if it changed nothing.
func unreportedBefore(ctx context.Context, c Temporal, id, self, follows string) (before *Unreported, left []CloseInput, err error) {
	runs, err := closedRuns(ctx, c, id)
	if err != nil {
		return nil, nil, err
	}
	for _, run := range runs {
		if run.id == self {
			continue
		}
		if run.id == follows {
			break
		}
		if run.reported {
			outcome, err := run.readOutcome(ctx, c, id)
			switch {
			case err != nil:
				return nil, nil, err
			case outcome.ChangedNothing():
				continue
			case follows == "":
				return nil, left, nil
			}
			return nil, left, changedSince(ctx, c, id, run, follows)
		}
		u, err := readUnreported(ctx, c, id, run.id)
		if err != nil {
			return nil, nil, err
		}
		if u.Begun {
			return &u, left, nil
		}
		left = append(left, u.Close)
	}
	for follows != "" {
		u, err := readUnreported(ctx, c, id, follows)
		if err != nil || u.Begun || u.Follows == "" {
			return &u, left, err
		}
		left, follows = append(left, u.Close), u.Follows
	}
	return nil, left, nil
}

// changedSince returns as an UnreadError that run has changed the environment
// since the run follows ended without a report.
func changedSince(ctx context.Context, c Temporal, id string, run pastRun, follows string) error {
	report, err := reportOf(ctx, c, id, run.id)
	if err != nil {
		return err
	}
	u, err := readUnreported(ctx, c, id, follows)
	if unread := new(UnreadError); err != nil && !errors.As(err, &unread) {
		return err
	}
	return &UnreadError{
		Rollout: id, Run: follows, Why: "another rollout has changed the environment since",
		Since: &Since{Release: report.Release, Outcome: report.Outcome, Lost: cmp.Or(u.Why, id+" ended without a report")},
	}
}

// A pastRun is one closed run of a rollout.
type pastRun struct {
	id              string // run ID
	reported        bool   // it completed, so it has a report
	outcome         release.Outcome
	started, closed time.Time
}

// readOutcome returns the outcome of a run, from its search attribute where it
// has one, else from its report.
func (r pastRun) readOutcome(ctx context.Context, c Temporal, rollout string) (release.Outcome, error) {
	if r.outcome != "" {
		return r.outcome, nil
	}
	report, err := reportOf(ctx, c, rollout, r.id)
	return report.Outcome, err
}

func reportOf(ctx context.Context, c Temporal, rollout, run string) (report release.Report, err error) {
	err = c.GetWorkflow(ctx, rollout, run).Get(ctx, &report)
	return report, err
}

// stored reads values as clients of this program write them into histories.
var stored = payload.NewConverter()

func decode(p *commonpb.Payloads, value any) error { return stored.FromPayloads(p, value) }

// closedRuns lists the closed runs of a workflow ID, newest first. The list of a
// server may be a moment old, so its newest run is asked for by itself.
func closedRuns(ctx context.Context, c Temporal, id string) (runs []pastRun, err error) {
	in := &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = '%s' AND ExecutionStatus != 'Running'", id), PageSize: 200}
	for {
		page, err := c.ListWorkflow(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, e := range page.GetExecutions() {
			run := pastRun{
				id: e.GetExecution().GetRunId(), reported: e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
				started: e.GetStartTime().AsTime(), closed: e.GetCloseTime().AsTime(),
			}
			if p, ok := e.GetSearchAttributes().GetIndexedFields()[release.AttrOutcome]; ok && stored.FromPayload(p, &run.outcome) != nil {
				run.outcome = ""
			}
			runs = append(runs, run)
		}
		if in.NextPageToken = page.GetNextPageToken(); len(in.NextPageToken) == 0 {
			break
		}
	}
	newest, err := newestRun(ctx, c, id)
	if err != nil {
		return nil, err
	}
	if newest != nil && newest.WorkflowCloseTime != nil {
		run := pastRun{
			id: newest.WorkflowExecution.RunID, reported: newest.Status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
			started: newest.WorkflowStartTime, closed: *newest.WorkflowCloseTime,
		}
		if !slices.ContainsFunc(runs, func(r pastRun) bool { return r.id == run.id }) {
			runs = append(runs, run)
		}
	}
	slices.SortStableFunc(runs, func(a, b pastRun) int { return b.started.Compare(a.started) })
	return runs, nil
}

// newestRun returns the newest run of a workflow ID, or nil if there is none.
func newestRun(ctx context.Context, c Temporal, id string) (*client.WorkflowExecutionDescription, error) {
	d, err := c.DescribeWorkflow(ctx, id, "")
	if missing := new(serviceerror.NotFound); errors.As(err, &missing) {
		return nil, nil
	}
	return d, err
}

// readUnreported reads from the history of a run how far it came, what it
// started from and what it left on Fly.
func readUnreported(ctx context.Context, c Temporal, id, run string) (Unreported, error) {
	u := Unreported{Run: run}
	var req release.RolloutRequest
	scheduled := map[int64]*historypb.ActivityTaskScheduledEventAttributes{}
	var start Start
	var opening OpenInput
	events := c.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if missing := new(serviceerror.NotFound); errors.As(err, &missing) {
			return u, &UnreadError{Rollout: id, Run: run, Why: "its history is no longer kept"}
		}
		if err != nil {
			return u, err
		}
		switch attr := e.GetAttributes().(type) {
		case *historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes:
			if err := decode(attr.WorkflowExecutionStartedEventAttributes.GetInput(), &req); err != nil {
				return u, &UnreadError{Rollout: id, Run: run, Why: "its request could not be read: " + err.Error()}
			}
			u.Release, u.Plan, u.Restores, u.Follows, u.Head = req.Release, req.Plan, req.Restores, req.Follows, req.Head
			u.Close = CloseInput{Release: req.Release, Status: "interrupted", Since: e.GetEventTime().AsTime()}
		case *historypb.HistoryEvent_ActivityTaskScheduledEventAttributes:
			scheduled[e.GetEventId()] = attr.ActivityTaskScheduledEventAttributes
			err = u.began(attr.ActivityTaskScheduledEventAttributes, &opening)
		case *historypb.HistoryEvent_ActivityTaskCompletedEventAttributes:
			done := attr.ActivityTaskCompletedEventAttributes
			switch scheduled[done.GetScheduledEventId()].GetActivityType().GetName() {
			case "RecordBaseline":
				err = decode(done.GetResult(), &start)
			case "OpenRollout":
				err = decode(done.GetResult(), &u.Opened)
				opening = OpenInput{}
			case "TakeLeases":
				err = decode(done.GetResult(), &u.Close.Machines)
			case "Wake", "ApplyStep":
				err = u.completed(scheduled[done.GetScheduledEventId()], done)
			}
		default:
			u.Why = cmp.Or(EndOf(id, e), u.Why)
		}
		if err != nil {
			return u, &UnreadError{Rollout: id, Run: run, Why: "its history could not be understood: " + err.Error()}
		}
	}
	u.States = req.Plan.Remembered(start.States)
	u.Baselines = req.Plan.Baselines(u.States)
	if start.Before != nil && req.TakeOver {
		u = u.tookOver(*start.Before)
	} else if start.Before != nil {
		u.Baselines = release.Resumed(start.Before.Baselines, start.Before.Plan.Goal(start.Before.States), u.Baselines)
	}
	u.Why = cmp.Or(u.Why, id+" ended without a report")
	u.Close.Releases, u.Close.Error = u.Opened.Releases, u.Why
	for _, t := range opening.Targets { // it was given up on the way
		if u.Close.Begun == nil {
			u.Close.Begun = map[string]release.Image{}
		}
		u.Close.Begun[t.FlyApp] = t.Image
	}
	return u, nil
}

// tookOver returns u, a rollout that took over before: what that one left is
// still to be settled.
func (u Unreported) tookOver(before Unreported) Unreported {
	before.Run, before.Follows, before.Why = u.Run, u.Follows, cmp.Or(u.Why, before.Why)
	before.Begun = true
	before.Close.Holder, before.Close.Machines = u.Close.Holder, u.Close.Machines
	before.Close.Woken = append(before.Close.Woken, u.Close.Woken...)
	return before
}

// began notes what an activity that was scheduled may have done to Fly.
func (u *Unreported) began(a *historypb.ActivityTaskScheduledEventAttributes, opening *OpenInput) error {
	switch a.GetActivityType().GetName() {
	case "TakeLeases":
		var in LeaseInput
		err := decode(a.GetInput(), &in)
		u.Close.Holder, u.Close.Machines = in.Holder, in.Machines
		return err
	case "OpenRollout":
		return decode(a.GetInput(), opening)
	case "ApplyStep":
		var in StepInput
		err := decode(a.GetInput(), &in)
		u.Begun = true
		u.RanCommand = u.RanCommand || in.Step.Verb == release.Run
		if runs := in.Step.Verb == release.Run || len(in.Step.MachineChecks) > 0; runs && !slices.Contains(u.Close.Commands, in.Step.FlyApp) {
			u.Close.Commands = append(u.Close.Commands, in.Step.FlyApp)
		}
		return err
	case "Wake":
		var in StepInput
		err := decode(a.GetInput(), &in)
		u.Begun = true
		if in.Step.Idle { // one that should run may have run before
			u.Close.woke(in)
		}
		return err
	}
	return nil
}

// completed notes the result of a Wake or an ApplyStep: a machine that ran already
// was not started for a look, and one that was stopped runs no longer.
func (u *Unreported) completed(a *historypb.ActivityTaskScheduledEventAttributes, done *historypb.ActivityTaskCompletedEventAttributes) error {
	isWake := a.GetActivityType().GetName() == "Wake"
	if !isWake && len(u.Close.Woken) == 0 {
		return nil
	}
	var in StepInput
	if err := decode(a.GetInput(), &in); err != nil {
		return err
	}
	var woken Woken
	if isWake {
		if err := decode(done.GetResult(), &woken); err != nil {
			return err
		}
	}
	switch {
	case woken.Started:
		u.Close.woke(in)
	case isWake, in.Step.Verb == release.Stop, in.Step.Verb == release.Destroy:
		u.Close.slept(in)
	}
	return nil
}

// EndOf returns in a sentence how e ended a workflow from outside or as failed, or
// "".
func EndOf(id string, e *historypb.HistoryEvent) string {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
		a := e.GetWorkflowExecutionTerminatedEventAttributes()
		said := id + " was terminated"
		if a.GetIdentity() != "" {
			said += " by " + a.GetIdentity()
		}
		if a.GetReason() != "" {
			said += ": " + a.GetReason()
		}
		return said
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		return id + " timed out"
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		return id + " was canceled"
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		return id + " failed: " + e.GetWorkflowExecutionFailedEventAttributes().GetFailure().GetMessage()
	}
	return ""
}
