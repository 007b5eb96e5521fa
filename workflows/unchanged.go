package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// recordUnchanged ends an environment that already runs the revision. A rollout without
// steps takes the lock and compares the machines with the plan, so no other rollout can
// change them or restore other ones at that moment. It returns ErrPlanStale if the
// environment must be planned again.
func (r *releaseRun) recordUnchanged(ctx workflow.Context, env release.Environment, plan release.Plan) error {
	report, err := r.runUnchanged(ctx, env, plan)
	if err != nil {
		return err
	}
	switch {
	case report.Stale != "":
		r.record(ctx, release.PlanStale(env.Name, fmt.Sprintf("planned %s again: %s", env.Name, report.Stale)))
		return release.ErrPlanStale
	case report.Outcome != release.Unchanged:
		return &notPromotedError{report}
	}
	r.record(ctx, release.OutcomeReached(env.Name, release.Unchanged, unchangedTargets(plan)))
	r.showStatus(ctx)
	return nil
}

// isNewHead reports whether an unchanged environment runs a newer revision as a whole:
// every app was compared, and the revision descends from the running ones. An older
// revision that comes later is then superseded.
func (r *releaseRun) isNewHead(plan release.Plan) bool {
	return r.req.Rollback == nil && len(r.req.Apps) == 0 && plan.Lineage.Relation == release.Forward && len(plan.Lineage.Running) > 0
}

// runUnchanged runs the rollout of a plan without steps and returns its report. While
// another rollout holds the lock it waits, and returns ErrPlanStale.
func (r *releaseRun) runUnchanged(ctx workflow.Context, env release.Environment, plan release.Plan) (report release.Report, err error) {
	child, run, isLocked, err := r.startRollout(ctx, env, release.RolloutRequest{
		Project: r.req.Project, Release: r.status().ID, Revision: r.status().Revision, Plan: plan, By: r.req.By,
		Head: r.head, SetsHead: r.isNewHead(plan), Rollback: r.req.Rollback != nil, Unchanged: true,
	})
	if err != nil {
		return report, err
	}
	if isLocked {
		if err := r.waitInQueue(ctx, env, 0); err != nil {
			return report, err
		}
		r.queue.held = env.Name // it is the turn of this release, which plans again
		return report, release.ErrPlanStale
	}
	report, err = r.waitForReport(ctx, env, child, run)
	if isUnreported(err) { // it changed nothing
		r.record(ctx, release.PlanStale(env.Name, fmt.Sprintf("planned %s again: %s", env.Name, &unreportedError{err: err})))
		return report, release.ErrPlanStale
	}
	return report, err
}

// confirmUnchanged ends a rollout whose plan has no steps, if the machines still match
// the plan and no rollout ended without a report before. Its report has the head of the
// environment: the revision if the rollout is for the whole environment and the
// environment is not pinned, else the one that it already had.
func (r *rolloutRun) confirmUnchanged(ctx workflow.Context) (*release.Report, error) {
	permit, err := r.readPermit(ctx)
	switch {
	case err != nil:
		return r.stop(ctx, err)
	case !r.in.Rollback && permit.Head.Differs(r.in.Head):
		return r.finishStale(ctx, r.newHeadError(permit.Head))
	}
	start, err := r.recordBaseline(ctx, r.targetRefs())
	if err != nil {
		return r.stop(ctx, err)
	}
	if err := r.in.Plan.CheckStale(start.States); err != nil {
		return r.finishStale(ctx, err)
	}
	if start.Before != nil {
		return r.finishStale(ctx, &release.StaleError{Reason: "the previous rollout ended without a report (" + start.Before.Why + ")"})
	}
	if start.UnreadRollout != "" && start.LaterRollout == nil {
		return r.finishStale(ctx, &release.StaleError{Reason: "what ran before is not known: " + start.UnreadRollout})
	}
	r.in.Gate = permit.Gate
	if !r.in.SetsHead || permit.Pin != nil {
		r.in.SetsHead, r.in.Head = false, permit.Head
	}
	return r.finish(ctx, release.Unchanged, nil)
}
