package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/microbima/release/release"
)

type unpin struct {
	*env
	reason, by string
}

func newUnpin(e *env) *cobra.Command {
	c := unpin{env: e}
	cmd := &cobra.Command{
		Use:   "unpin ENVIRONMENT --reason SENTENCE",
		Short: "Let releases change an environment again that was rolled back",
		Long: `Unpin takes away the pin that a rollback leaves on an environment. While an
environment is pinned, releases end there as stopped, so that the next push does
not bring back what was rolled back. The reason is recorded.`,
		Example: `  release unpin production --reason "4f2d1c0 fixes the checkout"`,
		Args:    args(1, 1, "ENVIRONMENT"),
		RunE:    func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, in a `SENTENCE`")
	cmd.Flags().StringVar(&c.by, "by", "", "your `NAME`; git's user.name, unless given")
	cmd.ValidArgsFunction = c.environments()
	return cmd
}

func (c unpin) run(ctx context.Context, environment string) error {
	if c.reason == "" {
		return usage("--reason is missing: it is recorded")
	}
	project, err := c.anyProject(ctx)
	if err != nil {
		return err
	}
	if _, err := project.Environment(environment); err != nil {
		return usage("%v", err)
	}
	s, err := c.temporal(ctx)
	if err != nil {
		return err
	}
	return c.take(ctx, s, release.PinID(project.Name, environment), environment)
}

// take takes the pin away: by update, or by signal while no worker answers.
func (c unpin) take(ctx context.Context, s *server, id, environment string) error {
	given := release.Unpinning{By: c.whoami(ctx, c.by), Reason: c.reason}
	call, cancel := context.WithTimeout(ctx, c.worker())
	defer cancel()
	err := s.update(call, client.UpdateWorkflowOptions{WorkflowID: id, UpdateName: release.UnpinUpdate, Args: []any{given}})
	switch {
	case isGone(err):
		return fmt.Errorf("%s is not pinned", environment)
	case noWorker(ctx, err):
		if err := s.SignalWorkflow(ctx, id, "", release.UnpinSignal, given); err != nil {
			return s.said(ctx, "unpin "+environment, err)
		}
		c.say("no worker answers: the signal %s was sent, and %s is unpinned once there is one", release.UnpinSignal, environment)
		return nil
	case refusal(err) != "":
		return fmt.Errorf("unpin %s: %s", environment, refusal(err))
	case err != nil:
		return s.said(ctx, "unpin "+environment, err)
	}
	c.say("%s is not pinned any more: releases change it again", environment)
	return nil
}
