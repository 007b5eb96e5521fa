package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// RestoreInput names the states to restore.
type RestoreInput struct {
	Environment string             `json:"environment"`
	Baselines   []release.Baseline `json:"baselines"`
	// Goals, if set, are the goals of the plan that is rolled back: machines that it
	// created are removed. Machines that match neither goal nor baseline were changed
	// by another client; they are skipped unless Overwrite is set.
	Goals     []release.State `json:"goals,omitempty"`
	Overwrite bool            `json:"overwrite,omitempty"`
	// Found are the states that the rollout found, if they were neither its goal nor
	// the baseline, because an earlier rollout ended without a report.
	Found []release.State `json:"found,omitempty"`
	// Written has the versions that the rollout wrote: older reads are stale.
	Written Written `json:"written,omitempty"`
}

// A Restoration is the plan of a restore, and the current differences from the
// baseline. Its states have no configs: the plan has the needed ones.
type Restoration struct {
	Plan        release.Plan    `json:"plan"`
	States      []release.State `json:"states"`
	Differences []string        `json:"differences,omitempty"`
	Recreated   []string        `json:"recreated,omitempty"`
	// ForeignChanges is the number of machines that are skipped because another client
	// changed them.
	ForeignChanges int `json:"foreign_changes,omitempty"`
}

// PlanRestore observes the targets of the baselines and plans their restore. An empty
// plan means that the baselines are in effect. Without goals, for a rollback that an
// operator requested, it fails with KindPermanent if a machine cannot be created again,
// and with KindTooLarge if the plan exceeds the limits of Temporal. It changes nothing.
func (a *Activities) PlanRestore(ctx context.Context, in RestoreInput) (Restoration, error) {
	ctx, stop := a.beginAttempt(ctx)
	defer stop()
	var targets []TargetRef
	for _, b := range in.Baselines {
		targets = append(targets, TargetRef{Target: b.State.Target, FlyApp: b.State.FlyApp})
	}
	states, err := a.driver().Observe(ctx, targets, in.Written)
	if err != nil {
		return Restoration{}, classifyError(ctx, err)
	}
	for i, b := range in.Baselines {
		states[i] = states[i].WithKnownMachines(b.State.Machines)
	}
	if lost := release.DescribeLost(in.Baselines, states); len(lost) > 0 && in.Goals == nil {
		return Restoration{}, permanentError(release.KindPermanent, fmt.Errorf("the earlier state cannot be restored: %s", strings.Join(lost, "; ")))
	}
	others := 0
	plan := release.Restore(in.Environment, in.Baselines, states, release.RestoreOptions{MayRestore: in.mayRestore(&others), IsCreated: release.CreatedBy(in.Goals)})
	if in.Goals == nil {
		if err := checkPlanSize(plan, states); err != nil {
			return Restoration{}, err
		}
	}
	return Restoration{
		Plan:           plan.WithContentHash(),
		ForeignChanges: others,
		States:         withoutConfigs(states),
		Differences:    release.DescribeDifferences(in.Baselines, states),
		Recreated:      release.DescribeRecreated(in.Baselines, states),
	}, nil
}

// mayRestore returns a predicate for the machines that may be restored, or nil if all
// may. The predicate counts the other machines, which another client changed, in
// others.
func (in RestoreInput) mayRestore(others *int) func(release.Target, release.Machine) bool {
	if in.Goals == nil || in.Overwrite {
		return nil
	}
	planned := release.OwnedBy(in.Goals, release.BaselineStates(in.Baselines))
	found := release.OwnedBy(in.Found, nil)
	return func(t release.Target, m release.Machine) bool {
		if !in.isForeignVersion(t, m) && (planned(t, m) || found(t, m)) {
			return true
		}
		*others++
		return false
	}
}

// isForeignVersion reports whether another client wrote the version of a machine on an
// unreachable host, whose config Fly does not return. The version is neither that of
// the baseline nor the last one that the rollout wrote. After a canceled step the
// written version is unknown, so the version may be the rollout's.
func (in RestoreInput) isForeignVersion(t release.Target, m release.Machine) bool {
	i := slices.IndexFunc(in.Baselines, func(b release.Baseline) bool { return b.State.Target == t })
	if m.Host == "" || i < 0 || len(in.Found) > 0 {
		return false
	}
	was, existed := in.Baselines[i].State.FindMachine(m.ID)
	if !existed || was.Host != "" || m.IsSameVersion(was) {
		return false
	}
	written, ok := in.Written[in.Baselines[i].State.FlyApp][m.ID]
	return !ok || written != "" && fly.OlderVersion(written, m.Version)
}

// withoutConfigs returns states without the configs of their machines.
func withoutConfigs(states []release.State) []release.State {
	bare := slices.Clone(states)
	for i := range bare {
		bare[i].Machines = slices.Clone(bare[i].Machines)
		for j := range bare[i].Machines {
			bare[i].Machines[j].Config = release.Config{}
		}
	}
	return bare
}
