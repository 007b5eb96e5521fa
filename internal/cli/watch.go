package cli

import (
	"context"

	"github.com/spf13/cobra"
)

type watchCommand struct {
	*World
	asJSON bool
}

func newWatch(w *World) *cobra.Command {
	c := watchCommand{World: w}
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a release until it is over",
		Long: `Watch follows a release until it is over. On a terminal it updates a block in place;
elsewhere it prints a line for each change.

It follows the workflow's history, and queries the workflow only when there are new
events. Ctrl-C detaches: the release continues. If the release is held, watch prints
the choices and exits with 5.`,
		Example: `  release watch 4f2d1c0b9a8e
  release watch HEAD
  release watch 4f2d --json > report.json`,
		Args: WantArgs(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write the last status to standard output as JSON")
	cmd.ValidArgsFunction = completeReleases(w)
	return cmd
}

func (c watchCommand) run(ctx context.Context, ref string) error {
	temporal, id, err := connectTo(ctx, c.World, ref)
	if err != nil {
		return err
	}
	return followRelease(ctx, c.World, temporal, id, "", c.asJSON)
}
