package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/microbima/release/client"
	"github.com/microbima/release/release"
)

type unpinCommand struct {
	*World
	reason, by string
}

func newUnpin(w *World) *cobra.Command {
	c := unpinCommand{World: w}
	cmd := &cobra.Command{
		Use:   "unpin ENVIRONMENT --reason SENTENCE",
		Short: "Let releases change an environment again after a rollback",
		Long: `Unpin removes the pin that a rollback leaves on an environment. While an environment
is pinned, releases to it end as stopped, so that the next push does not restore what
was rolled back. The reason is recorded.`,
		Example: `  release unpin production --reason "4f2d1c0 fixes the checkout"`,
		Args:    WantArgs(1, 1, "ENVIRONMENT"),
		RunE:    func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "the reason, as a `SENTENCE`")
	cmd.Flags().StringVar(&c.by, "by", "", "your `NAME` (default: git's user.name)")
	cmd.ValidArgsFunction = completeEnvironments(w)
	return cmd
}

func (c unpinCommand) run(ctx context.Context, environment string) error {
	if c.reason == "" {
		return Usage("--reason is missing: it is recorded")
	}
	project, err := loadAnyProject(ctx, c.World)
	if err != nil {
		return err
	}
	if _, err := project.Environment(environment); err != nil {
		return Usage("%v", err)
	}
	temporal, err := dialTemporal(ctx, c.World)
	if err != nil {
		return err
	}
	delivery, err := temporal.Unpin(ctx, project.Name, environment, release.Unpinning{By: operatorName(ctx, c.World, c.by), Reason: c.reason})
	var refused *client.RefusedError
	switch {
	case errors.Is(err, client.ErrNotPinned):
		return fmt.Errorf("%s is not pinned", environment)
	case errors.As(err, &refused):
		return fmt.Errorf("unpin %s: %s", environment, refused.Reason)
	case err != nil:
		return err
	case delivery == client.BySignal:
		c.Say("no worker answers: the signal %s was sent, and %s is unpinned once there is one", release.UnpinSignal, environment)
	default:
		c.Say("%s is not pinned any more: releases change it again", environment)
	}
	return nil
}
