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

// approve waits, where the plan has to pass a gate, until enough people have said
// yes to exactly this plan, or one has said no, or the gate's time is over.
func (r *releaser) approve(ctx workflow.Context, env release.Environment, standing activities.Standing, plan release.Plan) error {
	gate := standing.Gate
	if gate == nil {
		return nil
	}
	r.leave(ctx) // waiting for people holds up nobody
	r.status.Gate = &release.GateStatus{
		Environment: env.Name, Plan: plan.Hash, Approvals: max(1, gate.Approvals),
		Until: workflow.Now(ctx).Add(time.Duration(gate.Timeout)), Because: standing.Because,
	}
	defer func() { r.status.Gate = nil }()
	r.rejected = nil
	r.enter(ctx, release.Awaiting, env.Name)

	timing, stop := workflow.WithCancel(ctx)
	defer stop() // or the timer would be pending for days
	expired := workflow.NewTimerWithOptions(timing, time.Duration(gate.Timeout), workflow.TimerOptions{
		Summary: view.Summary("Approval timeout (" + env.Name + ")"),
	})
	err := workflow.Await(ctx, func() bool { return r.decided() || expired.IsReady() })
	if err == nil && !r.decided() {
		err = ctx.Err() // an abort ends the timer, too
	}
	switch {
	case err != nil:
		return err
	case r.rejected != nil:
		return &release.Rejected{Decision: *r.rejected}
	case !r.decided():
		return fmt.Errorf("%w on %s within %s", release.ErrGateExpired, env.Name, gate.Timeout)
	}
	return nil
}

func (r *releaser) decided() bool {
	return r.rejected != nil || len(r.status.Gate.Approved) >= r.status.Gate.Approvals
}

// refuse returns why a review does not count now, or nil. ReadReview has seen
// that it is complete.
func (r *releaser) refuse(review release.Review) error {
	gate := r.status.Gate
	switch {
	case gate == nil && r.status.Outcome != "":
		return fmt.Errorf("the release is over: %s", r.status.Outcome)
	case gate == nil:
		return fmt.Errorf("nobody is being asked: the release is %s", r.status.Phase)
	case len(review.Plan) < release.PlanDigits:
		return fmt.Errorf("it names no plan: plan needs %d or more digits; the plan being asked about is %s", release.PlanDigits, short(gate.Plan))
	case r.status.Plan == nil || !r.status.Plan.IsNamed(review.Plan):
		return fmt.Errorf("it is for plan %s; the plan being asked about is %s", short(review.Plan), short(gate.Plan))
	case r.decided():
		return errors.New("it was decided already")
	}
	return nil
}

// take is the one place where reviews come in, by update and by signal. Taking
// the same one twice changes nothing. One that does not count is recorded with
// the reason, which take returns.
func (r *releaser) take(ctx workflow.Context, doc []byte, approve bool, door string) error {
	review, err := release.ReadReview(doc)
	if err == nil {
		err = r.refuse(review)
	}
	if err == nil && approve && slices.Contains(r.status.Gate.Approved, review.By) {
		return nil
	}
	decision := release.Decision{Approve: approve, By: review.By, Reason: review.Reason, Plan: review.Plan}
	given := release.Given{Decision: decision, At: workflow.Now(ctx), Door: door}
	switch {
	case err != nil:
		given.Ignored = err.Error()
		workflow.GetLogger(ctx).Info("review does not count", "phase", r.status.Phase, "error", err)
	case approve:
		r.status.Gate.Approved = append(r.status.Gate.Approved, review.By)
	default:
		r.rejected = &decision
	}
	r.status.Decisions = append(r.status.Decisions, given)
	r.show(ctx)
	return err
}

// listen registers the handlers of the updates and signals approve and reject
// before anything blocks: an update that comes earlier would be refused as
// unknown.
func (r *releaser) listen(ctx workflow.Context) error {
	return errors.Join(
		r.listenTo(ctx, release.ApproveUpdate, release.ApproveSignal, true),
		r.listenTo(ctx, release.RejectUpdate, release.RejectSignal, false))
}

func (r *releaser) listenTo(ctx workflow.Context, update, signal string, approve bool) error {
	const shape = `{"by": "…", "reason": "…", "plan": "8 or more digits of its hash"}`
	ch := workflow.GetSignalChannelWithOptions(ctx, signal, workflow.SignalChannelOptions{Description: shape})
	r.receive(ctx, ch, func(ctx workflow.Context, doc []byte) {
		if r.take(ctx, doc, approve, "signal") != nil {
			return // it is shown in the details, and that is all a signal can be told
		}
	})
	return workflow.SetUpdateHandlerWithOptions(ctx, update,
		func(ctx workflow.Context, raw converter.RawValue) error {
			if err := r.take(ctx, raw.Payload().GetData(), approve, "update"); err != nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), "Refused", nil)
			}
			return nil
		},
		workflow.UpdateHandlerOptions{
			Description: update + " the plan being asked about: " + shape,
			Validator: func(raw converter.RawValue) error {
				review, err := release.ReadReview(raw.Payload().GetData())
				if err == nil {
					err = r.refuse(review)
				}
				if err != nil {
					return fmt.Errorf("this review does not count: %w", err)
				}
				return nil
			},
		})
}

// receive calls take with each signal, as it came. Decoding it here, and not in
// the SDK, keeps a malformed one from being lost or from wedging the workflow.
func (c *chronicle) receive(ctx workflow.Context, ch workflow.ReceiveChannel, take func(workflow.Context, []byte)) {
	takeAll := func(ctx workflow.Context) {
		for raw := (converter.RawValue{}); ch.ReceiveAsync(&raw); {
			take(ctx, raw.Payload().GetData())
		}
	}
	c.doors = append(c.doors, takeAll)
	workflow.Go(ctx, func(ctx workflow.Context) {
		apart, done := workflow.NewDisconnectedContext(ctx)
		defer done()
		// Not Receive: a coroutine blocked in it owns a signal before it runs, and one
		// that comes together with a cancellation would be lost.
		for workflow.Await(apart, func() bool { return ch.Len() > 0 }) == nil {
			takeAll(ctx)
		}
	})
}

func short(hash string) string { return hash[:min(12, len(hash))] }
