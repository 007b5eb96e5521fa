package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// errNotApproved: a person was asked and did not say yes.
var errNotApproved = errors.New("not approved; the release goes on waiting")

// decision is what approve and reject share.
type decision struct {
	*env
	approve                  bool
	yes, asJSON, details     bool
	reason, by, planned, ref string
}

func newApprove(e *env) *cobra.Command {
	c := decision{env: e, approve: true}
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Look at a plan, and let it be carried out",
		Long: `Approve shows what a release waits to do: the commits since the revision that
runs there, the images' digests, the difference in config of each target, how
many machines in which order, and what verifying the environment before said.
Then it asks.

What is the same for several apps or machines is shown once, and of a long value
the part around its first difference; --details shows each by itself, in full.

An approval is of exactly this plan. If what Fly runs changes in between, the
release plans again and asks again; approve says so, with exit code 5. Without a
terminal, --yes is needed; --plan then makes sure that it is the plan that was
looked at.`,
		Example: `  release approve 4f2d1c0b9a8e
  release approve 4f2d1c0b9a8e --yes --plan 0123456789ab --by "Ada"`,
		Args: args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { c.ref = args[0]; return c.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&c.details, "details", false, "show each app, machine and value by itself, in full")
	c.flags(cmd)
	return cmd
}

func newReject(e *env) *cobra.Command {
	c := decision{env: e, yes: true}
	cmd := &cobra.Command{
		Use:   "reject ID --reason SENTENCE",
		Short: "Say no to a plan: the release stops",
		Long: `Reject says no to the plan that a release waits with. The release stops;
nothing is changed in the environment it asked for.`,
		Example: `  release reject 4f2d1c0b9a8e --reason "not on a Friday"`,
		Args:    args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(c.reason) == "" {
				return usage("--reason is missing: whoever started the release will want to know")
			}
			c.ref = args[0]
			return c.run(cmd.Context())
		},
	}
	c.flags(cmd)
	return cmd
}

func (c *decision) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.reason, "reason", "", "why, in a `SENTENCE`")
	f.StringVar(&c.by, "by", "", "your `NAME`; git's user.name, unless given")
	f.StringVar(&c.planned, "plan", "", "decide only on the plan with this `HASH` (8 or more of its digits)")
	f.BoolVar(&c.asJSON, "json", false, "write the decision as JSON")
	cmd.ValidArgsFunction = c.releases()
}

func (c decision) run(ctx context.Context) error {
	if !c.yes && !c.asks {
		return usage("there is no terminal to ask at: add --yes to approve without being asked")
	}
	s, seen, err := c.see(ctx, c.ref)
	if err != nil {
		return err
	}
	given := release.Review{By: c.whoami(ctx, c.by), Reason: c.reason}
	if seen.Blind && len(c.planned) >= release.PlanDigits { // what is decided was looked at before
		given.Plan = c.planned
		return c.signal(ctx, s, seen, given)
	}
	if err := c.waits(seen); err != nil {
		return err
	}
	given.Plan = seen.Gate.Plan
	if c.approve {
		style := c.style(c.stderr)
		style.Whole = c.details
		fmt.Fprint(c.stderr, view.Review(seen.Status, c.now(), style), "\n")
	}
	if !c.yes {
		yes, err := c.confirm(ctx, fmt.Sprintf("Approve plan %s for %s, as %s?", shortHash(given.Plan), seen.Gate.Environment, given.By))
		if err == nil && c.decided(ctx, s, seen) {
			return c.followed(ctx, s, seen, given)
		}
		if err != nil || !yes {
			return &exit{code: exitFailed, err: errNotApproved}
		}
	}
	return c.give(ctx, s, seen, given)
}

// waits says why there is nothing to decide on, if so.
func (c decision) waits(seen sight) error {
	ref := view.Ref(seen.ID)
	switch {
	case seen.Blind:
		return fmt.Errorf("no worker answers, so what %s waits with cannot be shown; start one (release dev, or release worker), or decide on a plan you have seen with --plan HASH --yes", ref)
	case seen.over():
		return fmt.Errorf("%s is over: %s", ref, outcome(seen))
	case seen.Gate == nil:
		return fmt.Errorf("%s waits for nobody: it is %s", ref, seen.Phase)
	case c.planned != "" && (seen.Plan == nil || !seen.Plan.IsNamed(c.planned)):
		return fmt.Errorf("%s waits with plan %s, not with %s: look at it again", ref, shortHash(seen.Gate.Plan), c.planned)
	}
	return nil
}

func outcome(seen sight) string {
	if seen.Failed != "" {
		return "failed, " + seen.Failed
	}
	return string(seen.Outcome)
}

// decided says whether the release went on without the answer while a person was
// asked, and by whom it was decided.
func (c decision) decided(ctx context.Context, s *server, before sight) bool {
	now, err := s.look(ctx, before.ID, before.Run)
	if err != nil || now.Blind || now.Gate != nil && now.Gate.Plan == before.Gate.Plan {
		return false
	}
	said := fmt.Sprintf("plan %s was not waiting for an answer any more, and none was given", shortHash(before.Gate.Plan))
	for _, d := range now.Decisions {
		if d.Ignored == "" && strings.HasPrefix(before.Gate.Plan, d.Plan) {
			said += fmt.Sprintf("; %s by %s meanwhile", word(d.Approve), d.By)
		}
	}
	c.say("%s", said)
	return true
}

// give tells the workflow, and looks whether it took effect. Saying the same
// twice is one review.
func (c decision) give(ctx context.Context, s *server, seen sight, given release.Review) error {
	name := release.RejectUpdate
	if c.approve {
		name = release.ApproveUpdate
	}
	call, cancel := context.WithTimeout(ctx, c.worker())
	defer cancel()
	err := s.update(call, client.UpdateWorkflowOptions{
		WorkflowID: seen.ID, RunID: seen.Run, UpdateName: name, Args: []any{given},
		UpdateID: stable(c.approve, given.By, given.Plan),
	})
	switch {
	case noWorker(ctx, err):
		return c.signal(ctx, s, seen, given)
	case refusal(err) != "":
		return fmt.Errorf("%s: %s", view.Ref(seen.ID), refusal(err))
	case err != nil:
		return s.said(ctx, "decide on "+seen.ID, err)
	}
	c.say("%s by %s: plan %s", word(c.approve), given.By, shortHash(given.Plan))
	if err := c.told(given, "update"); err != nil {
		return err
	}
	return c.followed(ctx, s, seen, given)
}

// followed says what came of a review: a release that went on or stopped, further
// approvals that are wanted, or a plan that had become stale, which is exit code 5.
func (c decision) followed(ctx context.Context, s *server, before sight, given release.Review) error {
	seen, err := s.await(ctx, before.ID, before.Run, func(now sight) bool {
		switch {
		case now.over() || now.Held != nil || now.Queue != "" || now.begun(before.Gate.Environment):
			return true
		case now.Gate == nil:
			return false // it is about to roll out, or plans again
		}
		return now.Gate.Plan != before.Gate.Plan || c.approve && len(now.Gate.Approved) < now.Gate.Approvals
	})
	ref := view.Ref(before.ID)
	switch {
	case err != nil:
		return err
	case seen.over() && !c.approve && seen.Outcome == release.Stopped:
		c.say("%s is stopped", ref)
	case seen.over():
		c.say("%s is over: %s", ref, outcome(seen))
	case seen.Held != nil:
		c.say("%s is held: %s", ref, seen.Held.Why)
		return exitWith(exitPerson)
	case seen.Gate != nil && seen.Gate.Plan != before.Gate.Plan && seen.Gate.Environment == before.Gate.Environment:
		c.say("that plan no longer fits what Fly runs, and was not carried out%s\n%s asks again, with plan %s: release approve %s",
			stale(seen), seen.Gate.Environment, shortHash(seen.Gate.Plan), ref)
		return exitWith(exitPerson)
	case seen.Gate != nil && seen.Gate.Plan == before.Gate.Plan && c.approve && len(seen.Gate.Approved) < seen.Gate.Approvals:
		c.say("%d more must approve", seen.Gate.Approvals-len(seen.Gate.Approved))
	case seen.Queue != "":
		c.say("%s waits: %s", ref, seen.Queue)
	default:
		c.say("%s is %s; release watch %s follows it", ref, phaseOf(seen), ref)
	}
	return nil
}

// stale is the last note of a release, which says why a plan no longer fit.
func stale(seen sight) string {
	if len(seen.Notes) == 0 {
		return ""
	}
	return ": " + seen.Notes[len(seen.Notes)-1]
}

// signal leaves the review for a worker that is not there yet. It cannot be
// known whether it will count.
func (c decision) signal(ctx context.Context, s *server, seen sight, given release.Review) error {
	name := release.RejectSignal
	if c.approve {
		name = release.ApproveSignal
	}
	if err := s.SignalWorkflow(ctx, seen.ID, seen.Run, name, given); err != nil {
		return s.said(ctx, "decide on "+seen.ID, err)
	}
	c.say("no worker answers: the decision of plan %s was left as the signal %s, and counts once there is one, if the release waits with that plan; see release status %s", shortHash(given.Plan), name, view.Ref(seen.ID))
	return c.told(given, "signal")
}

func (c decision) told(given release.Review, door string) error {
	if !c.asJSON {
		return nil
	}
	return c.json(struct {
		release.Decision
		Door string `json:"door"`
	}{release.Decision{Approve: c.approve, By: given.By, Reason: given.Reason, Plan: given.Plan}, door})
}

// update sends an update and waits for its answer.
func (s *server) update(ctx context.Context, options client.UpdateWorkflowOptions) error {
	options.WaitForStage = client.WorkflowUpdateStageCompleted
	handle, err := s.UpdateWorkflow(ctx, options)
	if err != nil {
		return err
	}
	return handle.Get(ctx, nil)
}

// stable returns the same update ID for the same words, and another for others:
// Temporal answers a repeat with the first answer.
func stable(words ...any) string {
	doc, _ := json.Marshal(words) // text, numbers and truths always marshal
	return fmt.Sprintf("%x", sha256.Sum256(doc))[:32]
}

func word(approve bool) string {
	if approve {
		return "approved"
	}
	return "rejected"
}

func shortHash(hash string) string { return hash[:min(12, len(hash))] }
