package workflows

import (
	"errors"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// Release takes one revision along its path of environments.
//
// It completes when every target is in a known state: on the new images, as it
// was, or back on its baseline. It fails only when one is in neither and a
// person gave up on it.
func Release(ctx workflow.Context, req release.Request) (*release.Report, error) {
	r, err := begin(ctx, req)
	if err != nil {
		return nil, err
	}
	project, err := r.load(ctx) // the files at the revision
	if err != nil {
		return r.stop(ctx, err)
	}
	if req.Rollback != nil {
		return r.goBack(ctx, project)
	}
	images := made{}
	for done := 0; done < len(r.path); done = r.done() { // a request may extend the path meanwhile
		stretch := r.path[done:]
		if err := r.preflight(ctx, project, stretch); err != nil {
			return r.stop(ctx, err)
		}
		if err := r.testAndBuild(ctx, project, stretch, images); err != nil { // side by side: neither changes a target
			return r.stop(ctx, err)
		}
		for _, environment := range stretch {
			err := r.promote(ctx, environment, func(ctx workflow.Context) (release.Plan, error) {
				return r.plan(ctx, project, environment, images)
			})
			if err != nil {
				return r.end(ctx, err)
			}
		}
	}
	return r.finish(ctx)
}

// goBack brings one environment to what it ran before. It is a rollout like
// any other: planned, asked for, verified, and taken back if it fails.
func (r *releaser) goBack(ctx workflow.Context, project release.Project) (*release.Report, error) {
	environment := r.path[0]
	if r.req.Rollback.Emergency {
		r.note("emergency: the gate of %s was passed by %s: %s", environment.Name, r.req.By, r.req.Rollback.Reason)
		environment.Gate = nil
	}
	err := r.promote(ctx, environment, func(ctx workflow.Context) (release.Plan, error) {
		past, err := r.findBaseline(ctx, project, environment) // each time: another rollout may have ended meanwhile
		if err != nil {
			return release.Plan{}, err
		}
		return r.planRestore(ctx, environment, past)
	})
	if err != nil {
		r.unpin(ctx, err)
		return r.end(ctx, err)
	}
	return r.finish(ctx)
}

// promote plans, asks where the environment has a gate, and rolls out. A plan
// that no longer fits what Fly runs is made again and asked for again.
func (r *releaser) promote(ctx workflow.Context, env release.Environment, plan func(workflow.Context) (release.Plan, error)) error {
	for {
		err := r.attempt(ctx, env, plan)
		for r.isBroken(err) {
			err = r.takeOver(ctx, env, err) // nobody knows what the rollout left: a person decides
		}
		if !errors.Is(err, release.ErrPlanStale) {
			r.broken = nil
			r.leave(ctx)
			return err
		}
	}
}

// attempt plans, asks and rolls out once.
func (r *releaser) attempt(ctx workflow.Context, env release.Environment, plan func(workflow.Context) (release.Plan, error)) error {
	p, err := plan(ctx)
	if err != nil {
		return err
	}
	if p.Empty() {
		settled, err := r.isSettled(ctx, env) // else somebody has to look at it
		if err != nil {
			return err
		}
		if settled {
			return r.unchanged(ctx, env, p)
		}
	}
	standing, err := r.standing(ctx, env, p) // its pin, and the gate that the plan has to pass
	if err != nil {
		return err
	}
	if err := r.approve(ctx, env, standing, p); err != nil {
		return err
	}
	if err := r.pin(ctx, env); err != nil { // a rollback keeps others out
		return err
	}
	return r.rollout(ctx, env, p, standing, false)
}
