package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// recordBaseline reads the state of the targets before the first change, and whether
// the previous rollout ended without a report. The history then has the baseline.
func (r *rolloutRun) recordBaseline(ctx workflow.Context, targets []activities.TargetRef) (start activities.Start, err error) {
	err = workflow.ExecuteActivity(withCallOptions(ctx, "Record the baseline of "+r.in.Plan.Environment), act.RecordBaseline,
		activities.StartInput{Targets: targets, Written: r.leases.versions(), PredecessorRun: r.in.PredecessorRun}).Get(ctx, &start)
	start.States = r.in.Plan.WithKnownConfigs(start.States)
	return start, err
}

// adoptBaseline uses start as the baseline. After an unreported rollout the baseline is
// the one of that rollout, except for machines that another client has changed since.
func (r *rolloutRun) adoptBaseline(ctx workflow.Context, start activities.Start) {
	r.states = start.States
	r.baselines = r.in.Plan.Baselines(r.states)
	r.record(ctx, release.TargetsPlanned(r.in.Plan.Environment, plannedTargets(r.in.Plan, r.states), r.in.Plan.Warnings()))
	if start.UnreadRollout != "" && start.LaterRollout == nil {
		r.addNote(ctx, "an earlier rollout ended without a report, and its history could not be read (%s): the baseline is what runs now", start.UnreadRollout)
	}
	r.cleanUpRemains(ctx, start.ToClose)
	if before := start.Before; before != nil {
		r.baselines = release.ResumeBaselines(before.Plan, before.Baselines, before.States, r.baselines)
		r.predecessorRunID = before.Run
		r.addNote(ctx, "the previous rollout ended without a report (%s): its baseline is used", before.Why)
		r.leftAwake = r.findLeftAwake(before.Close.VerificationStarts)
		if r.in.PredecessorRun == "" { // otherwise the takeover has cleaned up already
			remains := before.Close
			remains.VerificationStarts = nil // Rollout stops them after its verification
			r.cleanUpPredecessor(ctx, remains)
		}
	}
}

// checkPredecessor returns a StaleError if an earlier rollout ended without a report
// since the plan was made, because the plan does not treat what that rollout left. It
// also returns one if the history of that rollout cannot be read and the approved plan
// does not name it. A rollback restores each machine, so it needs neither.
func (r *rolloutRun) checkPredecessor(start activities.Start) error {
	if before := start.Before; before != nil && before.Run != r.in.Plan.FollowsRun && !r.in.Rollback {
		return &release.StaleError{Reason: "the previous rollout has ended without a report since the plan was made: " + before.Why}
	}
	if start.UnreadRollout == "" || start.LaterRollout != nil || r.in.Rollback || start.UnreadRollout == r.in.UnreadRollout {
		return nil
	}
	return &release.StaleError{Reason: "what ran before is not known: " + start.UnreadRollout}
}

// cleanUpPredecessor removes the leases, Fly releases and command machines of a rollout
// that ended without a report. It keeps the leases that this rollout has taken over.
func (r *rolloutRun) cleanUpPredecessor(ctx workflow.Context, in activities.CloseInput) {
	in.Machines = slices.DeleteFunc(slices.Clone(in.Machines), func(m activities.Leased) bool {
		return slices.ContainsFunc(r.leases.machines, func(own activities.Leased) bool {
			return own.Nonce != "" && own.Machine == m.Machine && own.FlyApp == m.FlyApp
		})
	})
	if err := workflow.ExecuteActivity(withCallOptions(ctx, "Clean up after the previous rollout"), act.CloseRollout, in).Get(ctx, nil); err != nil {
		r.record(ctx, release.CleanupFailed("could not remove all leases, Fly releases and command machines of the previous rollout: "+errorMessage(err)))
	}
}

// machinesChangedBefore returns the IDs of the machines that the previous rollout
// changed, if that rollout ended without a report.
func (r *rolloutRun) machinesChangedBefore() []string {
	if r.predecessorRunID == "" {
		return nil
	}
	return release.ChangedMachines(r.baselines, r.states)
}

// resumedMachines returns the IDs of the machines that an unreported previous rollout
// changed and that this plan leaves as they are. They are verified as if this rollout
// had changed them.
func (r *rolloutRun) resumedMachines() map[string]bool {
	ids := map[string]bool{}
	for _, id := range r.machinesChangedBefore() {
		ids[id] = true
	}
	for _, s := range r.in.Plan.Steps() {
		if s.Verb != release.Start && s.Verb != release.Uncordon {
			delete(ids, s.Machine) // the plan changes the machine itself
		}
	}
	return ids
}

// changedGroups returns the sorted groups of a target in which plan, or the rollout
// that it resumes, gives a machine another version.
func (r *rolloutRun) changedGroups(plan release.Plan, goal release.State) []string {
	groups, resumed := plan.ChangedGroups(goal.Target), r.resumedMachines()
	for _, m := range goal.Machines {
		if resumed[m.ID] && !slices.Contains(groups, m.Group) {
			groups = append(groups, m.Group)
		}
	}
	slices.Sort(groups)
	return groups
}
