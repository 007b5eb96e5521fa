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
elsewhere it prints a line for each event, with the event's time.

It follows the workflow's history, and queries the workflow only when there are new
events. Ctrl-C detaches: the release continues. If the release is held, watch prints
the choices and exits with 5.

With --json it writes each event of the release and of its rollouts to standard output,
one JSON object a line, from the first event on, and no report: release status ID --json
has that.`,
		Example: `  release watch 4f2d1c0b9a8e
  release watch HEAD
  release watch 4f2d --json | jq -r 'select(.kind == "held") | .hold.why'`,
		Args: WantArgs(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write each event to standard output, as one line of JSON")
	cmd.ValidArgsFunction = completeReleases(w)
	return cmd
}

func (c watchCommand) run(ctx context.Context, ref string) error {
	temporal, id, err := connectTo(ctx, c.World, ref)
	if err != nil {
		return err
	}
	f := newFollower(c.World, temporal, id, "")
	f.stream = c.asJSON
	return f.followAndReport(ctx, false, CodeOf)
}
