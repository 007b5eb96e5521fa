package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// Rollout carries one plan out in one environment, or brings its baseline back.
// Its workflow ID is the environment's lock.
//
// An abort is cancellation: whatever step it meets fails with it, and the way
// back is the same as from any other failure.
func Rollout(ctx workflow.Context, in release.RolloutRequest) (*release.Report, error) {
	r, err := beginRollout(ctx, in)
	if err != nil {
		return nil, err
	}
	if in.TakeOver { // the plan of a rollout without a report: a person decides
		return r.takeOver(ctx)
	}
	if in.Unchanged { // the plan has no steps
		return r.recordHead(ctx)
	}
	switch err := r.mayChange(ctx); { // pinned, or compared with another revision than runs now?
	case errors.Is(err, release.ErrPlanStale):
		return r.stale(ctx, plain(err))
	case err != nil:
		return r.stop(ctx, err)
	}
	if err := r.lease(ctx); err != nil { // others keep out
		return r.stop(ctx, err)
	}
	start, err := r.recordBaseline(ctx) // what a rollback restores
	if err != nil {
		return r.stop(ctx, err)
	}
	if why := in.Plan.Stale(start.States); why != "" {
		return r.stale(ctx, why)
	}
	if in.Plan.Lineage.Relation == release.Backward { // the comparison was made for exactly these machines
		return r.superseded(ctx)
	}
	if why := r.unread(start); why != "" {
		return r.stale(ctx, why)
	}
	r.remember(ctx, start)
	if err := r.open(ctx); err != nil {
		return r.stop(ctx, err)
	}
	for {
		err := r.forward(ctx)
		if err == nil {
			break
		}
		if err := r.consider(ctx, err); err != nil {
			return r.rollback(ctx, err)
		}
	}
	// What can't be taken back comes last: the new is good, so a failure here
	// asks a person instead of going back.
	if err := r.cleanUp(ctx, in.Plan.Last()); err != nil {
		return r.giveUp(ctx, err)
	}
	r.putBack(ctx, r.woken) // what a rollout without a report has left awake
	return r.finish(ctx, r.success(), nil)
}

// forward carries out what can be taken back, and looks whether the new is good.
// It ends when the leases are lost.
func (r *roller) forward(ctx workflow.Context) error {
	ctx, done, err := r.whileLeased(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := r.execute(ctx, r.in.Plan.First()); err != nil {
		return r.orLost(err)
	}
	if err := r.verify(ctx); err != nil {
		return r.orLost(err)
	}
	return r.orLost(r.bake(ctx))
}

// execute is the only code that changes machines. Forward, back, canary,
// bluegreen: they differ in the plan, not here. It stops at the first failure.
// Carried out again, it goes on with the wave that failed.
func (r *roller) execute(ctx workflow.Context, plan release.Plan) error {
	for i, wave := range plan.Waves {
		if r.isOver(plan, i) {
			continue
		}
		if err := r.carryOut(ctx, wave, true); err != nil {
			return fmt.Errorf("wave %d of %d (%s): %w", i+1, len(plan.Waves), wave.Title, err)
		}
		if err := r.settle(ctx, plan, i); err != nil {
			return err
		}
		r.over(plan, i)
	}
	return nil
}

// rollback looks again, plans the way back and executes it. It outlives
// cancellation. What cannot be brought back is held until a person answers.
func (r *roller) rollback(ctx workflow.Context, cause error) (*release.Report, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if !r.begun && len(r.changedBefore()) == 0 {
		return r.stop(ctx, cause) // nothing was changed, nor by a rollout without a report
	}
	if gaveUp(cause) {
		return r.giveUp(ctx, cause)
	}
	r.fail(cause)
	for {
		err := r.restore(ctx)
		if err == nil {
			return r.isBack(ctx, cause)
		}
		choices := []release.Choice{release.Retry, release.Keep, release.Abandon}
		if r.others > 0 {
			choices = append(choices, release.GoBack)
		}
		err = r.hold(ctx, "the baseline could not be brought back: ", err, choices...)
		if errors.Is(err, errGoBack) {
			r.overwrite = true // also what others changed: a person said so
		} else if err != nil {
			return r.giveUp(ctx, errors.Join(cause, err))
		}
	}
}

// restore brings the baseline back and looks whether it is back. Unlike the
// way forward it does not stop at a failure: every machine that can be brought
// back is. But of a target that lacks one, nothing is taken out of service: what
// the rollout made may be all that serves.
func (r *roller) restore(ctx workflow.Context) error {
	r.enter(ctx, release.RollingBack)
	back, err := r.planRestore(ctx)
	if err != nil {
		return err
	}
	var failed []error
	r.stuck = map[release.Target]bool{}
	for i, wave := range back.Plan.Waves {
		if len(r.stuck) > 0 && workflow.GetVersion(ctx, "spare-what-serves", workflow.DefaultVersion, 1) >= 1 {
			wave = wave.Sparing(r.stuck)
		}
		failed = append(failed, r.carryOut(ctx, wave, false), r.settle(ctx, back.Plan, i))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return r.mustBeBack(ctx)
}
