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

	"github.com/microbima/release/git"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// commitLimit is how many commits are read to show what is approved.
const commitLimit = 200

// errNotApproved: a person was asked and did not say yes.
var errNotApproved = errors.New("not approved; the release goes on waiting")

// decision is what approve and reject share.
type decision struct {
	*env
	approve                  bool
	yes, asJSON              bool
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

An approval is of exactly this plan. If what Fly runs changes in between, the
release plans again and asks again. Without a terminal, --yes is needed; --plan
then makes sure that it is the plan that was looked at.`,
		Example: `  release approve 4f2d1c0b9a8e
  release approve 4f2d1c0b9a8e --yes --plan 0123456789ab --by "Ada"`,
		Args: args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { c.ref = args[0]; return c.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do not ask")
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
	given := release.Decision{Approve: c.approve, By: c.whoami(ctx, c.by), Reason: c.reason}
	if seen.Blind && len(c.planned) >= 8 { // what is decided was looked at before
		given.Plan = c.planned
		return c.signal(ctx, s, seen, given)
	}
	if err := c.waits(seen); err != nil {
		return err
	}
	given.Plan = seen.Gate.Plan
	if c.approve {
		fmt.Fprint(c.stderr, view.Question(c.known(ctx, seen.Status), c.style(c.stderr)), "\n")
	}
	if !c.yes {
		yes, err := c.confirm(ctx, fmt.Sprintf("Approve plan %s for %s, as %s?", shortHash(given.Plan), seen.Gate.Environment, given.By))
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

// give tells the workflow. Saying the same twice is one decision.
func (c decision) give(ctx context.Context, s *server, seen sight, given release.Decision) error {
	call, cancel := context.WithTimeout(ctx, c.worker())
	defer cancel()
	err := s.update(call, client.UpdateWorkflowOptions{
		WorkflowID: seen.ID, RunID: seen.Run, UpdateName: release.DecideUpdate, Args: []any{given},
		UpdateID: stable(given.Approve, given.By, given.Plan),
	})
	switch {
	case noWorker(ctx, err):
		return c.signal(ctx, s, seen, given)
	case refusal(err) != "":
		return fmt.Errorf("%s: %s", view.Ref(seen.ID), refusal(err))
	case err != nil:
		return s.said(ctx, "decide on "+seen.ID, err)
	}
	c.say("%s by %s: plan %s", word(given.Approve), given.By, shortHash(given.Plan))
	if missing := seen.Gate.Approvals - len(seen.Gate.Approved) - 1; given.Approve && missing > 0 {
		c.say("%d more must approve", missing)
	}
	return c.told(given, "update")
}

// signal leaves the decision for a worker that is not there yet. It cannot be
// known whether it will count.
func (c decision) signal(ctx context.Context, s *server, seen sight, given release.Decision) error {
	name := release.RejectSignal
	if given.Approve {
		name = release.ApproveSignal
	}
	if err := s.SignalWorkflow(ctx, seen.ID, seen.Run, name, given); err != nil {
		return s.said(ctx, "decide on "+seen.ID, err)
	}
	c.say("no worker answers: the decision of plan %s was left as the signal %s, and counts once there is one, if the release waits with that plan; see release status %s", shortHash(given.Plan), name, view.Ref(seen.ID))
	return c.told(given, "signal")
}

func (c decision) told(given release.Decision, door string) error {
	if !c.asJSON {
		return nil
	}
	return c.json(struct {
		release.Decision
		Door string `json:"door"`
	}{given, door})
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

// stable is the same name for the same words: Temporal answers a repeat with
// the first answer.
func stable(words ...any) string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q", words)))[:32]
}

func word(approve bool) string {
	if approve {
		return "approved"
	}
	return "rejected"
}

func shortHash(hash string) string { return hash[:min(12, len(hash))] }

// known is all that can be said of what is approved.
func (c decision) known(ctx context.Context, s release.Status) view.Approval {
	a := view.Approval{Status: s}
	if s.Plan == nil {
		a.Unknown = "the release does not say its plan"
		return a
	}
	if a.Running = runningRevision(*s.Plan); a.Running == "" {
		return a
	}
	if s.Revision.Commit == "" {
		a.Unknown = "the machines did not say of which revision they were"
		return a
	}
	repo, err := git.Open(ctx, c.dir)
	if err != nil {
		a.Unknown = "this is not a clone of its repository"
		return a
	}
	since, err := repo.Log(ctx, a.Running, s.Revision.Commit, commitLimit)
	dropped, err2 := repo.Log(ctx, s.Revision.Commit, a.Running, commitLimit)
	if err := errors.Join(err, err2); err != nil {
		a.Unknown = "this clone lacks them; git fetch may bring them: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		return a
	}
	a.Commits, a.Dropped = commits(since), commits(dropped)
	return a
}

func commits(revisions []release.Revision) (list []view.Commit) {
	for _, r := range revisions {
		list = append(list, view.Commit{Commit: r.Commit, Subject: r.Subject, Author: r.Author, Time: r.Time})
	}
	return list
}

// runningRevision is the commit that the plan's machines run before it: what a
// release left in their metadata.
func runningRevision(p release.Plan) string {
	for _, step := range p.Steps() {
		var config struct {
			Metadata map[string]string `json:"metadata"`
		}
		if len(step.Before) > 0 && json.Unmarshal(step.Before, &config) == nil && config.Metadata[release.MetaRevision] != "" {
			return config.Metadata[release.MetaRevision]
		}
	}
	return ""
}
