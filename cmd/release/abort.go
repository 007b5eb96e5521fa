package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type abort struct {
	*env
	by, reason   string
	wait, asJSON bool
}

func newAbort(e *env) *cobra.Command {
	c := abort{env: e}
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
		Args: args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, in a `SENTENCE`")
	cmd.Flags().StringVar(&c.by, "by", "", "your `NAME`; git's user.name, unless given")
	cmd.Flags().BoolVar(&c.wait, "wait", false, "follow the release until it is over")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "with --wait: write how it ended as JSON")
	cmd.ValidArgsFunction = c.releases()
	return cmd
}

func (c abort) run(ctx context.Context, ref string) error {
	s, id, err := c.found(ctx, ref)
	if err != nil {
		return err
	}
	if strings.HasPrefix(id, "rollout/") {
		return usage("%s is the rollout of a release: abort that (release list shows it)", id)
	}
	described, err := s.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return s.said(ctx, "look at "+id, err)
	}
	run := described.WorkflowExecutionInfo.Execution.RunId
	if described.WorkflowExecutionInfo.CloseTime == nil { // a cancellation cannot carry who and why
		who := release.Abort{By: c.whoami(ctx, c.by), Reason: c.reason}
		if err := s.SignalWorkflow(ctx, id, run, release.AbortSignal, who); err != nil {
			c.warn("who aborts %s, and why, could not be recorded: %v", view.Ref(id), s.said(ctx, "abort "+id, err))
		}
	}
	var closed *serviceerror.NotFound
	if err := s.CancelWorkflow(ctx, id, run); errors.As(err, &closed) || described.WorkflowExecutionInfo.CloseTime != nil {
		seen, err := s.look(ctx, id, run)
		if err != nil {
			return err
		}
		return fmt.Errorf("%s is over already: %s", view.Ref(id), outcome(seen))
	} else if err != nil {
		return s.said(ctx, "abort "+id, err)
	}
	c.say("aborting %s: what it has begun is rolled back", view.Ref(id))
	c.sayWhenAborted(ctx, s, id, run)
	if c.wait {
		return c.follow(ctx, s, id, run, c.asJSON)
	}
	c.say("  release watch %s", view.Ref(id))
	return nil
}

// sayWhenAborted says what an abort waits for, where no worker hears of it now.
func (c abort) sayWhenAborted(ctx context.Context, s *server, id, run string) {
	seen, err := s.look(ctx, id, run)
	if err != nil {
		return // the order is given, and status tells the rest
	}
	switch {
	case seen.TaskFailure != nil:
		c.say("%s", view.TaskFailure(*seen.TaskFailure))
		c.say("the abort takes effect then")
	case seen.Blind:
		c.say("no worker answers: the abort takes effect once there is one (release dev, or release worker)")
	}
}
