package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// Rollout executes one plan in one environment, or restores its baseline. Its workflow
// ID is the lock of the environment.
//
// An abort is cancellation: the current step fails, and the rollback is the same as
// after any other failure.
func Rollout(ctx workflow.Context, in release.RolloutRequest) (*release.Report, error) {
	r, err := beginRollout(ctx, in)
	if err != nil {
		return nil, err
	}
	if in.TakeOver { // the rollout of this plan ended without a report: an operator decides
		return r.takeOver(ctx)
	}
	if in.Unchanged { // the plan has no steps
		return r.confirmUnchanged(ctx)
	}
	switch err := r.checkMayChange(ctx); { // the pin, and the revision that the plan was compared with
	case errors.Is(err, release.ErrPlanStale):
		return r.finishStale(ctx, err)
	case err != nil:
		return r.stop(ctx, err)
	}
	if err := r.takeLeases(ctx); err != nil { // no other client can change the machines now
		return r.stop(ctx, err)
	}
	start, err := r.recordBaseline(ctx, r.targetRefsWithProbes()) // what a rollback restores
	if err != nil {
		return r.stop(ctx, err)
	}
	if err := in.Plan.CheckStale(start.States); err != nil {
		return r.finishStale(ctx, err)
	}
	if in.Plan.Lineage.Relation == release.Backward { // the comparison was made for exactly these machines
		return r.finishSuperseded(ctx)
	}
	if err := r.checkPredecessor(start); err != nil {
		return r.finishStale(ctx, err)
	}
	r.adoptBaseline(ctx, start)
	if err := r.openRollout(ctx); err != nil {
		return r.stop(ctx, err)
	}
	for {
		err := r.forward(ctx)
		if err == nil {
			break
		}
		if err := r.holdIfIrreversible(ctx, err); err != nil {
			return r.rollback(ctx, err)
		}
	}
	// Irreversible steps come last. The new version is healthy, so a failure here is held
	// instead of rolled back.
	if err := r.executeFinalWaves(ctx, in.Plan.IrreversiblePart()); err != nil {
		return r.finishGivenUp(ctx, err)
	}
	r.stopMachines(ctx, r.leftAwake) // that a rollout without a report left running
	return r.finish(ctx, r.successOutcome(), nil)
}

// forward executes and verifies the reversible waves of the plan. Its context ends when
// the leases are lost.
func (r *rolloutRun) forward(ctx workflow.Context) error {
	ctx, done, err := r.withLeases(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := r.execute(ctx, r.in.Plan.ReversiblePart()); err != nil {
		return r.preferLeaseError(err)
	}
	if err := r.verify(ctx); err != nil {
		return r.preferLeaseError(err)
	}
	return r.preferLeaseError(r.bake(ctx))
}

// execute executes the waves of a plan. It is the only function that changes machines
// on the way forward: strategies differ in their plans only. It stops at the first
// failure. Called again, it continues with the wave that failed.
func (r *rolloutRun) execute(ctx workflow.Context, plan release.Plan) error {
	for i, wave := range plan.Waves {
		if r.isWaveDone(plan, i) {
			continue
		}
		if err := r.executeWave(ctx, wave, true); err != nil {
			return fmt.Errorf("wave %d of %d (%s): %w", i+1, len(plan.Waves), wave.Title, err)
		}
		if err := r.settleWave(ctx, plan, i); err != nil {
			return err
		}
		r.markWaveDone(plan, i)
	}
	return nil
}

// rollback restores the baseline. It ignores cancellation. If the restore fails, the
// rollout is held until an operator resolves it.
func (r *rolloutRun) rollback(ctx workflow.Context, cause error) (*release.Report, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if !r.hasBegun && len(r.machinesChangedBefore()) == 0 {
		return r.stop(ctx, cause) // neither this rollout nor an unreported one changed anything
	}
	if isGiveUp(cause) {
		return r.finishGivenUp(ctx, cause)
	}
	r.recordCause(ctx, cause)
	for {
		err := r.restore(ctx)
		if err == nil {
			return r.finishRolledBack(ctx, cause)
		}
		choices := []release.Choice{release.ChoiceRetry, release.ChoiceKeep, release.ChoiceAbandon}
		if r.foreignChanges > 0 {
			choices = append(choices, release.ChoiceRollback)
		}
		err = r.holdRollout(ctx, release.HoldNotRestored, err, choices...)
		if errors.Is(err, errRollback) {
			r.overwrite = true // also what other clients changed, as the operator chose
		} else if err != nil {
			return r.finishGivenUp(ctx, errors.Join(cause, err))
		}
	}
}

// restore plans the restore, executes it and verifies that the baseline is back. Unlike
// execute it does not stop at a failure: it restores every machine that it can. If a
// machine of a target cannot be restored, no machine of that target is taken out of
// service, because the machines of the rollout may be the only ones that serve.
func (r *rolloutRun) restore(ctx workflow.Context) error {
	r.enterPhase(ctx, release.RollingBack)
	back, err := r.planRestore(ctx)
	if err != nil {
		return err
	}
	var failed []error
	r.failedTargets = map[release.Target]bool{}
	for i, wave := range back.Plan.Waves {
		if len(r.failedTargets) > 0 && workflow.GetVersion(ctx, "spare-what-serves", workflow.DefaultVersion, 1) >= 1 {
			wave = wave.WithoutRemovals(r.failedTargets)
		}
		failed = append(failed, r.executeWave(ctx, wave, false), r.settleWave(ctx, back.Plan, i))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return r.verifyRestored(ctx)
}
