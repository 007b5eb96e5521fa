package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/config"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// unbuilt is the image shown for an app that was never built at a revision.
const unbuilt = release.Image("to be built")

type planCommand struct {
	*World
	to              string
	apps            []string
	asJSON, details bool
}

func newPlan(w *World) *cobra.Command {
	c := planCommand{World: w}
	cmd := &cobra.Command{
		Use:   "plan [REVISION] --to ENVIRONMENT",
		Short: "Show what a release would change",
		Long: `Plan compares what an environment runs with what a revision (default: HEAD) asks
for, and shows the steps between. It reads Fly and the files at the revision, and
changes nothing. If start would refuse the plan, plan prints the reason and exits
with 1.

A release to ENVIRONMENT goes through the environments before it. For each of them
that would change, plan first lists the commits that are added and removed.

An image that no release has built yet is shown as "to be built". The release plans
again with its digest, and asks for approval of that plan.`,
		Example: `  release plan --to staging
  release plan --to staging --app web-admin
  release plan v1.4 --to production --json`,
		Args: WantArgs(0, 1, "REVISION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), strings.Join(args, ""))
		},
	}
	cmd.Flags().StringVar(&c.to, "to", "", "the `ENVIRONMENT` to plan for")
	cmd.Flags().StringSliceVar(&c.apps, "app", nil, "plan only this `APP`; may be repeated")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write the plan as JSON")
	cmd.Flags().BoolVar(&c.details, "details", false, "show each app, machine and value by itself, in full")
	completeFlag(cmd, "to", completeEnvironments(w))
	completeFlag(cmd, "app", completeApps(w))
	return cmd
}

func (c planCommand) run(ctx context.Context, revision string) error {
	if c.to == "" {
		return Usage("--to ENVIRONMENT is missing")
	}
	src, err := LoadSource(ctx, c.World, revision)
	if err != nil {
		return err
	}
	environment, err := src.Project.Environment(c.to)
	if err != nil {
		return Usage("%v", err)
	}
	if err := checkApps(src.Project, c.apps); err != nil {
		return err
	}
	path, err := src.Project.Path(environment.Name)
	if err != nil {
		return err
	}
	p := planner{World: c.World, platform: findPlatform(c.World), src: src, apps: c.apps}
	if len(p.apps) == 0 {
		p.apps = appNames(src.Project)
	}
	plan, refusal, err := p.makePlan(ctx, path)
	if err != nil {
		return err
	}
	before, err := p.compareBefore(ctx, path)
	if err != nil {
		return err
	}
	if c.asJSON {
		return errors.Join(c.PrintJSON(planned{plan, before}), refusal)
	}
	for _, b := range before {
		fmt.Fprint(c.Stdout, view.EarlierEnvironment(b.Environment, b.Lineage, c.Style(c.Stdout)))
	}
	style := c.Style(c.Stdout)
	style.Whole = c.details
	fmt.Fprint(c.Stdout, view.Plan(plan, style))
	return refusal
}

// planned is the JSON of a plan and of the environments before it.
type planned struct {
	release.Plan
	Before []relation `json:"before,omitempty"`
}

// A relation is the relation of a revision to the revisions running in an environment.
type relation struct {
	Environment string          `json:"environment"`
	Lineage     release.Lineage `json:"lineage"`
}

// A planner plans a rollout of apps at a revision, as a release does.
type planner struct {
	*World
	platform Platform
	src      Source
	apps     []string
}

// makePlan returns the plan for the last environment of a path, and the reason why
// start would refuse it, or nil.
func (p planner) makePlan(ctx context.Context, path []release.Environment) (plan release.Plan, refusal, err error) {
	environment := path[len(path)-1]
	specs, states, err := p.compareTargets(ctx, path)
	if err != nil {
		return plan, nil, err
	}
	if err := driver.CheckRead(states); err != nil {
		return plan, nil, err
	}
	p.addWarningsOfNeeds(ctx, environment, specs)
	if plan, err = release.NewPlan(environment.Name, p.src.Revision.Commit, specs, states); err != nil {
		return plan, nil, err
	}
	if err := activities.CheckPlan(plan, states); err != nil {
		refusal = fmt.Errorf("start would refuse this plan: %w", withoutTemporal(err))
	}
	plan.Lineage, err = p.src.Repo.Lineage(ctx, p.src.Revision.Commit, plan.Lineage.Running)
	return plan, refusal, err
}

// compareTargets returns the specs and states of the targets of an environment.
func (p planner) compareTargets(ctx context.Context, path []release.Environment) (specs []release.Spec, states []release.State, err error) {
	environment := path[len(path)-1]
	builds := p.src.Project.Builds(path, p.apps, nil)
	unverified := release.DescribeUnverified(builds, environment)
	targets := slices.DeleteFunc(slices.Clone(environment.Targets), func(t release.TargetFile) bool { return !slices.Contains(p.apps, t.Target.App) })
	var missing, unknown []string
	for i, target := range p.platform.observeTargets(ctx, targets) {
		file := targets[i]
		if reason := p.checkTarget(file, target); reason != "" {
			unknown = append(unknown, fmt.Sprintf("%s: %s", file.Target, reason))
			continue
		}
		build, _ := release.FindBuild(builds, file.Target)
		image := p.platform.findImage(ctx, build, p.src.Revision)
		if image == "" {
			image = unbuilt
			missing = append(missing, file.Target.App)
		}
		spec, err := config.Spec(p.src.Project, file, image, target.State)
		if err != nil {
			return nil, nil, err
		}
		spec.UnverifiedReason = unverified[file.Target.App]
		states, specs = append(states, target.State), append(specs, spec)
	}
	if len(unknown) > 0 {
		return nil, nil, fmt.Errorf("the state of %s is unknown:\n  %s", environment.Name, strings.Join(unknown, "\n  "))
	}
	if len(missing) > 0 {
		p.Say("no image of %s is known for %s: shown as %q", p.src.Revision.Short(), strings.Join(missing, ", "), unbuilt)
	}
	return specs, states, nil
}

// checkTarget returns the reason why a target cannot be planned, or "".
func (p planner) checkTarget(file release.TargetFile, target view.TargetState) string {
	switch {
	case target.Unknown != "":
		return target.Unknown
	case target.Missing != "" && !p.platform.isDev():
		return fmt.Sprintf("there is no Fly app %s: %s", file.FlyApp, target.Missing)
	case target.Missing != "":
		p.Say("%s: there is no Fly app %s: %s", file.Target, file.FlyApp, target.Missing)
	}
	return ""
}

// addWarningsOfNeeds adds a warning to each spec for every app that it needs, that is not
// planned with it, and that has no machines in the environment.
func (p planner) addWarningsOfNeeds(ctx context.Context, environment release.Environment, specs []release.Spec) {
	needs := p.src.Project.UnplannedNeeds(environment, specs)
	var targets []release.TargetFile
	for _, n := range needs {
		targets = append(targets, n.Target)
	}
	for i, target := range p.platform.observeTargets(ctx, targets) {
		if target.Unknown == "" && len(target.State.Machines) == 0 {
			specs[needs[i].Spec].Warnings = append(specs[needs[i].Spec].Warnings, needs[i].Warning())
		}
	}
}

// compareBefore compares the revision with the revisions running in the environments of a
// path before the last one.
func (p planner) compareBefore(ctx context.Context, path []release.Environment) (relations []relation, err error) {
	for _, env := range path[:len(path)-1] {
		var states []release.State
		for _, target := range p.platform.observeTargets(ctx, env.Targets) {
			states = append(states, target.State)
			if target.Unknown != "" {
				p.Warn("the state of %s is unknown: %s: %s", env.Name, target.State.Target, target.Unknown)
			}
		}
		lineage, err := p.src.Repo.Lineage(ctx, p.src.Revision.Commit, release.RunningRevisions(states))
		if err != nil {
			return nil, err
		}
		relations = append(relations, relation{env.Name, lineage})
	}
	return relations, nil
}

// withoutTemporal returns err without the text that Temporal adds to activity errors.
func withoutTemporal(err error) error {
	var failed *temporal.ApplicationError
	if errors.As(err, &failed) {
		return errors.New(failed.Message())
	}
	return err
}
