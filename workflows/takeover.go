package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// activityEndDelay is longer than an activity needs to notice that its workflow is
// closed and to finish the request that it had sent.
const activityEndDelay = 15 * time.Second

// takeOver resolves a rollout that ended without a report. It holds the lock of the
// environment, so that no release changes it before an operator has chosen: plan again,
// roll back, keep or abandon. An abort means rollback.
func (r *rolloutRun) takeOver(ctx workflow.Context) (*release.Report, error) {
	disconnected, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if err := r.takeLeases(disconnected); err != nil { // each step takes its own lease then
		r.leases.lostErr = err
		r.addNote(ctx, "could not lease the machines of %s: %s", r.in.Plan.Environment, errorMessage(err))
	}
	start, err := r.readPredecessor(disconnected)
	if err != nil {
		start.UnreadRollout = errorMessage(err)
	}
	cause := r.predecessorError(start)
	r.cleanUpRemains(disconnected, start.ToClose)
	if start.LaterRollout != nil {
		return r.finishOvertaken(disconnected, *start.LaterRollout, cause)
	}
	r.adoptPredecessor(disconnected, start.Before)
	r.recordCause(ctx, cause)
	for {
		resolution := r.holdRollout(ctx, release.HoldUnreported, cause, r.takeOverChoices()...)
		switch {
		case resolution == nil:
			return r.finishStale(disconnected, cause)
		case isGiveUp(resolution):
			return r.finishGivenUp(disconnected, resolution)
		case r.hasBaseline():
			return r.restorePredecessor(disconnected, start.Before, cause)
		}
		r.in.Aborted, ctx = true, disconnected // and there is no baseline to restore: ask again
	}
}

// readPredecessor reads the history of the rollout that this one follows. It first
// waits until the running activities of that rollout have ended.
func (r *rolloutRun) readPredecessor(ctx workflow.Context) (start activities.Start, err error) {
	if err := workflow.NewTimerWithOptions(ctx, activityEndDelay, workflow.TimerOptions{Summary: "Wait for activities of the previous rollout"}).Get(ctx, nil); err != nil {
		return start, err
	}
	err = workflow.ExecuteActivity(withCallOptions(ctx, "Read history of the previous rollout"), act.RecordBaseline,
		activities.StartInput{PredecessorRun: r.in.PredecessorRun}).Get(ctx, &start)
	return start, err
}

// predecessorError returns how the previous rollout ended and which attempts to settle
// it followed.
func (r *rolloutRun) predecessorError(start activities.Start) error {
	why := r.status().ID + " ended without a report"
	switch {
	case start.LaterRollout != nil:
		why = start.LaterRollout.EndOfUnreported
	case start.Before != nil:
		why = start.Before.Why
	case start.UnreadRollout != "":
		why += ", and its history could not be read: " + start.UnreadRollout
	}
	if r.in.RecoveryResult != "" {
		why += "; then: " + r.in.RecoveryResult
	}
	return errors.New(why)
}

// adoptPredecessor uses the plan and the baseline of the previous rollout, and cleans
// up what that rollout left at Fly.
func (r *rolloutRun) adoptPredecessor(ctx workflow.Context, before *activities.Unreported) {
	if before == nil {
		return
	}
	r.in.Plan, r.states, r.baselines, r.predecessorRunID = before.Plan, before.States, before.Baselines, before.Run
	r.record(ctx, release.PlanMade(before.Plan))
	r.record(ctx, release.TargetsPlanned(before.Plan.Environment, plannedTargets(before.Plan, before.States), nil))
	left := before.Close
	left.VerificationStarts = nil
	for _, w := range before.Close.VerificationStarts { // this rollout has taken over its leases
		w.Holder, w.Nonce = r.leaseHolder(), r.leaseNonce(w.Step)
		left.VerificationStarts = append(left.VerificationStarts, w)
	}
	r.cleanUpPredecessor(ctx, left)
}

// hasBaseline reports whether the baseline is known.
func (r *rolloutRun) hasBaseline() bool { return len(r.baselines) > 0 }

// takeOverChoices returns the choices of the operator. A release that was aborted
// cannot plan again.
func (r *rolloutRun) takeOverChoices() (choices []release.Choice) {
	if !r.in.Aborted {
		choices = append(choices, release.ChoiceRetry)
	}
	if r.hasBaseline() {
		choices = append(choices, release.ChoiceRollback)
	}
	return append(choices, release.ChoiceKeep, release.ChoiceAbandon)
}

// restorePredecessor restores the baseline of a rollout that ended without a report.
func (r *rolloutRun) restorePredecessor(ctx workflow.Context, before *activities.Unreported, cause error) (*release.Report, error) {
	r.opened.Secrets, r.opened.Addresses = before.Opened.Secrets, before.Opened.Addresses
	r.hasBegun, r.ranCommand = true, before.RanCommand
	return r.rollback(ctx, cause)
}

// finishOvertaken ends a takeover that came too late: a later rollout has changed the
// environment, starting from the same baseline. Its revision may be newer or older.
func (r *rolloutRun) finishOvertaken(ctx workflow.Context, since activities.LaterRollout, cause error) (*release.Report, error) {
	outcome := release.Stopped
	if since.Outcome == release.RolledBack || since.Outcome == release.Restored {
		outcome = release.RolledBack
	}
	return r.finish(ctx, outcome, fmt.Errorf("%w; since then %s has changed %s (%s)", cause, since.Release, r.in.Plan.Environment, since.Outcome))
}
