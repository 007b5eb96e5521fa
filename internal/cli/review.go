package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// ErrNotApproved means that the user answered no.
var ErrNotApproved = errors.New("not approved; the release continues to wait")

// effectLimit is the time that a command waits for the effect of its update.
const effectLimit = 15 * time.Second

// reviewCommand implements approve and reject.
type reviewCommand struct {
	*World
	approve                  bool
	yes, asJSON, details     bool
	reason, by, planned, ref string
}

func newApprove(w *World) *cobra.Command {
	c := reviewCommand{World: w, approve: true}
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Show a plan, and approve it",
		Long: `Approve shows the plan that a release waits with: the commits since the running
revision, the digests of the images, the config differences of each target, how many
machines change and in which order, and the result of verifying the environment
before. Then it asks.

Differences that several apps or machines share are shown once, and of a long value
only the part around the first difference. --details shows each in full.

An approval is of exactly this plan. If the running machines change before it is
executed, the release plans again and asks again; approve says so and exits with 5.
Without a terminal, --yes is needed; --plan makes sure that the plan is the one you
have seen.`,
		Example: `  release approve 4f2d1c0b9a8e
  release approve 4f2d1c0b9a8e --yes --plan 0123456789ab --by "Ada"`,
		Args: WantArgs(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { c.ref = args[0]; return c.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&c.details, "details", false, "show each app, machine and value by itself, in full")
	c.addFlags(cmd)
	return cmd
}

func newReject(w *World) *cobra.Command {
	c := reviewCommand{World: w, yes: true}
	cmd := &cobra.Command{
		Use:   "reject ID --reason SENTENCE",
		Short: "Reject a plan: the release stops",
		Long: `Reject rejects the plan that a release waits with. The release stops, and nothing
changes in that environment.`,
		Example: `  release reject 4f2d1c0b9a8e --reason "not on a Friday"`,
		Args:    WantArgs(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(c.reason) == "" {
				return Usage("--reason is missing: it is recorded, and shown with the release")
			}
			c.ref = args[0]
			return c.run(cmd.Context())
		},
	}
	c.addFlags(cmd)
	return cmd
}

func (c *reviewCommand) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.reason, "reason", "", "the reason, as a `SENTENCE`")
	f.StringVar(&c.by, "by", "", "your `NAME` (default: git's user.name)")
	f.StringVar(&c.planned, "plan", "", "fail unless this is the `HASH` of the plan (8 or more digits)")
	f.BoolVar(&c.asJSON, "json", false, "write the review as JSON")
	cmd.ValidArgsFunction = completeReleases(c.World)
}

func (c reviewCommand) run(ctx context.Context) error {
	if !c.yes && !c.Terminal.CanAsk {
		return Usage("there is no terminal to ask at: add --yes to approve without being asked")
	}
	temporal, s, err := getRelease(ctx, c.World, c.ref)
	if err != nil {
		return err
	}
	review := release.ReviewInput{By: operatorName(ctx, c.World, c.by), Reason: c.reason}
	if s.Partial && len(c.planned) >= release.PlanDigits { // the user saw this plan before
		review.Plan = c.planned
		if err := temporal.SignalReview(ctx, s.ID, s.Run, c.approve, review); err != nil {
			return err
		}
		return c.saySignalled(s, review)
	}
	if err := c.checkGate(s); err != nil {
		return err
	}
	review.Plan = s.Gate.Plan
	if c.approve {
		style := c.Style(c.Stderr)
		style.Whole = c.details
		fmt.Fprint(c.Stderr, view.Review(s.Status, c.Now(), style), "\n")
	}
	if !c.yes {
		yes, err := c.Confirm(ctx, fmt.Sprintf("Approve plan %s for %s, as %s?", shortHash(review.Plan), s.Gate.Environment, review.By))
		if err == nil && c.sayIfDecided(ctx, temporal, s) {
			return c.sayEffect(ctx, temporal, s)
		}
		if err != nil || !yes {
			return &ExitError{Code: ExitFailed, Err: ErrNotApproved}
		}
	}
	return c.sendReview(ctx, temporal, s, review)
}

// checkGate returns an error if no plan waits for a review.
func (c reviewCommand) checkGate(s client.Snapshot) error {
	ref := view.Ref(s.ID)
	switch {
	case s.Partial:
		return fmt.Errorf("no worker answers, so the plan that %s waits with cannot be shown; start one (release dev, or release worker), or decide on a plan you have seen with --plan HASH --yes", ref)
	case s.IsOver():
		return fmt.Errorf("%s is over: %s", ref, describeEnd(s))
	case s.Gate == nil:
		return fmt.Errorf("%s waits for no review: it is %s", ref, s.Phase)
	case c.planned != "" && (s.Plan == nil || !s.Plan.MatchesHash(c.planned)):
		return fmt.Errorf("%s waits with plan %s, not with %s: look at it again", ref, shortHash(s.Gate.Plan), c.planned)
	}
	return nil
}

// sayIfDecided prints the reviews of others if the plan stopped waiting while the user
// was asked, and reports whether it did.
func (c reviewCommand) sayIfDecided(ctx context.Context, temporal *client.Client, before client.Snapshot) bool {
	now, err := temporal.Get(ctx, before.ID, before.Run)
	if err != nil || now.Partial || now.Gate != nil && now.Gate.Plan == before.Gate.Plan {
		return false
	}
	text := fmt.Sprintf("plan %s was not waiting for an answer any more, and none was given", shortHash(before.Gate.Plan))
	for _, d := range now.Reviews {
		if d.IgnoredReason == "" && strings.HasPrefix(before.Gate.Plan, d.Plan) {
			text += fmt.Sprintf("; %s by %s meanwhile", pastTense(d.Approve), d.By)
		}
	}
	c.Say("%s", text)
	return true
}

// sendReview sends the review and waits for its effect. It is safe to call twice.
func (c reviewCommand) sendReview(ctx context.Context, temporal *client.Client, s client.Snapshot, review release.ReviewInput) error {
	send := temporal.Reject
	if c.approve {
		send = temporal.Approve
	}
	delivery, err := send(ctx, s.ID, s.Run, review)
	if err != nil {
		return err
	}
	if delivery == client.BySignal {
		return c.saySignalled(s, review)
	}
	c.Say("%s by %s: plan %s", pastTense(c.approve), review.By, shortHash(review.Plan))
	if err := c.printReview(review, delivery); err != nil {
		return err
	}
	return c.sayEffect(ctx, temporal, s)
}

// sayEffect waits for the effect of a review and prints it: the release continues or
// stops, or more approvals are needed. If the plan had become stale, it returns exit
// code 5.
func (c reviewCommand) sayEffect(ctx context.Context, temporal *client.Client, before client.Snapshot) error {
	s, err := temporal.WaitFor(ctx, effectLimit, before.ID, before.Run, func(now client.Snapshot) bool { return c.hasEffect(before, now) })
	if err != nil {
		return err
	}
	ref := view.Ref(before.ID)
	switch {
	case s.IsOver() && !c.approve && s.Outcome == release.Stopped:
		c.Say("%s is stopped", ref)
	case s.IsOver():
		c.Say("%s is over: %s", ref, describeEnd(s))
	case s.Held != nil:
		c.Say("%s is held: %s", ref, s.Held.Why)
		return ExitWith(ExitPerson)
	case s.Gate != nil && s.Gate.Plan != before.Gate.Plan && s.Gate.Environment == before.Gate.Environment:
		c.Say("that plan no longer fits what Fly runs, and was not executed%s\n%s asks again, with plan %s: release approve %s",
			lastNote(s), s.Gate.Environment, shortHash(s.Gate.Plan), ref)
		return ExitWith(ExitPerson)
	case c.needsMore(before, s):
		c.Say("%d more must approve", s.Gate.Approvals-len(s.Gate.Approved))
	case s.Queue != "":
		c.Say("%s waits: %s", ref, view.QueueText(s.Status))
	default:
		c.Say("%s is %s; release watch %s follows it", ref, describePhase(s), ref)
	}
	return nil
}

// hasEffect reports whether now shows an effect of the review.
func (c reviewCommand) hasEffect(before, now client.Snapshot) bool {
	switch {
	case now.IsOver() || now.Held != nil || now.Queue != "" || now.HasBegun(before.Gate.Environment):
		return true
	case now.Gate == nil:
		return false // the rollout is about to start, or the release plans again
	}
	return now.Gate.Plan != before.Gate.Plan || c.needsMore(before, now)
}

// needsMore reports whether the same plan needs further approvals.
func (c reviewCommand) needsMore(before, now client.Snapshot) bool {
	return c.approve && now.Gate != nil && now.Gate.Plan == before.Gate.Plan && len(now.Gate.Approved) < now.Gate.Approvals
}

// lastNote returns the last note of a release, which has the reason of a stale plan.
func lastNote(s client.Snapshot) string {
	if len(s.Notes) == 0 {
		return ""
	}
	return ": " + s.Notes[len(s.Notes)-1]
}

// saySignalled prints that a review waits for a worker.
func (c reviewCommand) saySignalled(s client.Snapshot, review release.ReviewInput) error {
	name := release.RejectSignal
	if c.approve {
		name = release.ApproveSignal
	}
	c.Say("no worker answers: the review on plan %s was left as the signal %s, and counts once there is one, if the release waits with that plan; see release status %s", shortHash(review.Plan), name, view.Ref(s.ID))
	return c.printReview(review, client.BySignal)
}

func (c reviewCommand) printReview(review release.ReviewInput, delivery client.Delivery) error {
	if !c.asJSON {
		return nil
	}
	return c.PrintJSON(struct {
		release.Review
		Door client.Delivery `json:"door"`
	}{release.Review{Approve: c.approve, By: review.By, Reason: review.Reason, Plan: review.Plan}, delivery})
}

func pastTense(approve bool) string {
	if approve {
		return "approved"
	}
	return "rejected"
}

func shortHash(hash string) string { return hash[:min(12, len(hash))] }
