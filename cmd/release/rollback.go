package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/internal/version"
	"github.com/microbima/release/release"
)

type rollback struct {
	*env
	to, reason, repo, by    string
	moved                   string
	environment             string
	emergency, wait, asJSON bool
}

func newRollback(e *env) *cobra.Command {
	c := rollback{env: e}
	cmd := &cobra.Command{
		Use:   "rollback ENVIRONMENT",
		Short: "Bring an environment back to what it ran before",
		Long: `Rollback brings every machine of an environment back to what it ran before the
newest release there, or to what a release left there (--to): image and config,
exactly as recorded then. A second rollback goes one release further back.

It is a release of its own: planned, asked for at the environment's gate,
verified, and taken back itself if it fails. It ends as "restored". --emergency
passes the gate and needs a --reason, which is recorded; the plan is shown
before it starts.

The environment is pinned then: releases leave it alone until release unpin.
What a rollback would bring back, release status ENVIRONMENT says.

Where nothing ran before, or where that is not known, the rollback is refused
before anything changes. Of the files in the repository it needs only names and
the gate: where those at HEAD are wrong, it uses the newest commit before it
whose files are right.`,
		Example: `  release rollback production
  release rollback production --to 4f2d1c0b9a8e
  release rollback production --emergency --reason "checkout is down" --wait`,
		Args: args(1, 1, "ENVIRONMENT"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&c.to, "to", "", "the `RELEASE` whose end to go back to")
	f.BoolVar(&c.emergency, "emergency", false, "pass the gate")
	f.StringVar(&c.reason, "reason", "", "why, in a `SENTENCE`")
	f.StringVar(&c.repo, "repo", "", "where workers fetch release.toml: a `URL` or an absolute path")
	f.StringVar(&c.moved, "moved-repository", "", "the project is at another repository now than its earlier releases were: why, in a `SENTENCE`")
	f.StringVar(&c.by, "by", "", "your `NAME`; git's user.name, unless given")
	f.BoolVar(&c.wait, "wait", false, "follow it until it is over; the exit code says how it ended")
	f.BoolVar(&c.asJSON, "json", false, "write what was started, or with --wait how it ended, as JSON")
	cmd.ValidArgsFunction = c.environments()
	offer(cmd, "to", c.releases())
	return cmd
}

func (c rollback) run(ctx context.Context, environment string) error {
	if c.emergency && strings.TrimSpace(c.reason) == "" {
		return usage("--emergency needs a --reason: it is recorded in place of an approval")
	}
	src, err := c.goodSource(ctx)
	if err != nil {
		return err
	}
	if _, err := src.project.Environment(environment); err != nil {
		return usage("%v", err)
	}
	s, err := c.temporal(ctx)
	if err != nil {
		return err
	}
	c.environment = environment
	back := &release.Rollback{Environment: environment, Emergency: c.emergency, Reason: c.reason}
	if c.to != "" {
		if back.To, err = s.find(ctx, c.to); err != nil {
			return err
		}
	}
	past, err := s.past(ctx, src.project, *back)
	switch {
	case err != nil:
		return err
	case past.Busy:
		c.warn("another rollout of %s is open: the rollback waits until it has ended (release list shows it, release abort ends it)", environment)
	default:
		back.Revision = past.Revision
		if c.emergency {
			c.show(ctx, src, past)
			back.Shown = &past.Origin
		} else {
			c.say("%s", aim(environment, past))
		}
	}
	repository, err := c.repository(ctx, src, c.repo, s.dev != nil)
	if err != nil {
		return err
	}
	request := release.Request{
		Project: src.project.Name, Repository: repository, Revision: src.revision, To: environment,
		By: c.whoami(ctx, c.by), Version: version.Read().Short(), Protocol: release.Protocol, Rollback: back, Moved: c.moved,
	}
	return c.begin(ctx, s, release.RollbackID(request.Project, environment), request, []string{environment}, c.wait, c.asJSON)
}

// takenAway returns the commits that a rollback to past takes away from running, as
// far as the clone has them.
func (s source) takenAway(ctx context.Context, past activities.PastState, running []string) release.Lineage {
	if past.Revision.Commit == "" || len(running) == 0 {
		return release.Lineage{}
	}
	found, err := s.repo.Lineage(ctx, past.Revision.Commit, running)
	if err != nil {
		return release.Lineage{}
	}
	found.Relation, found.Newer = "", nil // a rollback is exempt from order
	return found
}
