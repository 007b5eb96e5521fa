package workflows

import (
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// unchanged ends an environment that runs what the revision asks for. Where that makes
// it newer as a whole, a rollout without steps records it: an older revision that
// comes later must not take its place.
func (r *releaser) unchanged(ctx workflow.Context, env release.Environment, plan release.Plan) error {
	if r.movesHead(plan) {
		if err := r.recordHead(ctx, env, plan); err != nil {
			return err
		}
	}
	e := r.status.EnvironmentStatus(env.Name)
	e.Outcome, e.Targets = release.Unchanged, targetsSeen(plan)
	r.status.Plan = nil
	r.show(ctx)
	return nil
}

// movesHead reports whether an environment without changes is at a newer revision
// as a whole: every app was compared, and the revision descends from what runs.
func (r *releaser) movesHead(plan release.Plan) bool {
	return r.req.Rollback == nil && len(r.req.Apps) == 0 && plan.Lineage.Relation == release.Forward && len(plan.Lineage.Running) > 0
}

// recordHead records, under the lock, that the environment runs the revision as a
// whole. While another rollout has the lock it waits, and returns ErrPlanStale:
// what runs has to be looked at again.
func (r *releaser) recordHead(ctx workflow.Context, env release.Environment, plan release.Plan) error {
	id := release.RolloutID(r.req.Project, env.Name)
	r.line.environment = env.Name
	child := workflow.ExecuteChildWorkflow(r.alone(ctx, env, id), Rollout, release.RolloutRequest{
		Project: r.req.Project, Release: r.status.ID, Revision: r.status.Revision, Plan: plan, By: r.req.By, Head: r.head, Whole: true, Unchanged: true,
	})
	var run workflow.Execution
	err := child.GetChildWorkflowExecution().Get(ctx, &run)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) || isTaken(err) {
		r.line.environment = ""
		if err := r.queue(ctx, env, id, 0); err != nil {
			return err
		}
		r.line.environment = env.Name // it is the next, and plans again
		return release.ErrPlanStale
	}
	var report release.Report
	if err == nil {
		report, err = r.awaitReport(ctx, env, child, run)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil: // it changes no machine
		r.note("that %s is at %s could not be recorded: %s", env.Name, r.status.Revision.Short(), plain(err))
	case report.Stale != "":
		r.note("the plan for %s was made again: %s", env.Name, report.Stale)
		return release.ErrPlanStale
	}
	return nil
}

// recordHead ends a rollout whose plan has no steps: its report says what the
// environment runs as a whole. A pinned environment stays what it is.
func (r *roller) recordHead(ctx workflow.Context) (*release.Report, error) {
	permit, err := r.permit(ctx)
	switch {
	case err != nil:
		return r.stop(ctx, err)
	case permit.Pin == nil && permit.Head.Differs(r.in.Head):
		return r.stale(ctx, fmt.Sprintf("%s has been found to be at %s since", r.in.Plan.Environment, permit.Head.Short()))
	}
	r.in.Gate = permit.Gate
	if permit.Pin != nil {
		r.in.Whole, r.in.Head = false, permit.Head
	}
	return r.finish(ctx, release.Unchanged, nil)
}
