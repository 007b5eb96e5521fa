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

// An unreported error is a rollout that ended without a report: terminated,
// timed out or failed. What it left is not known.
type unreported struct {
	run  string // its run ID
	plan release.Plan
	err  error
	// tried is what came of the tries to settle it since.
	tried string
	// aborted: the release was, so it cannot plan again.
	aborted bool
}

// takeOverInterval is how long a release waits before it tries again to take
// over, after a try that did not even begin.
const takeOverInterval = 30 * time.Second

func (e *unreported) Error() string { return "its rollout ended without a report: " + plain(e.err) }

// awaitReport waits until a run of a rollout has ended, and returns its report or its
// error, as child does. Temporal tells the end of a child to its parent once: a parent
// that was closed by then, and is reset, would wait for ever. So the release reads it
// now and then by itself. An end that it reads twice, and was not told, is final: Temporal
// starts no other child with that ID for this run, so nobody can be asked under the
// lock, and an end without a report strands the release.
func (r *releaser) awaitReport(ctx workflow.Context, env release.Environment, child workflow.ChildWorkflowFuture, run workflow.Execution) (report release.Report, err error) {
	apart, done := workflow.NewDisconnectedContext(ctx) // an aborted rollout has an end, too
	defer done()
	hasEnded := false
	for looks := 0; ; looks++ {
		isTime, stop := recheckTimer(apart, looks, "Read whether the rollout of "+env.Name+" has ended")
		err := workflow.Await(apart, func() bool { return child.IsReady() || isTime() })
		stop()
		if err != nil {
			return report, err
		}
		if child.IsReady() {
			err := child.Get(ctx, &report)
			return report, err
		}
		var end activities.RolloutEnd
		err = workflow.ExecuteActivity(calling(apart, "Read how the rollout of "+env.Name+" ended"), act.ReadRolloutEnd,
			activities.RolloutRun{ID: run.ID, Run: run.RunID}).Get(apart, &end)
		switch {
		case err != nil || end.Open: // unknown, or not yet
			hasEnded = false
		case !hasEnded: // Temporal may be about to tell
			hasEnded, looks = true, -1
		case end.Report != nil:
			return *end.Report, nil
		case end.Canceled:
			return report, temporal.NewCanceledError()
		case end.Kind == release.KindStranded:
			return report, temporal.NewNonRetryableApplicationError(end.Error, end.Kind, nil)
		default:
			return report, temporal.NewNonRetryableApplicationError(fmt.Sprintf(
				"the rollout of %s ended without a report while this release was closed: %s; what it left is settled by the next release, or by: release rollback %[1]s",
				env.Name, end.Error), release.KindStranded, nil)
		}
	}
}

// isUnreported reports whether a child's error means that it ended without a
// report. A stranded rollout has reported, and one that was canceled before it
// began has changed nothing.
func isUnreported(err error) bool {
	if err == nil || temporal.IsCanceledError(err) {
		return false
	}
	failed := applicationError(err)
	return failed == nil || failed.Type() != release.KindStranded
}

// isBroken reports whether err leaves the environment as a rollout without a
// report left it: neither promoted, nor brought back, nor given up on.
func (r *releaser) isBroken(err error) bool {
	var lost *unreported
	if errors.As(err, &lost) {
		r.broken = lost
		return true
	}
	var in *ended
	if r.broken == nil || err == nil || errors.Is(err, release.ErrPlanStale) {
		return false
	}
	if failed := applicationError(err); failed != nil && failed.Type() == release.KindStranded {
		return false
	}
	return !errors.As(err, &in) || in.report.Outcome.ChangedNothing()
}

// isSettled reports whether what env runs is what a rollout left that ended with a
// report. Otherwise nobody has looked at it, and a rollout does even if its plan is
// empty. It cleans up what rollouts without a report left that changed nothing.
func (r *releaser) isSettled(ctx workflow.Context, env release.Environment) (bool, error) {
	if r.broken != nil {
		return false, nil
	}
	var remains activities.Remains
	err := workflow.ExecuteActivity(calling(ctx, "Read how the last rollout of "+env.Name+" ended"), act.ReadRemains, r.standingInput(env)).Get(ctx, &remains)
	if err != nil || remains.Unsettled {
		return false, err
	}
	r.closeLeft(ctx, remains.Left)
	return true, nil
}

// closeLeft cleans up what rollouts without a report that changed nothing left on
// Fly.
func (c *chronicle) closeLeft(ctx workflow.Context, left []activities.CloseInput) {
	for _, in := range left {
		err := workflow.ExecuteActivity(calling(ctx, "Clean up what an earlier rollout left on Fly"), act.CloseRollout, in).Get(ctx, nil)
		if err != nil {
			c.note("not all that an earlier rollout left on Fly could be removed (leases, Fly releases): %s", plain(err))
		}
	}
}

// follows returns the run ID of the rollout without a report that the next
// rollout follows, or "".
func (r *releaser) follows(env release.Environment) string {
	if r.broken == nil || r.broken.plan.Environment != env.Name {
		return ""
	}
	return r.broken.run
}

// tried returns what came of the tries to settle what a rollout without a report
// left, or "".
func (r *releaser) tried() string {
	if r.broken == nil {
		return ""
	}
	return r.broken.tried
}

// isAborted reports whether the release was aborted before it took over from a
// rollout without a report.
func (r *releaser) isAborted() bool { return r.broken != nil && r.broken.aborted }

// takeOver starts a rollout that holds the lock in place of the one that ended
// without a report, until a person has decided. It returns how that ended;
// ErrPlanStale is another try. why led to it.
func (r *releaser) takeOver(ctx workflow.Context, env release.Environment, why error) error {
	apart, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if lost := new(unreported); !errors.As(why, &lost) {
		r.broken.tried = causeOf(why).Message
	}
	if ctx.Err() != nil { // an abort that came before is no answer to this
		r.broken.aborted, ctx = true, apart
	}
	err := r.rollout(ctx, env, r.broken.plan, activities.Standing{Then: env.Gate}, true)
	if in := new(ended); errors.As(err, &in) { // it is settled
		r.broken = nil
	} else if lost := new(unreported); r.isBroken(err) && !errors.As(err, &lost) { // nobody was asked
		if err := workflow.Sleep(apart, takeOverInterval); err != nil {
			return err
		}
	}
	return err
}
