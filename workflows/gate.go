package workflows

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// waitForApproval waits, if the plan has to pass a gate, until enough reviewers have
// approved exactly this plan. It returns an error if one rejects it, if the gate's
// timeout passes, or if the release is aborted.
func (r *releaseRun) waitForApproval(ctx workflow.Context, env release.Environment, standing activities.Standing, plan release.Plan) error {
	gate := standing.Gate
	if gate == nil {
		return nil
	}
	r.leaveQueue(ctx) // other releases may change the environment meanwhile
	r.record(ctx, release.GateOpened(release.GateStatus{
		Environment: env.Name, Plan: plan.Hash, Approvals: max(1, gate.Approvals),
		Until: workflow.Now(ctx).Add(time.Duration(gate.Timeout)), Reasons: standing.Reasons, UnreadRollout: standing.UnreadRollout,
	}))
	defer func() { r.record(ctx, release.GateClosed(env.Name)) }()
	r.rejection = nil
	r.enterPhase(ctx, release.AwaitingApproval, env.Name)

	timerCtx, stop := workflow.WithCancel(ctx)
	defer stop() // otherwise the timer stays pending for days
	expired := workflow.NewTimerWithOptions(timerCtx, time.Duration(gate.Timeout), workflow.TimerOptions{
		Summary: view.Summary("Approval timeout (" + env.Name + ")"),
	})
	err := workflow.Await(ctx, func() bool { return r.isDecided() || expired.IsReady() })
	if err == nil && !r.isDecided() {
		err = ctx.Err() // an abort also cancels the timer
	}
	switch {
	case err != nil:
		return err
	case r.rejection != nil:
		return &release.Rejected{Review: *r.rejection}
	case !r.isDecided():
		return fmt.Errorf("%w on %s within %s", release.ErrGateExpired, env.Name, gate.Timeout)
	}
	return nil
}

// isDecided reports whether the current plan is approved or rejected.
func (r *releaseRun) isDecided() bool {
	gate := r.status().Gate
	return r.rejection != nil || len(gate.Approved) >= gate.Approvals
}

// checkReview returns an error if a review does not count now. ParseReview has checked
// that it is complete.
func (r *releaseRun) checkReview(review release.ReviewInput) error {
	s := r.status()
	gate := s.Gate
	switch {
	case gate == nil && s.Outcome != "":
		return fmt.Errorf("the release has ended: %s", s.Outcome)
	case gate == nil:
		return fmt.Errorf("the release waits for no approval: it is %s", s.Phase)
	case len(review.Plan) < release.PlanDigits:
		return fmt.Errorf("the field plan needs %d or more digits of the plan's hash; the plan to review is %s", release.PlanDigits, shortHash(gate.Plan))
	case s.Plan == nil || !s.Plan.MatchesHash(review.Plan):
		return fmt.Errorf("it is for plan %s; the plan to review is %s", shortHash(review.Plan), shortHash(gate.Plan))
	case r.isDecided():
		return errors.New("the plan is already approved or rejected")
	}
	return nil
}

// takeReview records a review that came by update or signal (door). A repeated approval
// changes nothing. If the review does not count, takeReview records and returns the
// reason.
func (r *releaseRun) takeReview(ctx workflow.Context, doc []byte, approve bool, door string) error {
	review, err := release.ParseReview(doc)
	if err == nil {
		err = r.checkReview(review)
	}
	if err == nil && approve && slices.Contains(r.status().Gate.Approved, review.By) {
		return nil
	}
	recorded := release.Review{Approve: approve, By: review.By, Reason: review.Reason, Plan: review.Plan}
	given := release.ReceivedReview{Review: recorded, At: workflow.Now(ctx), Via: door}
	switch {
	case err != nil:
		given.IgnoredReason = err.Error()
		workflow.GetLogger(ctx).Info("review does not count", "phase", r.status().Phase, "error", err)
	case !approve:
		r.rejection = &recorded
	}
	r.record(ctx, release.ReviewReceived(r.status().Environment, given))
	r.showStatus(ctx)
	return err
}

// registerReviews registers the handlers of the updates and signals approve and reject.
// This happens before anything blocks, because an update without a handler is refused.
func (r *releaseRun) registerReviews(ctx workflow.Context) error {
	return errors.Join(
		r.registerReview(ctx, release.ApproveUpdate, release.ApproveSignal, true),
		r.registerReview(ctx, release.RejectUpdate, release.RejectSignal, false))
}

// registerReview registers the handlers of one update and the signal of the same
// meaning.
func (r *releaseRun) registerReview(ctx workflow.Context, update, signal string, approve bool) error {
	const shape = `{"by": "…", "reason": "…", "plan": "8 or more digits of its hash"}`
	ch := workflow.GetSignalChannelWithOptions(ctx, signal, workflow.SignalChannelOptions{Description: shape})
	r.handleSignals(ctx, ch, func(ctx workflow.Context, doc []byte) {
		if r.takeReview(ctx, doc, approve, "signal") != nil {
			return // a signal has no reply: the details show the reason
		}
	})
	return workflow.SetUpdateHandlerWithOptions(ctx, update,
		func(ctx workflow.Context, raw converter.RawValue) error {
			if err := r.takeReview(ctx, raw.Payload().GetData(), approve, "update"); err != nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), "Refused", nil)
			}
			return nil
		},
		workflow.UpdateHandlerOptions{
			Description: update + " the plan that waits for approval: " + shape,
			Validator: func(raw converter.RawValue) error {
				review, err := release.ParseReview(raw.Payload().GetData())
				if err == nil {
					err = r.checkReview(review)
				}
				if err != nil {
					return fmt.Errorf("this review does not count: %w", err)
				}
				return nil
			},
		})
}

// handleSignals calls handle with the raw payload of each signal. It decodes nothing
// itself: a payload that the SDK cannot decode would be lost or would block the
// workflow.
func (c *statusLog) handleSignals(ctx workflow.Context, ch workflow.ReceiveChannel, handle func(workflow.Context, []byte)) {
	drain := func(ctx workflow.Context) {
		for raw := (converter.RawValue{}); ch.ReceiveAsync(&raw); {
			handle(ctx, raw.Payload().GetData())
		}
	}
	c.drains = append(c.drains, drain)
	workflow.Go(ctx, func(ctx workflow.Context) {
		disconnected, done := workflow.NewDisconnectedContext(ctx)
		defer done()
		// Receive would lose a signal that arrives together with a cancellation: the
		// blocked coroutine owns the signal before it runs.
		for workflow.Await(disconnected, func() bool { return ch.Len() > 0 }) == nil {
			drain(ctx)
		}
	})
}

// shortHash returns the first 12 digits of a hash.
func shortHash(hash string) string { return hash[:min(12, len(hash))] }
