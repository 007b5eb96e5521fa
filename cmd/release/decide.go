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
	held := seen.ID
	if seen.Rollout != "" {
		held = seen.Rollout
	}
	return c.answer(ctx, s, held, seen, release.Answer{Choice: choice, By: c.whoami(ctx, c.by), Reason: c.reason, Hold: seen.Held.Number})
}

// answer tells the workflow that is held, and looks whether it took effect.
func (c decide) answer(ctx context.Context, s *server, held string, seen sight, answer release.Answer) error {
	call, cancel := context.WithTimeout(ctx, c.worker())
	defer cancel()
	err := s.update(call, client.UpdateWorkflowOptions{
		WorkflowID: held, UpdateName: release.AnswerUpdate, Args: []any{answer},
		// A rollout may be held more than once: each time is another question.
		UpdateID: stable(answer.Choice, answer.By, seen.Held.Number),
	})
	switch {
	case noWorker(ctx, err):
		if err := s.SignalWorkflow(ctx, held, "", release.AnswerSignal, answer); err != nil {
			return s.said(ctx, "answer "+held, err)
		}
		c.say("no worker answers: the choice was left as the signal %s, and counts once there is one; see release status %s", release.AnswerSignal, view.Ref(seen.ID))
		return nil
	case refusal(err) != "":
		return fmt.Errorf("%s: %s", held, refusal(err))
	case err != nil:
		return s.said(ctx, "answer "+held, err)
	}
	c.say("%s, by %s", answer.Choice, answer.By)
	return c.followed(ctx, s, seen)
}

// followed says what came of an answer. One that did not take effect is an error.
func (c decide) followed(ctx context.Context, s *server, before sight) error {
	seen, err := s.await(ctx, before.ID, before.Run, func(now sight) bool {
		return now.over() || now.Held == nil || now.Held.Number != before.Held.Number
	})
	if err != nil {
		return err
	}
	if seen.Held == nil && !seen.over() { // it may be held again soon
		again, err := s.awaitFor(ctx, soon, before.ID, before.Run, func(now sight) bool { return now.over() || now.Held != nil })
		if err != nil {
			return err
		}
		seen = again
	}
	ref := view.Ref(before.ID)
	switch {
	case seen.over():
		c.say("%s is over: %s", ref, outcome(seen))
	case seen.Held != nil && seen.Held.Number == before.Held.Number:
		return fmt.Errorf("%s is still held: the answer did not take effect; see release status %s", ref, ref)
	case seen.Held != nil:
		c.say("%s is held again: %s", ref, seen.Held.Why)
		return exitWith(exitPerson)
	default:
		c.say("%s is %s; release watch %s follows it", ref, phaseOf(seen), ref)
	}
	return nil
}

func join(choices []release.Choice) string {
	var words []string
	for _, c := range choices {
		words = append(words, string(c))
	}
	return strings.Join(words, ", ")
}
