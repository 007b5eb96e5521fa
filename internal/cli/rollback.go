package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/version"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// previewTimeout limits the delay of an emergency rollback by an unresponsive Fly.
const previewTimeout = 3 * time.Second

type rollbackCommand struct {
	*World
	to, reason, repo, by    string
	moved                   string
	emergency, wait, asJSON bool
}

func newRollback(w *World) *cobra.Command {
	c := rollbackCommand{World: w}
	cmd := &cobra.Command{
		Use:   "rollback ENVIRONMENT",
		Short: "Restore what an environment ran before",
		Long: `Rollback restores every machine of an environment to what it ran before the newest
release there, or to the state that a release left there (--to): image and config,
exactly as recorded. A second rollback goes one release further back.

It is a release of its own: planned, approved at the environment's gate, verified,
and rolled back itself if it fails. Its outcome is "restored". --emergency passes the
gate and needs a --reason, which is recorded; the plan is shown before it starts.

Afterwards the environment is pinned: releases do not change it until release unpin.
release status ENVIRONMENT shows what a rollback would restore.

If nothing ran before, or no history of it is left, the rollback is refused before
anything changes. It needs only names and the gate from the repository: if the files
at HEAD are wrong, it uses the newest commit before it whose files are valid.`,
		Example: `  release rollback production
  release rollback production --to 4f2d1c0b9a8e
  release rollback production --emergency --reason "checkout is down" --wait`,
		Args: WantArgs(1, 1, "ENVIRONMENT"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&c.to, "to", "", "restore the state that this `RELEASE` left")
	f.BoolVar(&c.emergency, "emergency", false, "pass the gate; needs --reason")
	f.StringVar(&c.reason, "reason", "", "the reason, as a `SENTENCE`")
	f.StringVar(&c.repo, "repo", "", "where workers fetch release.toml: a `URL` or an absolute path")
	f.StringVar(&c.moved, "moved-repository", "", "confirm that the project has moved to another repository: the reason, as a `SENTENCE`")
	f.StringVar(&c.by, "by", "", "your `NAME` (default: git's user.name)")
	f.BoolVar(&c.wait, "wait", false, "follow the rollback until it is over; the exit code is its outcome")
	f.BoolVar(&c.asJSON, "json", false, "write what was started, or with --wait the report, as JSON")
	cmd.ValidArgsFunction = completeEnvironments(w)
	completeFlag(cmd, "to", completeReleases(w))
	return cmd
}

func (c rollbackCommand) run(ctx context.Context, environment string) error {
	if c.emergency && strings.TrimSpace(c.reason) == "" {
		return Usage("--emergency needs a --reason: it is recorded in place of an approval")
	}
	src, err := loadNewestValid(ctx, c.World)
	if err != nil {
		return err
	}
	if _, err := src.Project.Environment(environment); err != nil {
		return Usage("%v", err)
	}
	temporal, err := dialTemporal(ctx, c.World)
	if err != nil {
		return err
	}
	back := &release.Rollback{Environment: environment, Emergency: c.emergency, Reason: c.reason}
	if c.to != "" {
		if back.To, err = findID(ctx, c.World, temporal, c.to); err != nil {
			return err
		}
	}
	if err := c.setTarget(ctx, temporal, src, back); err != nil {
		return err
	}
	repository, err := src.repositoryAddress(ctx, c.repo, isDevTemporal(c.Env, temporal.Address()))
	if err != nil {
		return err
	}
	return launch{wait: c.wait, asJSON: c.asJSON, path: []string{environment}, request: release.Request{
		Project: src.Project.Name, Repository: repository, Revision: src.Revision, To: environment,
		By: operatorName(ctx, c.World, c.by), Version: version.Read().Short(), Protocol: release.Protocol, Rollback: back, Moved: c.moved,
	}}.run(ctx, c.World, temporal)
}

// setTarget finds the state to restore and prints it.
func (c rollbackCommand) setTarget(ctx context.Context, temporal *client.Client, src Source, back *release.Rollback) error {
	target, err := temporal.RestoreTarget(ctx, src.Project, *back)
	if err != nil {
		return err
	}
	if target.Busy {
		c.Warn("another rollout of %s is open: the rollback waits until it has ended (release list shows it, release abort ends it)", back.Environment)
		return nil
	}
	back.Revision = target.Revision
	c.Say("%s", describeTarget(back.Environment, target))
	if c.emergency {
		c.printPreview(ctx, src, back.Environment, target)
		back.ExpectedState = &target.Origin
	}
	return nil
}

// printPreview prints the plan of a rollback, if Fly can be read.
func (c rollbackCommand) printPreview(ctx context.Context, src Source, environment string, target client.RestoreTarget) {
	for _, note := range target.Notes {
		c.Say("  %s", note)
	}
	call, cancel := context.WithTimeout(ctx, previewTimeout)
	defer cancel()
	plan, err := findPlatform(c.World).planRestore(call, environment, target.Baselines)
	if err != nil {
		c.Say("  the plan is made by a worker; from here Fly cannot be read: %s", explainFly(err))
		for _, b := range target.Baselines {
			c.Say("  %s", view.BaselineText(b.State))
		}
		return
	}
	if removed := src.removedBy(ctx, target.Revision, plan.Lineage.Running).DescribeRemoved(); removed != "" {
		c.Say("  %s", removed)
	}
	fmt.Fprint(c.Stderr, view.Plan(plan, c.Style(c.Stderr)))
}

// describeTarget returns the state to restore in one line.
func describeTarget(environment string, target client.RestoreTarget) string {
	line := environment + " goes back to"
	if target.Revision.Commit != "" {
		line += " " + target.Revision.Label() + ":"
	}
	return strings.TrimSpace(line + " " + target.Description)
}
