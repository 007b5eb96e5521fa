package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// A supersededError ends a release that a newer revision has overtaken.
type supersededError struct {
	environment string
	newer       *release.Revision
	waits       bool // the newer one waits for the environment; else it runs there
}

func (e *supersededError) Error() string {
	does := "runs in"
	if e.waits {
		does = "waits for"
	}
	return fmt.Sprintf("%s, which is newer, %s %s", e.newer.Label(), does, e.environment)
}

func (r *releaser) standingInput(env release.Environment) activities.EnvironmentRef {
	return activities.EnvironmentRef{Project: r.req.Project, Environment: env.Name}
}

// compare adds to the plan how its revision relates to what the environment runs.
func (r *releaser) compare(ctx workflow.Context, env release.Environment, plan release.Plan) (release.Plan, error) {
	var descent activities.Descent
	err := workflow.ExecuteActivity(reading(ctx, "Compare "+r.req.Revision.Short()+" with what "+env.Name+" runs"), act.Lineage, activities.LineageInput{
		Source: r.source(), EnvironmentRef: r.standingInput(env), Running: plan.Lineage.Running,
	}).Get(ctx, &descent)
	if err != nil {
		return plan, err
	}
	r.head = descent.Head
	plan.Lineage, plan.Skipped = descent.Lineage, r.skippedBefore(env)
	r.status.EnvironmentStatus(env.Name).Lineage = descent.Lineage
	return plan, nil
}

// skippedBefore returns the skipped environments that env comes after.
func (r *releaser) skippedBefore(env release.Environment) []release.Skipped {
	if slices.ContainsFunc(r.path, func(e release.Environment) bool { return e.Name == env.After }) {
		return nil
	}
	return r.req.Skip
}

// standing reads what binds the release in env: its pin, and the gate that the
// plan has to pass.
func (r *releaser) standing(ctx workflow.Context, env release.Environment, plan release.Plan) (standing activities.Standing, err error) {
	back := r.req.Rollback
	err = workflow.ExecuteActivity(calling(ctx, "Read pin and gate of "+env.Name), act.Standing, activities.GateInput{
		EnvironmentRef: r.standingInput(env), Gate: env.Gate, Lineage: plan.Lineage, Skipped: plan.Skipped,
		AllowDiverged: r.req.AllowDiverged, Rollback: back != nil, Emergency: back != nil && back.Emergency, Follows: r.follows(env),
	}).Get(ctx, &standing)
	if err == nil && back == nil && standing.Pin != nil {
		return standing, pinned(*standing.Pin)
	}
	return standing, err
}

// pinned is the error of a release to a pinned environment.
func pinned(pin release.Pin) error {
	return fmt.Errorf("%s; `release unpin %s --reason …` lets releases change it again", pin, pin.Environment)
}

// A staleError is an ErrPlanStale that says why.
type staleError struct{ why string }

func (e *staleError) Error() string { return e.why }
func (e *staleError) Unwrap() error { return release.ErrPlanStale }

// mayChange returns why the rollout must not begin: its environment is pinned, or
// runs another revision as a whole than the plan was compared with (an
// ErrPlanStale). A rollback that a person asked for is exempt.
func (r *roller) mayChange(ctx workflow.Context) error {
	if r.in.Rollback {
		return nil
	}
	permit, err := r.permit(ctx)
	switch {
	case err != nil:
		return err
	case permit.Pin != nil:
		return pinned(*permit.Pin)
	case permit.Head.Differs(r.in.Head):
		return &staleError{fmt.Sprintf("%s has been found to be at %s since", r.in.Plan.Environment, permit.Head.Short())}
	}
	return nil
}

// permit reads what binds the rollout, under the lock.
func (r *roller) permit(ctx workflow.Context) (permit activities.Permit, err error) {
	err = workflow.ExecuteActivity(calling(ctx, "Read pin and revision of "+r.in.Plan.Environment), act.MayChange, activities.EnvironmentRef{
		Project: r.in.Project, Environment: r.in.Plan.Environment,
	}).Get(ctx, &permit)
	return permit, err
}

// superseded ends a rollout to a revision that is older than what runs. Nothing
// was changed.
func (r *roller) superseded(ctx workflow.Context) (*release.Report, error) {
	return r.finish(ctx, release.Superseded, &supersededError{environment: r.in.Plan.Environment, newer: r.in.Plan.Lineage.Newer})
}

// headAfter returns what the environment runs as a whole after the rollout. After a
// rollback it is what it ran then.
func (r *roller) headAfter(outcome release.Outcome) *release.Head {
	switch {
	case r.in.Rollback && outcome != release.Restored:
		return nil // what machines name is all that is known
	case r.in.Whole && (outcome == release.Promoted || outcome == release.Unchanged):
		return &release.Head{Commit: r.in.Revision.Commit, Covers: r.in.Plan.Lineage.Running}
	}
	return r.in.Head
}

// headBefore returns what the environment ran as a whole before the rollout.
func (r *roller) headBefore() *release.Head {
	if r.in.Rollback {
		return nil
	}
	return r.in.Head
}
