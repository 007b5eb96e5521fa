package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// choices are all there are; which of them there are now, the rollout says.
func choices() []release.Choice {
	return []release.Choice{release.Retry, release.GoBack, release.Keep, release.Abandon}
}

type decide struct {
	*env
	reason, by string
}

func newDecide(e *env) *cobra.Command {
	c := decide{env: e}
	cmd := &cobra.Command{
		Use:   "decide ID retry|rollback|keep|abandon",
		Short: "Say how a held rollout goes on",
		Long: `Decide answers a rollout that is held: it stopped where it is, keeps its lock,
and asks a person. "release status ID" says which machines are what.

  retry     try the same again
  rollback  bring the baseline back; where that is what was tried, also over
            what others changed meanwhile
  keep      leave every machine as it is, on purpose
  abandon   give up: the rollout fails, and its environment is stranded

Not every choice is there each time.`,
		Example: `  release decide 4f2d1c0b9a8e retry
  release decide 4f2d1c0b9a8e keep --reason "e2 is replaced by hand"`,
		Args: args(2, 2, "ID and choice"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), args[0], release.Choice(args[1]))
		},
		ValidArgsFunction: c.releases(string(release.Retry), string(release.GoBack), string(release.Keep), string(release.Abandon)),
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, in a `SENTENCE`")
	cmd.Flags().StringVar(&c.by, "by", "", "your `NAME`; git's user.name, unless given")
	return cmd
}

func (c decide) run(ctx context.Context, ref string, choice release.Choice) error {
	if !slices.Contains(choices(), choice) {
		return usage("%q is no choice; there are: %s", choice, join(choices()))
	}
	s, seen, err := c.see(ctx, ref)
	if err != nil {
		return err
	}
	switch {
	case seen.Blind:
		return fmt.Errorf("no worker answers, so whether %s is held is not known; start one (release dev, or release worker)", view.Ref(seen.ID))
	case seen.over():
		return fmt.Errorf("%s is over: %s", view.Ref(seen.ID), outcome(seen))
	case seen.Held == nil:
		return fmt.Errorf("%s is not held: it is %s", view.Ref(seen.ID), seen.Phase)
	case !slices.Contains(seen.Held.Choices, choice):
		return usage("%q is no choice now; there are: %s", choice, join(seen.Held.Choices))
	}
	rollout := seen.Rollout
	if strings.HasPrefix(seen.ID, "rollout/") {
		rollout = seen.ID
	}
	return c.answer(ctx, s, rollout, seen, release.Answer{Choice: choice, By: c.whoami(ctx, c.by), Reason: c.reason})
}

func (c decide) answer(ctx context.Context, s *server, rollout string, seen sight, answer release.Answer) error {
	call, cancel := context.WithTimeout(ctx, c.worker())
	defer cancel()
	err := s.update(call, client.UpdateWorkflowOptions{
		WorkflowID: rollout, UpdateName: release.AnswerUpdate, Args: []any{answer},
		// A rollout may be held more than once: each time is another question.
		UpdateID: stable(answer.Choice, answer.By, seen.Since.UnixNano()),
	})
	switch {
	case noWorker(ctx, err):
		if err := s.SignalWorkflow(ctx, rollout, "", release.AnswerSignal, answer); err != nil {
			return s.said(ctx, "answer "+rollout, err)
		}
		c.say("no worker answers: the choice was left as the signal %s, and counts once there is one; see release status %s", release.AnswerSignal, view.Ref(seen.ID))
		return nil
	case refusal(err) != "":
		return fmt.Errorf("%s: %s", rollout, refusal(err))
	case err != nil:
		return s.said(ctx, "answer "+rollout, err)
	}
	c.say("%s, by %s", answer.Choice, answer.By)
	return nil
}

func join(choices []release.Choice) string {
	var words []string
	for _, c := range choices {
		words = append(words, string(c))
	}
	return strings.Join(words, ", ")
}
