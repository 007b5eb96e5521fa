package workflows

import (
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// findBaseline finds the state that the rollback restores. It waits while another
// rollout of the environment is open, because that one may change the answer.
func (r *releaseRun) findBaseline(ctx workflow.Context, project release.Project, env release.Environment) (activities.PastState, error) {
	in := activities.BaselineInput{Project: r.req.Project, Rollback: *r.req.Rollback}
	for _, t := range env.Targets {
		in.Targets = append(in.Targets, activities.TargetRef{Target: t.Target, FlyApp: t.FlyApp})
	}
	for tries := 0; ; tries++ {
		r.enterPhase(ctx, release.Planning, env.Name)
		var past activities.PastState
		if err := workflow.ExecuteActivity(withCallOptions(ctx, "Find what "+env.Name+" ran before"), act.FindBaseline, in).Get(ctx, &past); err != nil {
			return past, err
		}
		if !past.Busy {
			r.recordRestoredRevision(ctx, env, past)
			return past, nil
		}
		if err := r.waitInQueue(ctx, env, tries); err != nil {
			return past, err
		}
	}
}

// recordRestoredRevision writes the revision that is restored into the status, the
// search attributes, the memo and the notes.
func (r *releaseRun) recordRestoredRevision(ctx workflow.Context, env release.Environment, past activities.PastState) {
	r.head = past.Head
	r.record(ctx, release.RestoreFound(env.Name, past.Revision, past.Origin))
	note := "back to"
	if past.Revision.Commit != "" {
		note += " " + strings.TrimSpace(past.Revision.Short()+" "+past.Revision.Subject) + ":"
	}
	r.addNoteOnce(ctx, note+" "+env.Name+" "+past.Text)
	for _, note := range past.Notes {
		r.addNoteOnce(ctx, note)
	}
	r.writeRestoresMemo(ctx, release.RestoredRevision{Revision: past.Revision})
	r.enterPhase(ctx, release.Planning, env.Name)
}

// writeRestoresMemo writes the restored revision into the memo, which lists read.
func (r *releaseRun) writeRestoresMemo(ctx workflow.Context, restored release.RestoredRevision) {
	if err := workflow.UpsertMemo(ctx, map[string]any{release.MemoRestores: restored}); err != nil {
		workflow.GetLogger(ctx).Warn("memo not set", "release", r.status().ID, "error", err)
	}
}

// addNoteOnce adds a note unless it exists: each new plan finds the same facts again.
func (r *releaseRun) addNoteOnce(ctx workflow.Context, note string) {
	if !slices.Contains(r.status().Notes, note) {
		r.addNote(ctx, "%s", note)
	}
}

// planRestore plans the restore of past and compares the revisions.
func (r *releaseRun) planRestore(ctx workflow.Context, env release.Environment, past activities.PastState) (release.Plan, error) {
	var restoration activities.Restoration
	err := workflow.ExecuteActivity(withCallOptions(ctx, "Plan the rollback of "+env.Name), act.PlanRestore, activities.RestoreInput{
		Environment: env.Name, Baselines: past.Baselines,
	}).Get(ctx, &restoration)
	if err == nil {
		restoration.Plan.Lineage, err = r.compareRollback(ctx, env, past.Revision, release.RunningRevisions(restoration.States))
	}
	return r.sealPlan(ctx, restoration.Plan, err)
}

// Timeouts for reading from the repository which commits a rollback removes.
const (
	rollbackCompareTimeout  = 30 * time.Second
	emergencyCompareTimeout = 2 * time.Second
)

// compareRollback returns which commits a rollback removes. The result is for display
// only: if the repository does not answer in time, the lineage has the reason.
func (r *releaseRun) compareRollback(ctx workflow.Context, env release.Environment, restored release.Revision, running []string) (release.Lineage, error) {
	lineage := release.Lineage{Running: running, Why: "the metadata of the machines has no revision"}
	if restored.Commit != "" && len(running) > 0 {
		source := r.source()
		source.Revision = restored
		var descent activities.Descent
		err := workflow.ExecuteActivity(r.withCompareOptions(ctx, "Compare "+restored.Short()+" with what "+env.Name+" runs"), act.Lineage, activities.LineageInput{
			Source: source, EnvironmentRef: r.environmentRef(env), Running: running,
		}).Get(ctx, &descent)
		if err != nil && ctx.Err() != nil {
			return lineage, err
		}
		lineage.Why = descent.Lineage.Why
		lineage.Added, lineage.AddedCount, lineage.Removed, lineage.RemovedCount = descent.Lineage.Added, descent.Lineage.AddedCount, descent.Lineage.Removed, descent.Lineage.RemovedCount
		if err != nil {
			lineage.Why = "the repository did not answer in time"
		}
	}
	r.writeRestoresMemo(ctx, release.RestoredRevision{Revision: restored, Lineage: release.Lineage{Running: running, RemovedCount: lineage.RemovedCount, Why: lineage.Why}})
	return lineage, nil
}

// withCompareOptions returns ctx with the options of withGitOptions and short timeouts:
// a rollback must not wait for the repository.
func (r *releaseRun) withCompareOptions(ctx workflow.Context, summary string) workflow.Context {
	limit := rollbackCompareTimeout
	if r.req.Rollback.Emergency {
		limit = emergencyCompareTimeout
	}
	ctx = withBudget(ctx, release.GitQueue, summary, limit, limit)
	options := workflow.GetActivityOptions(ctx)
	options.WaitForCancellation = false
	return workflow.WithActivityOptions(ctx, options)
}

// describeChange returns a short text of what the release does to an environment.
func (r *releaseRun) describeChange() string {
	revision := r.status().Revision
	if r.req.Rollback == nil {
		return revision.Short()
	}
	if revision.Commit == "" {
		return "rollback of " + r.req.Rollback.Environment
	}
	return "back to " + strings.TrimSpace(revision.Short()+" "+revision.Subject)
}
