package workflows

import (
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// findBaseline finds what the rollback goes back to. While another rollout of
// the environment is open that is not certain, so it waits.
func (r *releaser) findBaseline(ctx workflow.Context, project release.Project, env release.Environment) (activities.PastState, error) {
	in := activities.BaselineInput{Project: r.req.Project, Rollback: *r.req.Rollback}
	for _, t := range env.Targets {
		in.Targets = append(in.Targets, activities.TargetRef{Target: t.Target, FlyApp: t.FlyApp})
	}
	for tries := 0; ; tries++ {
		r.enter(ctx, release.Planning, env.Name)
		var past activities.PastState
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
func (r *releaser) aimAt(ctx workflow.Context, env release.Environment, past activities.PastState) {
	r.status.Revision, r.status.Restores, r.head = past.Revision, &past.Origin, past.Head
	said := "back to"
	if past.Revision.Commit != "" {
		said += " " + strings.TrimSpace(past.Revision.Short()+" "+past.Revision.Subject) + ":"
	}
	r.noteOnce(said + " " + env.Name + " " + past.Text)
	for _, note := range past.Notes {
		r.noteOnce(note)
	}
	r.remember(ctx, release.RestoredRevision{Revision: past.Revision})
	r.enter(ctx, release.Planning, env.Name)
}

// remember writes what the rollback goes back to where lists read it.
func (r *releaser) remember(ctx workflow.Context, restored release.RestoredRevision) {
	if err := workflow.UpsertMemo(ctx, map[string]any{release.MemoRestores: restored}); err != nil {
		workflow.GetLogger(ctx).Warn("memo not set", "release", r.status.ID, "error", err)
	}
}

// noteOnce is note for what is found again each time a plan is made.
func (r *releaser) noteOnce(note string) {
	if !slices.Contains(r.status.Notes, note) {
		r.note("%s", note)
	}
}

func (r *releaser) planRestore(ctx workflow.Context, env release.Environment, past activities.PastState) (release.Plan, error) {
	var back activities.Restoration
	err := workflow.ExecuteActivity(calling(ctx, "Plan the rollback of "+env.Name), act.PlanRestore, activities.RestoreInput{
		Environment: env.Name, Baselines: past.Baselines,
	}).Get(ctx, &back)
	if err == nil {
		back.Plan.Lineage, err = r.compareBack(ctx, env, past.Revision, release.RunningRevisions(back.States))
	}
	return r.seal(ctx, back.Plan), err
}

// How long a rollback waits for the repository to say which commits it takes away.
const (
	compareBackLimit          = 30 * time.Second
	compareBackEmergencyLimit = 2 * time.Second
)

// compareBack returns which commits a rollback takes away. Nothing depends on it:
// where the repository does not tell in time, it is not known.
func (r *releaser) compareBack(ctx workflow.Context, env release.Environment, restored release.Revision, running []string) (release.Lineage, error) {
	lineage := release.Lineage{Running: running, Why: "the machines do not say which revision they ran"}
	if restored.Commit != "" && len(running) > 0 {
		source := r.source()
		source.Revision = restored
		var descent activities.Descent
		err := workflow.ExecuteActivity(r.briefly(ctx, "Compare "+restored.Short()+" with what "+env.Name+" runs"), act.Lineage, activities.LineageInput{
			Source: source, EnvironmentRef: r.standingInput(env), Running: running,
		}).Get(ctx, &descent)
		if err != nil && ctx.Err() != nil {
			return lineage, err
		}
		lineage.Why = descent.Lineage.Why
		lineage.Added, lineage.Adds, lineage.Taken, lineage.Takes = descent.Lineage.Added, descent.Lineage.Adds, descent.Lineage.Taken, descent.Lineage.Takes
		if err != nil {
			lineage.Why = "the repository did not answer in time"
		}
	}
	r.status.EnvironmentStatus(env.Name).Lineage = lineage
	r.remember(ctx, release.RestoredRevision{Revision: restored, Lineage: release.Lineage{Running: running, Takes: lineage.Takes, Why: lineage.Why}})
	r.show(ctx)
	return lineage, nil
}

// briefly is reading, for what a rollback does not wait for long.
func (r *releaser) briefly(ctx workflow.Context, summary string) workflow.Context {
	limit := compareBackLimit
	if r.req.Rollback.Emergency {
		limit = compareBackEmergencyLimit
	}
	ctx = budget(ctx, release.GitQueue, summary, limit, limit)
	options := workflow.GetActivityOptions(ctx)
	options.WaitForCancellation = false
	return workflow.WithActivityOptions(ctx, options)
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
