package workflows

import (
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// recordUnchanged ends an environment that already runs the revision. If the revision
// is newer than the head of the environment, it first records the revision as the new
// head: an older revision that comes later is then superseded.
func (r *releaseRun) recordUnchanged(ctx workflow.Context, env release.Environment, plan release.Plan) error {
	if r.isNewHead(plan) {
		if err := r.recordHead(ctx, env, plan); err != nil {
			return err
		}
	}
	e := r.status.EnvironmentStatus(env.Name)
	e.Outcome, e.Targets = release.Unchanged, unchangedTargets(plan)
	r.status.Plan = nil
	r.showStatus(ctx)
	return nil
}

// isNewHead reports whether an unchanged environment runs a newer revision as a whole:
// every app was compared, and the revision descends from the running ones.
func (r *releaseRun) isNewHead(plan release.Plan) bool {
	return r.req.Rollback == nil && len(r.req.Apps) == 0 && plan.Lineage.Relation == release.Forward && len(plan.Lineage.Running) > 0
}

// recordHead records, with a rollout without steps, that the environment runs the
// revision as a whole. While another rollout holds the lock it waits, and returns
// ErrPlanStale: the machines must be compared again.
func (r *releaseRun) recordHead(ctx workflow.Context, env release.Environment, plan release.Plan) error {
	id := release.RolloutID(r.req.Project, env.Name)
	r.queue.held = env.Name
	child := workflow.ExecuteChildWorkflow(r.withRolloutOptions(ctx, env, id), Rollout, release.RolloutRequest{
		Project: r.req.Project, Release: r.status.ID, Revision: r.status.Revision, Plan: plan, By: r.req.By, Head: r.head, Whole: true, Unchanged: true,
	})
	var run workflow.Execution
	err := child.GetChildWorkflowExecution().Get(ctx, &run)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) || isChildAlreadyStarted(err) {
		r.queue.held = ""
		if err := r.waitInQueue(ctx, env, id, 0); err != nil {
			return err
		}
		r.queue.held = env.Name // it is the turn of this release, which plans again
		return release.ErrPlanStale
	}
	var report release.Report
	if err == nil {
		report, err = r.waitForReport(ctx, env, child, run)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil: // no machine changes, so a failure is only a note
		r.addNote("could not record that %s is at %s: %s", env.Name, r.status.Revision.Short(), errorMessage(err))
	case report.Stale != "":
		r.addNote("planned %s again: %s", env.Name, report.Stale)
		return release.ErrPlanStale
	}
	return nil
}

// recordHead ends a rollout whose plan has no steps: its report has the head of the
// environment. A pinned environment keeps its head.
func (r *rolloutRun) recordHead(ctx workflow.Context) (*release.Report, error) {
	permit, err := r.readPermit(ctx)
	switch {
	case err != nil:
		return r.stop(ctx, err)
	case permit.Pin == nil && permit.Head.Differs(r.in.Head):
		return r.finishStale(ctx, fmt.Sprintf("%s is at %s now", r.in.Plan.Environment, permit.Head.Short()))
	}
	r.in.Gate = permit.Gate
	if permit.Pin != nil {
		r.in.Whole, r.in.Head = false, permit.Head
	}
	return r.finish(ctx, release.Unchanged, nil)
}
