package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/microbima/release/client"
	"github.com/microbima/release/git"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type statusCommand struct {
	*World
	asJSON, details bool
}

func newStatus(w *World) *cobra.Command {
	c := statusCommand{World: w}
	cmd := &cobra.Command{
		Use:   "status [ENVIRONMENT | ID]",
		Short: "Show what runs where, or the state of a release",
		Long: `Status without an argument shows what runs where, read from Fly: for each app and
environment the revision, since when, by which release, and how machines differ from
each other; and which environments are pinned after a rollback.

With the name of an environment it also shows what release rollback would restore,
whether its images still exist by their digests, and how long its history is kept.

With an ID it shows that release: phase, targets, machines, the time of each phase,
reviews, what it waits for, and its cost.`,
		Example: `  release status
  release status production
  release status 4f2d1c0b9a8e
  release status 4f2d1c0b9a8e --json | jq -r .phase`,
		Args: WantArgs(0, 1, "environment or ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.showAll(cmd.Context())
			}
			if project := FindProject(c.Dir); project != nil {
				if environment, err := project.Environment(args[0]); err == nil {
					return c.showEnvironment(cmd.Context(), project, environment)
				}
			}
			return c.showRelease(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write it as JSON")
	cmd.Flags().BoolVar(&c.details, "details", false, "with an ID: show each target and machine separately")
	cmd.ValidArgsFunction = completeReleases(w)
	return cmd
}

// showAll prints the running revisions of every environment, and the pins.
func (c statusCommand) showAll(ctx context.Context) error {
	project, err := loadWorktree(c.Dir)
	if err != nil {
		return err
	}
	var targets []release.TargetFile
	for _, e := range project.Environments {
		targets = append(targets, e.Targets...)
	}
	observed := findPlatform(c.World).observeTargets(ctx, targets)
	c.addPins(ctx, project, observed)
	if c.asJSON {
		err = c.PrintJSON(observed)
	} else {
		_, err = fmt.Fprint(c.Stdout, view.TargetStates(observed, c.Now(), c.Style(c.Stdout)))
	}
	if slices.ContainsFunc(observed, isUnknown) {
		return ExitWith(ExitFailed) // the output contains the reason
	}
	return err
}

func isUnknown(p view.TargetState) bool { return p.Unknown != "" }

// addPins adds the pins of environments to observed. It warns of those that cannot be
// read.
func (c statusCommand) addPins(ctx context.Context, project *release.Project, observed []view.TargetState) {
	temporal, err := dialTemporal(ctx, c.World)
	if err != nil {
		c.Say("which environments are pinned is not known: %v", addRemedy(err))
		return
	}
	for _, environment := range project.Environments {
		pin, err := temporal.Pin(ctx, project.Name, environment.Name)
		if err != nil {
			c.Say("whether %s is pinned is not known: %v", environment.Name, addRemedy(err))
		}
		for i := range observed {
			if observed[i].State.Target.Environment == environment.Name {
				observed[i].Pin = pin
			}
		}
	}
}

// showRelease prints the status of a release.
func (c statusCommand) showRelease(ctx context.Context, ref string) error {
	temporal, s, err := getRelease(ctx, c.World, ref)
	if err != nil {
		return err
	}
	return printReport(ctx, c.World, temporal, s, c.asJSON, c.details)
}

// showEnvironment prints the running versions of one environment, its pin, and the
// state that a rollback restores. A value that cannot be read is printed as unknown.
func (c statusCommand) showEnvironment(ctx context.Context, project *release.Project, env release.Environment) error {
	e, err := c.readEnvironment(ctx, project, env)
	if err != nil {
		return err
	}
	if c.asJSON {
		err = c.PrintJSON(e)
	} else {
		_, err = fmt.Fprint(c.Stdout, view.EnvironmentText(e, c.Now(), c.Style(c.Stdout)))
	}
	if e.PinUnknown != "" || e.Rollback.Unknown != "" || slices.ContainsFunc(e.Targets, isUnknown) {
		return ExitWith(ExitFailed) // the output contains the reason
	}
	return err
}

func (c statusCommand) readEnvironment(ctx context.Context, project *release.Project, env release.Environment) (view.Environment, error) {
	e := view.Environment{Name: env.Name}
	platform := findPlatform(c.World)
	var all sync.WaitGroup
	all.Go(func() { e.Targets = platform.observeTargets(ctx, env.Targets) })
	if temporal, err := dialTemporal(ctx, c.World); err != nil {
		reason := addRemedy(err).Error()
		e.PinUnknown, e.Rollback.Unknown = reason, reason
	} else {
		all.Go(func() {
			if e.Pin, err = temporal.Pin(ctx, project.Name, env.Name); err != nil {
				e.PinUnknown = addRemedy(err).Error()
			}
		})
		all.Go(func() { e.Rollback = readRestoreTarget(ctx, temporal, platform, project, env.Name) })
	}
	all.Wait()
	if target := e.Rollback.Target; target != nil {
		target.Lineage = c.removedBy(ctx, target.Revision, e.Targets)
	}
	return e, ctx.Err()
}

// readRestoreTarget returns the state that a rollback of an environment restores, whether
// its images still exist, and when its history expires.
func readRestoreTarget(ctx context.Context, temporal *client.Client, platform Platform, project *release.Project, environment string) view.Rollback {
	target, err := temporal.RestoreTarget(ctx, project, release.Rollback{Environment: environment})
	var nothing *client.NothingToRestoreError
	switch {
	case errors.As(err, &nothing):
		return view.Rollback{Refused: nothing.Reason}
	case err != nil:
		return view.Rollback{Unknown: addRemedy(err).Error()}
	case target.Busy:
		return view.Rollback{Busy: true}
	}
	back := view.Rollback{Target: &release.RestoredRevision{Revision: target.Revision}, Description: target.Description, Notes: target.Notes}
	kept, err := temporal.Retention(ctx)
	switch {
	case err != nil:
		back.NoUntil = addRemedy(err).Error()
	case kept > 0:
		back.Retention, back.Until = release.Duration(kept), target.Closed.Add(kept)
	}
	back.Images = platform.findImages(ctx, target.Baselines)
	return back
}

// removedBy returns the commits that a rollback removes, from this clone and the
// revisions of the running machines.
func (c statusCommand) removedBy(ctx context.Context, restored release.Revision, observed []view.TargetState) release.Lineage {
	var states []release.State
	for _, p := range observed {
		states = append(states, p.State)
	}
	lineage := release.Lineage{Running: release.RunningRevisions(states)}
	if restored.Commit == "" || len(lineage.Running) == 0 {
		lineage.Why = "the machines do not say which revision they run or ran"
		return lineage
	}
	repo, err := git.Open(ctx, c.Dir)
	if err == nil {
		var compared release.Lineage
		compared, err = repo.Lineage(ctx, restored.Commit, lineage.Running)
		lineage.RemovedCount, lineage.Why = compared.RemovedCount, compared.Why
	}
	if err != nil {
		lineage.Why = err.Error()
	}
	return lineage
}
