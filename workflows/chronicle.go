package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// A chronicle is what both workflows tell people: where they are, in the status
// query, in the Temporal UI and in search attributes. Nothing in it is ever
// branched on.
type chronicle struct {
	status release.Status
	doors  []func(workflow.Context) // each takes what is still at it
	answer *release.Answer          // to what is held
	// recordedRun is the run ID as the history has it. A reset starts another
	// run with the same history, so decisions, leases and hashes that were made
	// before the reset must keep naming the run that made them.
	recordedRun string
	holds       int // how often something was held
}

func newChronicle(ctx workflow.Context, s release.Status) chronicle {
	info := workflow.GetInfo(ctx)
	s.Protocol = release.Protocol
	s.ID, s.Run, s.Started = info.WorkflowExecution.ID, info.WorkflowExecution.RunID, workflow.Now(ctx)
	c := chronicle{status: s, recordedRun: s.Run}
	id := workflow.SideEffect(ctx, func(ctx workflow.Context) any { return workflow.GetInfo(ctx).WorkflowExecution.RunID })
	if err := id.Get(&c.recordedRun); err != nil {
		workflow.GetLogger(ctx).Error("the recorded run ID could not be read", "error", err)
	}
	return c
}

func (c *chronicle) answerQueries(ctx workflow.Context) error {
	return workflow.SetQueryHandlerWithOptions(ctx, release.StatusQuery,
		func() (release.Status, error) { return c.status, nil },
		workflow.QueryHandlerOptions{Description: "Where it is: phase, targets, machines, plan."})
}

// enter begins a phase: the one before ends. Entering the present one again only
// shows the status.
func (c *chronicle) enter(ctx workflow.Context, p release.Phase, environment string) {
	now := workflow.Now(ctx)
	isPresent := false
	if n := len(c.status.Spans); n > 0 && c.status.Spans[n-1].To.IsZero() {
		last := &c.status.Spans[n-1]
		if isPresent = last.Phase == p && last.Environment == environment; !isPresent {
			last.To = now
		}
	}
	if p != release.Done && !isPresent {
		c.status.Spans = append(c.status.Spans, release.Span{Phase: p, Environment: environment, From: now})
	}
	c.status.Phase, c.status.Since, c.status.Environment = p, now, environment
	workflow.GetLogger(ctx).Info("phase", "release", c.status.ID, "environment", environment, "phase", p)
	if err := workflow.UpsertTypedSearchAttributes(ctx, attributes(c.status, environment)...); err != nil {
		workflow.GetLogger(ctx).Warn("search attributes not set", "release", c.status.ID, "error", err)
	}
	c.show(ctx)
}

// show writes the status where the Temporal UI shows it.
func (c *chronicle) show(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, view.Details(c.status))
}

func (c *chronicle) note(format string, args ...any) {
	c.status.Notes = append(c.status.Notes, fmt.Sprintf(format, args...))
}

// fail records the first cause of an end, in the words of whoever noticed.
func (c *chronicle) fail(err error) {
	if c.status.Cause == nil && err != nil {
		c.status.Cause = causeOf(err)
	}
}

// close ends the workflow, once nobody is in the middle of a decision.
func (c *chronicle) close(ctx workflow.Context, outcome release.Outcome) (*release.Report, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	c.status.Outcome, c.status.Ended = outcome, workflow.Now(ctx)
	c.enter(ctx, release.Done, c.status.Environment)
	for _, takeRest := range c.doors {
		takeRest(ctx) // none is lost: it is on record why it came too late
	}
	c.nameAbort()
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return nil, err
	}
	report := &release.Report{Status: c.status}
	if report.Plan != nil {
		outline := report.Plan.Outline() // its configs are in the rollout's input
		report.Plan = &outline
	}
	return report, nil
}

func attributes(s release.Status, environment string) []temporal.SearchAttributeUpdate {
	keyword := temporal.NewSearchAttributeKeyKeyword
	updates := []temporal.SearchAttributeUpdate{
		keyword(release.AttrProject).ValueSet(s.Project),
		keyword(release.AttrRevision).ValueSet(s.Revision.Short()),
		keyword(release.AttrPhase).ValueSet(string(s.Phase)),
	}
	if environment != "" {
		updates = append(updates, keyword(release.AttrEnvironment).ValueSet(environment))
	}
	if s.Outcome != "" {
		updates = append(updates, keyword(release.AttrOutcome).ValueSet(string(s.Outcome)))
	}
	return updates
}

// causeOf is what went wrong without Temporal's envelopes, with the evidence.
func causeOf(err error) *release.Cause {
	if temporal.IsCanceledError(err) {
		return &release.Cause{Message: release.ErrAborted.Error(), Aborted: true}
	}
	cause := &release.Cause{Message: plain(err)}
	if failed := applicationError(err); failed != nil && failed.HasDetails() {
		var f release.Failure
		if slices.Contains([]string{release.KindFailure, release.KindConflict, release.KindNoRoom}, failed.Type()) && failed.Details(&f) == nil {
			cause.Failures = append(cause.Failures, f)
		}
	}
	var bad *unhealthy
	if errors.As(err, &bad) {
		for _, v := range bad.verdicts {
			cause.Failures = append(cause.Failures, v.Failures...)
		}
	}
	return cause
}

// plain is the message of whoever noticed.
func plain(err error) string {
	var timeout *temporal.TimeoutError
	if failed := applicationError(err); failed != nil {
		return failed.Message()
	}
	if errors.As(err, &timeout) {
		var step *temporal.ActivityError
		if errors.As(err, &step) {
			return fmt.Sprintf("%s: no result in time (%s)", step.ActivityType().GetName(), strings.ToLower(timeout.TimeoutType().String()))
		}
	}
	return err.Error()
}

func applicationError(err error) *temporal.ApplicationError {
	var failed *temporal.ApplicationError
	if errors.As(err, &failed) {
		return failed
	}
	return nil
}
