package workflows

import (
	"errors"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// Release takes one revision along its path of environments.
//
// It completes when every target is in a known state: promoted, unchanged or restored.
// It fails with KindStranded only if a target is in neither state and an operator
// abandoned the rollout.
func Release(ctx workflow.Context, req release.Request) (*release.Report, error) {
	r, err := beginRelease(ctx, req)
	if err != nil {
		return nil, err
	}
	project, err := r.loadProject(ctx) // reads the files at the revision
	if err != nil {
		return r.stop(ctx, err)
	}
	if req.Rollback != nil {
		return r.rollBack(ctx, project)
	}
	images := builtImages{}
	for done := 0; done < len(r.path); done = r.countCompleted() { // an extension may add environments meanwhile
		remaining := r.path[done:]
		if err := r.runPreflight(ctx, project, remaining); err != nil {
			return r.stop(ctx, err)
		}
		if err := r.testAndBuild(ctx, project, remaining, images); err != nil { // concurrently: neither changes a target
			return r.stop(ctx, err)
		}
		for _, environment := range remaining {
			err := r.promote(ctx, environment, func(ctx workflow.Context) (release.Plan, error) {
				return r.planRollout(ctx, project, environment, images)
			})
			if err != nil {
				return r.endWithCause(ctx, err)
			}
		}
	}
	return r.finish(ctx)
}

// rollBack restores the previous state of one environment. The rollback is a rollout
// like any other: planned, approved, verified, and undone if it fails.
func (r *releaseRun) rollBack(ctx workflow.Context, project release.Project) (*release.Report, error) {
	environment := r.path[0]
	if r.req.Rollback.Emergency {
		r.addNote(ctx, "emergency rollback: %s skipped its gate, started by %s: %s", environment.Name, r.req.By, r.req.Rollback.Reason)
		environment.Gate = nil
	}
	err := r.promote(ctx, environment, func(ctx workflow.Context) (release.Plan, error) {
		past, err := r.findBaseline(ctx, project, environment) // again for each plan: another rollout may have ended meanwhile
		if err != nil {
			return release.Plan{}, err
		}
		return r.planRestore(ctx, environment, past)
	})
	if err != nil {
		r.removePin(ctx, err)
		return r.endWithCause(ctx, err)
	}
	return r.finish(ctx)
}

// promote plans, waits for approval if the environment has a gate, and rolls out. If
// the plan no longer matches the running machines, it starts again with a new plan,
// which needs its own approval. After three such plans in a row it waits before the next.
func (r *releaseRun) promote(ctx workflow.Context, env release.Environment, makePlan func(workflow.Context) (release.Plan, error)) error {
	for tries := 1; ; tries++ {
		err := r.attemptPromotion(ctx, env, makePlan)
		for r.leavesUnsettled(err) {
			err = r.takeOver(ctx, env, err) // the state of the machines is unknown: an operator decides
		}
		if !errors.Is(err, release.ErrPlanStale) {
			r.unsettled = nil
			r.leaveQueue(ctx)
			return err
		}
		r.waitToReplan(ctx, env, tries)
	}
}

// attemptPromotion plans, waits for approval and rolls out, once.
func (r *releaseRun) attemptPromotion(ctx workflow.Context, env release.Environment, makePlan func(workflow.Context) (release.Plan, error)) error {
	plan, err := makePlan(ctx)
	if err != nil {
		return err
	}
	if plan.IsEmpty() {
		settled, err := r.isEnvironmentSettled(ctx, env) // if not, a rollout verifies the machines
		if err != nil {
			return err
		}
		if settled {
			return r.recordUnchanged(ctx, env, plan)
		}
	}
	standing, err := r.readStanding(ctx, env, plan) // the pin of the environment and the gate of the plan
	if err != nil {
		return err
	}
	if err := r.waitForApproval(ctx, env, standing, plan); err != nil {
		return err
	}
	if err := r.pinEnvironment(ctx, env); err != nil { // a rollback pins its environment
		return err
	}
	return r.runRollout(ctx, env, plan, standing, false)
}
