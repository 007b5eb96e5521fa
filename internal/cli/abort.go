package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type abortCommand struct {
	*World
	by, reason   string
	wait, asJSON bool
}

func newAbort(w *World) *cobra.Command {
	c := abortCommand{World: w}
	cmd := &cobra.Command{
		Use:   "abort ID",
		Short: "Stop a release; what it has begun is rolled back",
		Long: `Abort orders a release to stop. Before the first change it is stopped; after it,
the environment is rolled back to its baseline, which takes as long as it takes.
Aborting twice is aborting once. Who aborted it, and why, is recorded.

It returns as soon as the order is given. With --wait it follows the release to
its end, and the exit code says how it ended: 1 stopped, 3 rolled back.`,
		Example: `  release abort 4f2d1c0b9a8e
  release abort 4f2d1c0b9a8e --reason "wrong branch" --wait`,
		Args: WantArgs(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, in a `SENTENCE`")
	cmd.Flags().StringVar(&c.by, "by", "", "your `NAME`; git's user.name, unless given")
	cmd.Flags().BoolVar(&c.wait, "wait", false, "follow the release until it is over")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "with --wait: write how it ended as JSON")
	cmd.ValidArgsFunction = completeReleases(w)
	return cmd
}

func (c abortCommand) run(ctx context.Context, ref string) error {
	temporal, id, err := connectTo(ctx, c.World, ref)
	if err != nil {
		return err
	}
	if strings.HasPrefix(id, "rollout/") {
		return Usage("%s is the rollout of a release: abort that (release list shows it)", id)
	}
	run, err := temporal.Abort(ctx, id, release.Abort{By: operatorName(ctx, c.World, c.by), Reason: c.reason})
	if errors.Is(err, client.ErrEnded) {
		s, err := temporal.Get(ctx, id, run)
		if err != nil {
			return err
		}
		return fmt.Errorf("%s is over already: %s", view.Ref(id), describeEnd(s))
	}
	if err != nil {
		return err
	}
	c.Say("aborting %s: what it has begun is rolled back", view.Ref(id))
	c.sayIfDelayed(ctx, temporal, id, run)
	if c.wait {
		return follow(ctx, c.World, temporal, id, run, c.asJSON)
	}
	c.Say("  release watch %s", view.Ref(id))
	return nil
}

// sayIfDelayed says what the abort waits for, if no worker can take it now.
func (c abortCommand) sayIfDelayed(ctx context.Context, temporal *client.Client, id, run string) {
	s, err := temporal.Get(ctx, id, run)
	if err != nil {
		return // the order is given, and status shows the rest
	}
	switch {
	case s.TaskFailure != nil:
		c.Say("%s", view.TaskFailure(*s.TaskFailure))
		c.Say("the abort takes effect then")
	case s.Partial:
		c.Say("no worker answers: the abort takes effect once there is one (release dev, or release worker)")
	}
}
