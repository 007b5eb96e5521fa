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

// A statusLog is the visible state of a workflow: the result of the status query, the
// details in the Temporal UI and the search attributes. Workflow code must not branch
// on it.
type statusLog struct {
	status     release.Status
	drains     []func(workflow.Context) // handle the signals that are still buffered
	resolution *release.Resolution      // of the current hold, or nil
	// recordedRunID is the run ID in the history. A reset starts another run with the
	// same history, so reviews, leases and hashes from before the reset keep the run ID
	// that they were made with.
	recordedRunID string
	holdCount     int // number of holds so far
}

// newStatusLog returns a log that starts with s, and sets the IDs and the start time.
func newStatusLog(ctx workflow.Context, s release.Status) statusLog {
	info := workflow.GetInfo(ctx)
	s.Protocol = release.Protocol
	s.ID, s.Run, s.Started = info.WorkflowExecution.ID, info.WorkflowExecution.RunID, workflow.Now(ctx)
	c := statusLog{status: s, recordedRunID: s.Run}
	id := workflow.SideEffect(ctx, func(ctx workflow.Context) any { return workflow.GetInfo(ctx).WorkflowExecution.RunID })
	if err := id.Get(&c.recordedRunID); err != nil {
		workflow.GetLogger(ctx).Error("could not read the recorded run ID", "error", err)
	}
	return c
}

// registerStatusQuery registers the query that returns the status.
func (c *statusLog) registerStatusQuery(ctx workflow.Context) error {
	return workflow.SetQueryHandlerWithOptions(ctx, release.StatusQuery,
		func() (release.Status, error) { return c.status, nil },
		workflow.QueryHandlerOptions{Description: "Status: phase, targets, machines, plan."})
}

// enterPhase ends the current phase, starts p and shows the status. If p is the current
// phase, it only shows the status.
func (c *statusLog) enterPhase(ctx workflow.Context, p release.Phase, environment string) {
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
	if err := workflow.UpsertTypedSearchAttributes(ctx, searchAttributes(c.status, environment)...); err != nil {
		workflow.GetLogger(ctx).Warn("search attributes not set", "release", c.status.ID, "error", err)
	}
	c.showStatus(ctx)
}

// showStatus writes the status into the details that the Temporal UI shows.
func (c *statusLog) showStatus(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, view.Details(c.status))
}

// addNote adds a formatted note to the report.
func (c *statusLog) addNote(format string, args ...any) {
	c.status.Notes = append(c.status.Notes, fmt.Sprintf(format, args...))
}

// recordCause records err as the cause of the end. Only the first cause counts.
func (c *statusLog) recordCause(err error) {
	if c.status.Cause == nil && err != nil {
		c.status.Cause = newCause(err)
	}
}

// closeWorkflow handles the remaining signals, waits for running handlers and returns
// the report.
func (c *statusLog) closeWorkflow(ctx workflow.Context, outcome release.Outcome) (*release.Report, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	c.status.Outcome, c.status.Ended = outcome, workflow.Now(ctx)
	c.enterPhase(ctx, release.Done, c.status.Environment)
	for _, drain := range c.drains {
		drain(ctx) // records why a late signal was ignored
	}
	c.addAbortToCause()
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return nil, err
	}
	report := &release.Report{Status: c.status}
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
