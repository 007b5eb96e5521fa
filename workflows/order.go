package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// A supersededError ends a release because a newer revision has overtaken it.
type supersededError struct {
	environment string
	newer       *release.Revision
	waits       bool // the newer revision waits for the environment; otherwise it runs there
}

func (e *supersededError) Error() string {
	verb := "runs in"
	if e.waits {
		verb = "waits for"
	}
	return fmt.Sprintf("%s, which is newer, %s %s", e.newer.Label(), verb, e.environment)
}

// environmentRef returns the name of an environment of the project.
func (r *releaseRun) environmentRef(env release.Environment) activities.EnvironmentRef {
	return activities.EnvironmentRef{Project: r.req.Project, Environment: env.Name}
}

// compareLineage adds to the plan how its revision relates to the running revisions,
// and records the head of the environment.
func (r *releaseRun) compareLineage(ctx workflow.Context, env release.Environment, plan release.Plan) (release.Plan, error) {
	var descent activities.Descent
	err := workflow.ExecuteActivity(withGitOptions(ctx, "Compare "+r.req.Revision.Short()+" with what "+env.Name+" runs"), act.Lineage, activities.LineageInput{
		Source: r.source(), EnvironmentRef: r.environmentRef(env), Running: plan.Lineage.Running,
	}).Get(ctx, &descent)
	if err != nil {
		return plan, err
	}
	r.head = descent.Head
	plan.Lineage, plan.Skipped = descent.Lineage, r.skippedBefore(env)
	return plan, nil
}

// skippedBefore returns the skipped environments if env comes after one that is not on
// the path.
func (r *releaseRun) skippedBefore(env release.Environment) []release.Skipped {
	if slices.ContainsFunc(r.path, func(e release.Environment) bool { return e.Name == env.After }) {
		return nil
	}
	return r.req.Skip
}

// readStanding reads the pin of an environment and the gate that the plan has to pass.
// It returns an error if the environment is pinned, except for a rollback.
func (r *releaseRun) readStanding(ctx workflow.Context, env release.Environment, plan release.Plan) (standing activities.Standing, err error) {
	rollback := r.req.Rollback
	err = workflow.ExecuteActivity(withCallOptions(ctx, "Read pin and gate of "+env.Name), act.ReadStanding, activities.GateInput{
		EnvironmentRef: r.environmentRef(env), Gate: env.Gate, Lineage: plan.Lineage, Skipped: plan.Skipped,
		AllowDiverged: r.req.AllowDiverged, Rollback: rollback != nil, Emergency: rollback != nil && rollback.Emergency, PredecessorRun: r.followedRunID(env),
	}).Get(ctx, &standing)
	if err == nil && rollback == nil && standing.Pin != nil {
		return standing, pinnedError(*standing.Pin)
	}
	return standing, err
}

// pinnedError returns the error of a release to a pinned environment.
func pinnedError(pin release.Pin) error {
	return fmt.Errorf("%s; `release unpin %s --reason …` lets releases change it again", pin, pin.Environment)
}

// checkMayChange returns an error if the rollout must not begin: its environment is
// pinned, or the environment as a whole runs another revision than the plan was
// compared with (an ErrPlanStale). It does not apply to a rollback that an operator
// requested.
func (r *rolloutRun) checkMayChange(ctx workflow.Context) error {
	if r.in.Rollback {
		return nil
	}
	permit, err := r.readPermit(ctx)
	switch {
	case err != nil:
		return err
	case permit.Pin != nil:
		return pinnedError(*permit.Pin)
	case permit.Head.Differs(r.in.Head):
		return r.newHeadError(permit.Head)
	}
	return nil
}

// newHeadError returns the error of a plan that was compared with an older head than now.
func (r *rolloutRun) newHeadError(now *release.Head) error {
	return &release.StaleError{Reason: fmt.Sprintf("%s is at %s now", r.in.Plan.Environment, now.Short())}
}

// readPermit reads the pin, the head and the gate of the environment, under the lock.
func (r *rolloutRun) readPermit(ctx workflow.Context) (permit activities.Permit, err error) {
	err = workflow.ExecuteActivity(withCallOptions(ctx, "Read pin and revision of "+r.in.Plan.Environment), act.MayChange, activities.EnvironmentRef{
		Project: r.in.Project, Environment: r.in.Plan.Environment,
	}).Get(ctx, &permit)
	return permit, err
}

// finishSuperseded ends a rollout whose revision is older than the running one. Nothing
// was changed.
func (r *rolloutRun) finishSuperseded(ctx workflow.Context) (*release.Report, error) {
	return r.finish(ctx, release.Superseded, &supersededError{environment: r.in.Plan.Environment, newer: r.in.Plan.Lineage.Newer})
}

// headAfter returns the head of the environment after the rollout. After a rollback it
// is the head from before the rollout.
func (r *rolloutRun) headAfter(outcome release.Outcome) *release.Head {
	switch {
	case outcome == release.Unchanged && !r.in.SetsHead:
		return r.in.Head
	case r.in.Rollback && outcome != release.Restored:
		return nil // only the metadata of the machines is known
	case r.in.SetsHead && (outcome == release.Promoted || outcome == release.Unchanged):
		return &release.Head{Commit: r.in.Revision.Commit, Covers: r.in.Plan.Lineage.Running}
	}
	return r.in.Head
}

// headBefore returns the head of the environment before the rollout, or nil for a
// rollback.
func (r *rolloutRun) headBefore() *release.Head {
	if r.in.Rollback {
		return nil
	}
	return r.in.Head
}
