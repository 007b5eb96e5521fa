package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// An unreportedError is a rollout that ended without a report: terminated, timed out or
// failed. The state of its machines is not known.
type unreportedError struct {
	runID string // of the rollout
	plan  release.Plan
	err   error
	// attempts is the result of the last attempt to settle the rollout, or "".
	attempts string
	// isAborted: the release was aborted, so it cannot plan again.
	isAborted bool
}

// takeOverInterval is the delay before the next takeover if the last one did not start.
const takeOverInterval = 30 * time.Second

func (e *unreportedError) Error() string {
	return "its rollout ended without a report: " + errorMessage(e.err)
}

// waitForReport waits until a run of a rollout has ended, and returns its report or its
// error. Temporal reports the end of a child to its parent only once: a parent that was
// closed then, and is reset, would wait forever. So the release also reads the state of
// the run at growing intervals. An end that it has read twice without a report from
// Temporal is final. Temporal then starts no other child with that ID for this run, so
// no takeover can hold the lock, and an end without a report strands the release.
func (r *releaseRun) waitForReport(ctx workflow.Context, env release.Environment, child workflow.ChildWorkflowFuture, run workflow.Execution) (report release.Report, err error) {
	disconnected, done := workflow.NewDisconnectedContext(ctx) // an aborted rollout also ends
	defer done()
	hasEnded := false
	for reads := 0; ; reads++ {
		isTime, stop := startRecheckTimer(disconnected, reads, "Read whether the rollout of "+env.Name+" has ended")
		err := workflow.Await(disconnected, func() bool { return child.IsReady() || isTime() })
		stop()
		if err != nil {
			return report, err
		}
		if child.IsReady() {
			err := child.Get(ctx, &report)
			return report, err
		}
		var end activities.RolloutEnd
		err = workflow.ExecuteActivity(withCallOptions(disconnected, "Read how the rollout of "+env.Name+" ended"), act.ReadRolloutEnd,
			activities.RolloutRun{ID: run.ID, Run: run.RunID}).Get(disconnected, &end)
		switch {
		case err != nil || end.Open: // not ended, or not known
			hasEnded = false
		case !hasEnded: // Temporal may still report it
			hasEnded, reads = true, -1
		case end.Report != nil:
			return *end.Report, nil
		case end.Canceled:
			return report, temporal.NewCanceledError()
		case end.Kind == release.KindStranded:
			return report, temporal.NewNonRetryableApplicationError(end.Error, end.Kind, nil)
		default:
			return report, temporal.NewNonRetryableApplicationError(fmt.Sprintf(
				"the rollout of %s ended without a report while this release was closed: %s; the next release settles its remains, or: release rollback %[1]s",
				env.Name, end.Error), release.KindStranded, nil)
		}
	}
}

// isUnreported reports whether the error of a child means that it ended without a
// report. A stranded rollout has reported, and a rollout that was canceled before it
// started changed nothing.
func isUnreported(err error) bool {
	if err == nil || temporal.IsCanceledError(err) {
		return false
	}
	failed := findApplicationError(err)
	return failed == nil || failed.Type() != release.KindStranded
}

// leavesUnsettled reports whether err leaves the environment as an unreported rollout
// left it: neither promoted, restored nor given up. It records a new unreported
// rollout.
func (r *releaseRun) leavesUnsettled(err error) bool {
	var lost *unreportedError
	if errors.As(err, &lost) {
		r.unsettled = lost
		return true
	}
	var rollout *notPromotedError
	if r.unsettled == nil || err == nil || errors.Is(err, release.ErrPlanStale) {
		return false
	}
	if failed := findApplicationError(err); failed != nil && failed.Type() == release.KindStranded {
		return false
	}
	return !errors.As(err, &rollout) || rollout.report.Outcome.ChangedNothing()
}

// isEnvironmentSettled reports whether the last rollout of env that changed something
// ended with a report. If not, a rollout must verify the machines even if its plan is
// empty. It also cleans up after unreported rollouts that changed nothing.
func (r *releaseRun) isEnvironmentSettled(ctx workflow.Context, env release.Environment) (bool, error) {
	if r.unsettled != nil {
		return false, nil
	}
	var remains activities.Remains
	err := workflow.ExecuteActivity(withCallOptions(ctx, "Read how the last rollout of "+env.Name+" ended"), act.ReadRemains, r.environmentRef(env)).Get(ctx, &remains)
	if err != nil || remains.Unsettled {
		return false, err
	}
	r.cleanUpRemains(ctx, remains.ToClose)
	return true, nil
}

// cleanUpRemains removes what unreported rollouts that changed nothing left at Fly. A
// failure becomes a note.
func (c *statusLog) cleanUpRemains(ctx workflow.Context, left []activities.CloseInput) {
	for _, in := range left {
		err := workflow.ExecuteActivity(withCallOptions(ctx, "Clean up after an earlier rollout"), act.CloseRollout, in).Get(ctx, nil)
		if err != nil {
			c.record(ctx, release.CleanupFailed("could not remove all leases and Fly releases of an earlier rollout: "+errorMessage(err)))
		}
	}
}

// followedRunID returns the run ID of the unreported rollout that the next rollout in
// env follows, or "".
func (r *releaseRun) followedRunID(env release.Environment) string {
	if r.unsettled == nil || r.unsettled.plan.Environment != env.Name {
		return ""
	}
	return r.unsettled.runID
}

// settleAttempts returns the result of the last attempt to settle the unreported
// rollout, or "".
func (r *releaseRun) settleAttempts() string {
	if r.unsettled == nil {
		return ""
	}
	return r.unsettled.attempts
}

// wasAborted reports whether the release was aborted before it took over from an
// unreported rollout.
func (r *releaseRun) wasAborted() bool { return r.unsettled != nil && r.unsettled.isAborted }

// takeOver starts a rollout that holds the lock in place of the unreported one, until
// an operator has chosen. It returns how that rollout ended; ErrPlanStale means to plan
// again. cause is the error that led to the takeover.
func (r *releaseRun) takeOver(ctx workflow.Context, env release.Environment, cause error) error {
	disconnected, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if lost := new(unreportedError); !errors.As(cause, &lost) {
		r.unsettled.attempts = newCause(cause).Message
	}
	if ctx.Err() != nil { // an earlier abort does not resolve the takeover
		r.unsettled.isAborted, ctx = true, disconnected
	}
	err := r.runRollout(ctx, env, r.unsettled.plan, activities.Standing{GateAtRevision: env.Gate}, true)
	if rollout := new(notPromotedError); errors.As(err, &rollout) { // it is settled
		r.unsettled = nil
	} else if lost := new(unreportedError); r.leavesUnsettled(err) && !errors.As(err, &lost) { // the takeover did not start
		if err := workflow.Sleep(disconnected, takeOverInterval); err != nil {
			return err
		}
	}
	return err
}
