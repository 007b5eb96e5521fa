package main

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

// unbuilt stands in for the image of an app that was never built at a revision.
const unbuilt = release.Image("to be built")

type plan struct {
	*env
	to              string
	apps            []string
	asJSON, details bool
}

func newPlan(e *env) *cobra.Command {
	c := plan{env: e}
	cmd := &cobra.Command{
		Use:   "plan [REVISION] --to ENVIRONMENT",
		Short: "Show what a release would change; change nothing",
		Long: `Plan compares what an environment runs with what a revision (HEAD, unless
another is named) asks for, and shows the steps between. It reads Fly and the
files at the revision, and changes nothing. What start would refuse is said after
the plan, and ends it with exit code 1.

A release to ENVIRONMENT goes through those before it: for each of them that
would change, the commits that come and go are listed first.

An image that no release has built yet is shown as "to be built": the release
itself plans again, with its digest, and asks for approval of that plan only.`,
		Example: `  release plan --to staging
  release plan --to staging --app web-admin
  release plan v1.4 --to production --json`,
		Args: args(0, 1, "REVISION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), strings.Join(args, ""))
		},
	}
	cmd.Flags().StringVar(&c.to, "to", "", "the `ENVIRONMENT` to plan for")
	cmd.Flags().StringSliceVar(&c.apps, "app", nil, "only this `APP`; may be given again")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write the plan as JSON")
	cmd.Flags().BoolVar(&c.details, "details", false, "show each app, machine and value by itself, in full")
	offer(cmd, "to", c.environments())
	offer(cmd, "app", e.apps())
	return cmd
}

func (c plan) run(ctx context.Context, revision string) error {
	if c.to == "" {
		return usage("--to ENVIRONMENT is missing")
	}
	src, err := c.source(ctx, revision)
	if err != nil {
		return err
	}
	environment, err := src.project.Environment(c.to)
	if err != nil {
		return usage("%v", err)
	}
	if err := checkApps(src.project, c.apps); err != nil {
		return err
	}
	made, refused, err := c.make(ctx, src, environment)
	if err != nil {
		return err
	}
	before, err := c.before(ctx, src, environment)
	if err != nil {
		return err
	}
	if c.asJSON {
		return errors.Join(c.json(planned{made, before}), refused)
	}
	for _, b := range before {
		fmt.Fprint(c.stdout, view.Before(b.Environment, b.Lineage, c.style(c.stdout)))
	}
	style := c.style(c.stdout)
	style.Whole = c.details
	fmt.Fprint(c.stdout, view.Plan(made, style))
	return refused
}

// A planned environment is its plan, and what the release does on its way there.
type planned struct {
	release.Plan
	Before []descent `json:"before,omitempty"`
}

// A descent is how a revision relates to what an environment runs.
type descent struct {
	Environment string          `json:"environment"`
	Lineage     release.Lineage `json:"lineage"`
}

// before compares the revision with what the environments run that it goes
// through first.
func (c plan) before(ctx context.Context, src source, environment release.Environment) (all []descent, err error) {
	path, err := src.project.Path(environment.Name)
	if err != nil {
		return nil, err
	}
	for _, env := range path[:len(path)-1] {
		var states []release.State
		for _, p := range c.fly().observe(ctx, env.Targets) {
			states = append(states, p.State)
			if p.Unknown != "" {
				c.warn("what %s runs is not known: %s: %s", env.Name, p.State.Target, p.Unknown)
			}
		}
		lineage, err := src.repo.Lineage(ctx, src.revision.Commit, release.RunningRevisions(states))
		if err != nil {
			return nil, err
		}
		all = append(all, descent{env.Name, lineage})
	}
	return all, nil
}

// make returns the plan, and why start would refuse it.
func (c plan) make(ctx context.Context, src source, environment release.Environment) (made release.Plan, refused, err error) {
	path, err := src.project.Path(environment.Name)
	if err != nil {
		return made, nil, err
	}
	apps := c.apps
	if len(apps) == 0 {
		apps = appNames(src.project)
	}
	builds := src.project.Builds(path, apps, nil)
	unverified := release.Unverified(builds, environment)
	fly := c.fly()
	targets := slices.DeleteFunc(slices.Clone(environment.Targets), func(t release.TargetFile) bool { return !slices.Contains(apps, t.Target.App) })
	var states []release.State
	var specs []release.Spec
	var missing, unknown []string
	for i, p := range fly.observe(ctx, targets) {
		file := targets[i]
		if p.Unknown != "" {
			unknown = append(unknown, fmt.Sprintf("%s: %s", file.Target, p.Unknown))
			continue
		}
		if p.Missing != "" && !fly.isDev() {
			unknown = append(unknown, fmt.Sprintf("%s: there is no Fly app %s: %s", file.Target, file.FlyApp, p.Missing))
			continue
		}
		if p.Missing != "" {
			c.say("%s: there is no Fly app %s: %s", file.Target, file.FlyApp, p.Missing)
		}
		build, _ := release.Of(builds, file.Target)
		image := fly.image(ctx, build, src.revision)
		if image == "" {
			image = unbuilt
			missing = append(missing, file.Target.App)
		}
		spec, err := config.Spec(src.project, file, image, p.State)
		if err != nil {
			return made, nil, err
		}
		spec.Unverified = unverified[file.Target.App]
		states, specs = append(states, p.State), append(specs, spec)
	}
	if len(unknown) > 0 {
		return made, nil, fmt.Errorf("what %s runs is not known:\n  %s", environment.Name, strings.Join(unknown, "\n  "))
	}
	if len(missing) > 0 {
		c.say("no image of %s is known for %s: shown as %q", src.revision.Short(), strings.Join(missing, ", "), unbuilt)
	}
	if err := driver.CheckRead(states); err != nil {
		return made, nil, err
	}
	c.warnOfNeeds(ctx, src.project, environment, specs)
	if made, err = release.NewPlan(environment.Name, src.revision.Commit, specs, states); err != nil {
		return made, nil, err
	}
	if err := activities.CheckPlan(made, states); err != nil {
		refused = fmt.Errorf("start would refuse this plan: %w", plainly(err))
	}
	made.Lineage, err = src.repo.Lineage(ctx, src.revision.Commit, made.Lineage.Running)
	return made, refused, err
}

// warnOfNeeds adds to each spec a warning for every app that it needs, that is not
// planned with it, and that has no machines in the environment.
func (c plan) warnOfNeeds(ctx context.Context, project *release.Project, environment release.Environment, specs []release.Spec) {
	needs := project.NeedsBeside(environment, specs)
	var targets []release.TargetFile
	for _, n := range needs {
		targets = append(targets, n.Target)
	}
	for i, p := range c.fly().observe(ctx, targets) {
		if p.Unknown == "" && len(p.State.Machines) == 0 {
			specs[needs[i].Spec].Warnings = append(specs[needs[i].Spec].Warnings, needs[i].Warning())
		}
	}
}

// plainly returns err as an activity would say it, without what Temporal adds.
func plainly(err error) error {
	var failed *temporal.ApplicationError
	if errors.As(err, &failed) {
		return errors.New(failed.Message())
	}
	return err
}
