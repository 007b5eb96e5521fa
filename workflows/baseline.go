package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// recordBaseline reads what the targets run before the first change, into the
// history, and whether the rollout before this one has ended without a report.
func (r *roller) recordBaseline(ctx workflow.Context) (start activities.Start, err error) {
	err = workflow.ExecuteActivity(calling(ctx, "Record the baseline of "+r.in.Plan.Environment), act.RecordBaseline,
		activities.StartInput{Targets: r.probedRefs(), Follows: r.in.Follows}).Get(ctx, &start)
	start.States = r.in.Plan.Remembered(start.States)
	return start, err
}

// remember takes start as the baseline. After a rollout that ended without a
// report the baseline is still that one's, as far as nobody else has changed it.
func (r *roller) remember(ctx workflow.Context, start activities.Start) {
	r.states = start.States
	r.baselines = r.in.Plan.Baselines(r.states)
	r.status.Environments[0].Targets = targetsOf(r.in.Plan, r.states)
	r.status.Environments[0].Warnings = r.in.Plan.Warnings()
	if start.Unread != "" && start.Since == nil {
		r.note("a rollout before this one ended without a report, and its history could not be read (%s): the baseline is what runs now", start.Unread)
	}
	r.closeLeft(ctx, start.Left)
	if before := start.Before; before != nil {
		r.baselines = release.Resumed(before.Baselines, before.Plan.Goal(before.States), r.baselines)
		r.settles = before.Run
		r.note("the rollout before this one ended without a report (%s): the baseline is the one that it had", before.Why)
		r.woken = r.leftAwake(before.Close.Woken)
		if r.in.Follows == "" { // else that was done when a person was asked
			left := before.Close
			left.Woken = nil // those are stopped once this rollout has looked
			r.closeBefore(ctx, left)
		}
	}
}

// unread returns why the plan has to be asked about again, or "": a rollout before
// this one ended without a report that can be read, and nobody knew.
func (r *roller) unread(start activities.Start) string {
	if start.Unread == "" || start.Since != nil || r.in.Rollback || start.Unread == r.in.Unread {
		return ""
	}
	return "what ran before is not known: " + start.Unread
}

// closeBefore removes the leases, Fly releases and command machines of a rollout that
// ended without a report. It keeps the leases that this rollout has taken over, and only
// those.
func (r *roller) closeBefore(ctx workflow.Context, in activities.CloseInput) {
	in.Machines = slices.DeleteFunc(slices.Clone(in.Machines), func(m activities.Leased) bool {
		return slices.ContainsFunc(r.leases.machines, func(own activities.Leased) bool {
			return own.Nonce != "" && own.Machine == m.Machine && own.FlyApp == m.FlyApp
		})
	})
	if err := workflow.ExecuteActivity(calling(ctx, "Clean up what the rollout before left on Fly"), act.CloseRollout, in).Get(ctx, nil); err != nil {
		r.note("not all that the rollout before left on Fly could be removed (leases, Fly releases, machines of commands): %s", plain(err))
	}
}

// changedBefore returns the IDs of the machines that the rollout before this one has
// changed, where that ended without a report.
func (r *roller) changedBefore() []string {
	if r.settles == "" {
		return nil
	}
	return release.Changed(r.baselines, r.states)
}

// resumed returns the IDs of the machines that the rollout before this one has
// changed, where that ended without a report, and that this one leaves as they are.
// They are judged as if this rollout had changed them.
func (r *roller) resumed() map[string]bool {
	ids := map[string]bool{}
	for _, id := range r.changedBefore() {
		ids[id] = true
	}
	for _, s := range r.in.Plan.Steps() {
		if s.Verb != release.Start && s.Verb != release.Uncordon {
			delete(ids, s.Machine) // it is not what the plan leads to
		}
	}
	return ids
}

// changedGroups returns the groups of a target in which plan, or the rollout that
// it resumes, gives a machine another version.
func (r *roller) changedGroups(plan release.Plan, goal release.State) []string {
	groups, resumed := plan.ChangedGroups(goal.Target), r.resumed()
	for _, m := range goal.Machines {
		if resumed[m.ID] && !slices.Contains(groups, m.Group) {
			groups = append(groups, m.Group)
		}
	}
	slices.Sort(groups)
	return groups
}
