package activities

import (
	"context"
	"errors"
	"slices"

	"github.com/microbima/release/config"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// PlanInput has the files at a revision and the images that were built from it. Apps
// without an image are not planned.
type PlanInput struct {
	Project     release.Project  `json:"project"`
	Environment string           `json:"environment"`
	Revision    release.Revision `json:"revision"`
	Images      release.Images   `json:"images"`
	// FullHosts are the IDs of machines whose hosts have no room for another version.
	FullHosts []string `json:"full_hosts,omitempty"`
	// UnverifiedReasons has, by app, why the previous environment did not verify its
	// image.
	UnverifiedReasons map[string]string `json:"unverified_reasons,omitempty"`
	// PredecessorRun is the run ID of the unreported rollout that the rollout follows, if
	// the release knows it: see StartInput.
	PredecessorRun string `json:"predecessor_run,omitempty"`
}

// PlanRollout observes an environment and plans the rollout of a revision. It fails
// with KindConfig if the files do not allow it, and with KindTooLarge if the rollout or
// its rollback exceeds the limits of Temporal. It changes nothing.
func (a *Activities) PlanRollout(ctx context.Context, in PlanInput) (release.Plan, error) {
	ctx, stop := a.beginAttempt(ctx)
	defer stop()
	env, err := in.Project.Environment(in.Environment)
	if err != nil {
		return release.Plan{}, permanentError(release.KindConfig, err)
	}
	var targets []TargetRef
	var files []release.TargetFile
	for _, t := range env.Targets {
		if _, ok := in.Images[t.Target.App]; ok {
			targets, files = append(targets, TargetRef{Target: t.Target, FlyApp: t.FlyApp}), append(files, t)
		}
	}
	states, err := a.driver().Observe(ctx, targets, nil)
	if err != nil {
		return release.Plan{}, classifyError(ctx, err)
	}
	if err := driver.CheckRead(states); err != nil {
		return release.Plan{}, permanentError(release.KindConfig, err)
	}
	states, follows, err := setApart(ctx, a.temporal(ctx), in, states)
	if err != nil {
		return release.Plan{}, classifyError(ctx, err)
	}
	specs, err := in.makeSpecs(files, states)
	if err != nil {
		return release.Plan{}, permanentError(release.KindConfig, err)
	}
	if err := warnOfNeeds(ctx, a.Fly, in.Project, env, specs); err != nil {
		return release.Plan{}, classifyError(ctx, err)
	}
	plan, err := release.NewPlan(in.Environment, in.Revision.Commit, specs, states)
	if err != nil {
		return release.Plan{}, permanentError(release.KindConfig, err)
	}
	plan.FollowsRun = follows
	if err := CheckPlan(plan, states); err != nil {
		return release.Plan{}, err
	}
	return plan.WithContentHash(), nil
}

// makeSpecs returns the spec of each target, and sets HostFull of the machines in states.
func (in PlanInput) makeSpecs(files []release.TargetFile, states []release.State) (specs []release.Spec, err error) {
	for i, t := range files {
		for j, m := range states[i].Machines {
			states[i].Machines[j].HostFull = slices.Contains(in.FullHosts, m.ID)
		}
		spec, err := config.Spec(&in.Project, t, in.Images[t.Target.App], states[i])
		if err != nil {
			return nil, err
		}
		spec.UnverifiedReason = in.UnverifiedReasons[t.Target.App]
		specs = append(specs, spec)
	}
	return specs, nil
}

// setApart returns states with the machines that an unreported rollout created, and
// that serve nothing, moved to Leftovers, and the run ID of that rollout. It marks the
// machines that such a rollout stopped or replaced.
func setApart(ctx context.Context, c Temporal, in PlanInput, states []release.State) (apart []release.State, run string, err error) {
	before, _, err := findUnreported(ctx, c, release.RolloutID(in.Project.Name, in.Environment), "", in.PredecessorRun)
	if unread := new(UnreadError); errors.As(err, &unread) || err == nil && before == nil {
		return states, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	return release.SeparateLeftovers(before.Plan, before.Baselines, before.States, states, before.Stopped), before.Run, nil
}

// warnOfNeeds adds a warning to each spec for every needed app that is not rolled out
// with it and has no machines in the environment. It adds none for an app that the
// worker's token may not read.
func warnOfNeeds(ctx context.Context, f driver.MachineLister, p release.Project, env release.Environment, specs []release.Spec) error {
	hasMachines := map[string]bool{} // by app
	for _, need := range p.UnplannedNeeds(env, specs) {
		app := need.Target.Target.App
		if _, ok := hasMachines[app]; !ok {
			machines, err := driver.ListMachines(ctx, f, need.Target.FlyApp)
			if err != nil && !errors.Is(err, fly.ErrNotFound) && !errors.Is(err, fly.ErrUnauthorized) {
				return err
			}
			hasMachines[app] = len(machines) > 0 || errors.Is(err, fly.ErrUnauthorized)
		}
		if !hasMachines[app] {
			specs[need.Spec].Warnings = append(specs[need.Spec].Warnings, need.Warning())
		}
	}
	return nil
}

// CheckPlan returns an error if a plan that was made from states is refused: a target
// is unchecked that must not be, or the rollout or its rollback exceeds the limits of
// Temporal.
func CheckPlan(plan release.Plan, states []release.State) error {
	if err := plan.CheckUnchecked(); err != nil {
		return permanentError(release.KindConfig, err)
	}
	return checkPlanSize(plan, states)
}
