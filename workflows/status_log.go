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

// A statusLog is the visible state of a workflow: the results of the queries, the
// details in the Temporal UI and the search attributes. Workflow code changes it only by
// record, and must not branch on it.
type statusLog struct {
	log        release.EventLog
	drains     []func(workflow.Context) // handle the signals that are still buffered
	resolution *release.Resolution      // of the current hold, or nil
	// recordedRunID is the run ID in the history. A reset starts another run with the
	// same history, so reviews, leases and hashes from before the reset keep the run ID
	// that they were made with.
	recordedRunID string
	holdCount     int // number of holds so far
}

// newStatusLog returns a log that starts with b, whose IDs it sets.
func newStatusLog(ctx workflow.Context, b release.Begun) statusLog {
	info := workflow.GetInfo(ctx)
	b.Protocol, b.ID, b.Run = release.Protocol, info.WorkflowExecution.ID, info.WorkflowExecution.RunID
	c := statusLog{recordedRunID: b.Run}
	c.record(ctx, release.WorkflowBegun(b))
	id := workflow.SideEffect(ctx, func(ctx workflow.Context) any { return workflow.GetInfo(ctx).WorkflowExecution.RunID })
	if err := id.Get(&c.recordedRunID); err != nil {
		workflow.GetLogger(ctx).Error("could not read the recorded run ID", "error", err)
	}
	return c
}

// record appends an event, and so changes the status. Its time is that of the workflow.
func (c *statusLog) record(ctx workflow.Context, e release.Event) {
	c.log.Record(workflow.Now(ctx), e)
}

// status returns the fold of the events so far.
func (c *statusLog) status() release.Status { return c.log.Status() }

// registerQueries registers the queries that return the status and the events.
func (c *statusLog) registerQueries(ctx workflow.Context) error {
	return errors.Join(
		workflow.SetQueryHandlerWithOptions(ctx, release.StatusQuery,
			func() (release.Status, error) { return c.status(), nil },
			workflow.QueryHandlerOptions{Description: "Status: phase, targets, machines, plan."}),
		workflow.SetQueryHandlerWithOptions(ctx, release.EventsQuery, c.log.Page,
			workflow.QueryHandlerOptions{Description: `Events, oldest first: {"after": number of the last event that you have}`}))
}

// enterPhase ends the current phase, starts p and shows the status. If p is the current
// phase, it only shows the status.
func (c *statusLog) enterPhase(ctx workflow.Context, p release.Phase, environment string) {
	if s := c.status(); !s.IsInPhase(p, environment) {
		c.record(ctx, release.PhaseEntered(p, environment))
	}
	c.showPhase(ctx)
}

// showPhase writes the phase into the log and the search attributes, and shows the
// status.
func (c *statusLog) showPhase(ctx workflow.Context) {
	s := c.status()
	workflow.GetLogger(ctx).Info("phase", "release", s.ID, "environment", s.Environment, "phase", s.Phase)
	if err := workflow.UpsertTypedSearchAttributes(ctx, searchAttributes(s, s.Environment)...); err != nil {
		workflow.GetLogger(ctx).Warn("search attributes not set", "release", s.ID, "error", err)
	}
	c.showStatus(ctx)
}

// showStatus writes the status into the details that the Temporal UI shows.
func (c *statusLog) showStatus(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, view.Details(c.status()))
}

// addNote records a formatted remark for users.
func (c *statusLog) addNote(ctx workflow.Context, format string, args ...any) {
	c.record(ctx, release.Noted(fmt.Sprintf(format, args...)))
}

// recordCause records err as the cause of the end. Only the first cause counts.
func (c *statusLog) recordCause(ctx workflow.Context, err error) {
	if c.status().Cause == nil && err != nil {
		c.record(ctx, release.CauseFound(*newCause(err)))
	}
}

// closeWorkflow handles the remaining signals, waits for running handlers and returns
// the report.
func (c *statusLog) closeWorkflow(ctx workflow.Context, outcome release.Outcome) (*release.Report, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	c.record(ctx, release.WorkflowEnded(outcome))
	c.showPhase(ctx)
	for _, drain := range c.drains {
		drain(ctx) // records why a late signal was ignored
	}
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return nil, err
	}
	report := &release.Report{Status: c.status()}
	if report.Plan != nil {
		outline := report.Plan.WithoutConfigs() // without configs, which the input of the rollout has
		report.Plan = &outline
	}
	return report, nil
}

// searchAttributes returns the search attributes of a status in an environment.
func searchAttributes(s release.Status, environment string) []temporal.SearchAttributeUpdate {
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

// newCause returns the cause that err describes, without the wrapping of Temporal, and
// with the failures in its details.
func newCause(err error) *release.Cause {
	if temporal.IsCanceledError(err) {
		return &release.Cause{Message: release.ErrAborted.Error(), Aborted: true}
	}
	cause := &release.Cause{Message: errorMessage(err)}
	if failed := findApplicationError(err); failed != nil && failed.HasDetails() {
		var f release.Failure
		if slices.Contains([]string{release.KindFailure, release.KindConflict, release.KindHostFull}, failed.Type()) && failed.Details(&f) == nil {
			cause.Failures = append(cause.Failures, f)
		}
	}
	var unhealthy *unhealthyError
	if errors.As(err, &unhealthy) {
		for _, v := range unhealthy.verdicts {
			cause.Failures = append(cause.Failures, v.Failures...)
		}
	}
	return cause
}

// errorMessage returns the message of err without the wrapping of Temporal: that of the
// application error, or which activity timed out.
func errorMessage(err error) string {
	var timeout *temporal.TimeoutError
	if failed := findApplicationError(err); failed != nil {
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

// findApplicationError returns the application error in err, or nil.
func findApplicationError(err error) *temporal.ApplicationError {
	var failed *temporal.ApplicationError
	if errors.As(err, &failed) {
		return failed
	}
	return nil
}
