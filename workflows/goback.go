package workflows

import (
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// findBaseline finds what the rollback goes back to. While another rollout of
// the environment is open that is not certain, so it waits.
func (r *releaser) findBaseline(ctx workflow.Context, project release.Project, env release.Environment) (activities.Past, error) {
	in := activities.BaselineInput{Project: r.req.Project, Rollback: *r.req.Rollback}
	for _, t := range env.Targets {
		in.Places = append(in.Places, activities.Place{Target: t.Target, FlyApp: t.FlyApp})
	}
	for tries := 0; ; tries++ {
		r.enter(ctx, release.Planning, env.Name)
		var past activities.Past
		if err := workflow.ExecuteActivity(calling(ctx, "Find what "+env.Name+" ran before"), act.FindBaseline, in).Get(ctx, &past); err != nil {
			return past, err
		}
		if !past.Busy {
			r.aimAt(ctx, env, past)
			return past, nil
		}
		if err := r.queue(ctx, env, release.RolloutID(r.req.Project, env.Name), tries); err != nil {
			return past, err
		}
	}
}

// aimAt says everywhere that the release is about the revision that is restored:
// status, search attributes, memo and notes.
func (r *releaser) aimAt(ctx workflow.Context, env release.Environment, past activities.Past) {
	r.status.Revision, r.status.Restores, r.head = past.Revision, &past.Origin, past.Head
	said := "back to"
	if past.Revision.Commit != "" {
		said += " " + strings.TrimSpace(past.Revision.Short()+" "+past.Revision.Subject) + ":"
	}
	r.noteOnce(said + " " + env.Name + " " + past.Said)
	for _, note := range past.Notes {
		r.noteOnce(note)
	}
	if err := workflow.UpsertMemo(ctx, map[string]any{release.MemoRestores: past.Revision}); err != nil {
		workflow.GetLogger(ctx).Warn("memo not set", "release", r.status.ID, "error", err)
	}
	r.enter(ctx, release.Planning, env.Name)
}

// noteOnce is note for what is found again each time a plan is made.
func (r *releaser) noteOnce(note string) {
	if !slices.Contains(r.status.Notes, note) {
		r.note("%s", note)
	}
}

func (r *releaser) planRestore(ctx workflow.Context, env release.Environment, past activities.Past) (release.Plan, error) {
	var back activities.Restoration
	err := workflow.ExecuteActivity(calling(ctx, "Plan the rollback of "+env.Name), act.PlanRestore, activities.RestoreInput{
		Environment: env.Name, Baselines: past.Baselines,
	}).Get(ctx, &back)
	if err == nil && !r.req.Rollback.Emergency {
		back.Plan.Lineage, err = r.takenAway(ctx, env, past, back)
	}
	return r.seal(ctx, back.Plan), err
}

// takenAway returns which commits the rollback takes away from what runs now.
func (r *releaser) takenAway(ctx workflow.Context, env release.Environment, past activities.Past, back activities.Restoration) (taken release.Lineage, err error) {
	err = workflow.ExecuteActivity(calling(ctx, "Compare "+env.Name+" with what it goes back to"), act.TakenAway, activities.LineageInput{
		Source: activities.Source{Repository: r.req.Repository, Revision: past.Revision}, StandingInput: r.standingInput(env),
		Running: release.RunningRevisions(back.States),
	}).Get(ctx, &taken)
	if err == nil {
		r.status.EnvironmentStatus(env.Name).Lineage = taken
	}
	return taken, err
}

// what is what the release does to an environment, in a few words.
func (r *releaser) what() string {
	if r.req.Rollback == nil {
		return r.status.Revision.Short()
	}
	if r.status.Revision.Commit == "" {
		return "rollback of " + r.req.Rollback.Environment
	}
	return "back to " + strings.TrimSpace(r.status.Revision.Short()+" "+r.status.Revision.Subject)
}
