package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// heldAgainLimit is the time within which a resolution may lead to the next hold.
const heldAgainLimit = 3 * time.Second

// choices are all choices. Each hold allows some of them.
var choices = []release.Choice{release.ChoiceRetry, release.ChoiceRollback, release.ChoiceKeep, release.ChoiceAbandon}

type resolveCommand struct {
	*World
	reason, by string
}

func newResolve(w *World) *cobra.Command {
	c := resolveCommand{World: w}
	cmd := &cobra.Command{
		Use:   "resolve ID retry|rollback|keep|abandon",
		Short: "Resolve a held rollout",
		Long: `Resolve says how a held rollout continues. A held rollout changes nothing, keeps its
lock and waits for a person. "release status ID" lists what each machine runs.

  retry     try the same steps again
  rollback  restore the baseline; if that is what failed, also over what others
            changed meanwhile
  keep      leave every machine as it is, on purpose
  abandon   give up: the rollout fails, and its environment is stranded

Not every choice applies each time; status lists those that do.`,
		Example: `  release resolve 4f2d1c0b9a8e retry
  release resolve 4f2d1c0b9a8e keep --reason "e2 is replaced by hand"`,
		Args: WantArgs(2, 2, "ID and choice"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), args[0], release.Choice(args[1]))
		},
		ValidArgsFunction: completeReleases(w, string(release.ChoiceRetry), string(release.ChoiceRollback), string(release.ChoiceKeep), string(release.ChoiceAbandon)),
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "the reason, as a `SENTENCE`")
	cmd.Flags().StringVar(&c.by, "by", "", "your `NAME` (default: git's user.name)")
	return cmd
}

func (c resolveCommand) run(ctx context.Context, ref string, choice release.Choice) error {
	if !slices.Contains(choices, choice) {
		return Usage("%q must be one of %s", choice, joinChoices(choices))
	}
	temporal, s, err := getRelease(ctx, c.World, ref)
	if err != nil {
		return err
	}
	switch {
	case s.Partial:
		return fmt.Errorf("no worker answers, so whether %s is held is not known; start one (release dev, or release worker)", view.Ref(s.ID))
	case s.IsOver():
		return fmt.Errorf("%s is over: %s", view.Ref(s.ID), describeEnd(s))
	case s.Held == nil:
		return fmt.Errorf("%s is not held: it is %s", view.Ref(s.ID), s.Phase)
	case !slices.Contains(s.Held.Choices, choice):
		return Usage("%q does not apply now: must be one of %s", choice, joinChoices(s.Held.Choices))
	}
	held := s.ID
	if s.Rollout != "" {
		held = s.Rollout
	}
	resolution := release.Resolution{Choice: choice, By: operatorName(ctx, c.World, c.by), Reason: c.reason, Hold: s.Held.Number}
	delivery, err := temporal.Resolve(ctx, held, resolution)
	if err != nil {
		return err
	}
	if delivery == client.BySignal {
		c.Say("no worker answers: the choice was left as the signal %s, and counts once there is one; see release status %s", release.ResolveSignal, view.Ref(s.ID))
		return nil
	}
	c.Say("%s, by %s", resolution.Choice, resolution.By)
	return c.sayEffect(ctx, temporal, s)
}

// sayEffect waits for the effect of a resolution and prints it. It returns an error if
// there is none.
func (c resolveCommand) sayEffect(ctx context.Context, temporal *client.Client, before client.Snapshot) error {
	s, err := temporal.WaitFor(ctx, effectLimit, before.ID, before.Run, func(now client.Snapshot) bool {
		return now.IsOver() || now.Held == nil || now.Held.Number != before.Held.Number
	})
	if err != nil {
		return err
	}
	if s.Held == nil && !s.IsOver() {
		s, err = temporal.WaitFor(ctx, heldAgainLimit, before.ID, before.Run, func(now client.Snapshot) bool { return now.IsOver() || now.Held != nil })
		if err != nil {
			return err
		}
	}
	ref := view.Ref(before.ID)
	switch {
	case s.IsOver():
		c.Say("%s is over: %s", ref, describeEnd(s))
	case s.Held != nil && s.Held.Number == before.Held.Number:
		return fmt.Errorf("%s is still held: the choice had no effect; see release status %s", ref, ref)
	case s.Held != nil:
		c.Say("%s is held again: %s", ref, s.Held.Why)
		return ExitWith(ExitPerson)
	default:
		c.Say("%s is %s; release watch %s follows it", ref, describePhase(s), ref)
	}
	return nil
}

func joinChoices(choices []release.Choice) string {
	var names []string
	for _, c := range choices {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}
