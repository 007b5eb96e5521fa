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
		Short: "Stop a release, and roll back what it has changed",
		Long: `Abort orders a release to stop. Before its first change the release stops; after
it, the environment is rolled back to its baseline, which may take minutes.
Aborting twice has the same effect as once. Your name and the reason are recorded.

Abort returns as soon as the order is given. With --wait it follows the release to
its end, and exits with 1 (stopped) or 3 (rolled back).`,
		Example: `  release abort 4f2d1c0b9a8e
  release abort 4f2d1c0b9a8e --reason "wrong branch" --wait`,
		Args: WantArgs(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "the reason, as a `SENTENCE`")
	cmd.Flags().StringVar(&c.by, "by", "", "your `NAME` (default: git's user.name)")
	cmd.Flags().BoolVar(&c.wait, "wait", false, "follow the release until it is over")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "with --wait: write the report as JSON")
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
		return followRelease(ctx, c.World, temporal, id, run, c.asJSON)
	}
	c.Say("  release watch %s", view.Ref(id))
	return nil
}

// sayIfDelayed prints the reason if no worker can process the abort now.
func (c abortCommand) sayIfDelayed(ctx context.Context, temporal *client.Client, id, run string) {
	s, err := temporal.Get(ctx, id, run)
	if err != nil {
		return // the abort was sent; status shows its progress
	}
	switch {
	case s.TaskFailure != nil:
		c.Say("%s", view.TaskFailure(*s.TaskFailure))
		c.Say("the abort takes effect then")
	case s.Partial:
		c.Say("no worker answers: the abort takes effect once there is one (release dev, or release worker)")
	}
}
