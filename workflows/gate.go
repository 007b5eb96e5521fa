package workflows

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// approve waits, where the plan has to pass a gate, until enough people have said
// yes to exactly this plan, or one has said no, or the gate's time is over.
func (r *releaser) approve(ctx workflow.Context, env release.Environment, standing activities.Standing, plan release.Plan) error {
	gate := standing.Gate
	if gate == nil {
		return nil
	}
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
		Summary: fmt.Sprintf("%s waits for a decision, so long", env.Name),
	})
	err := workflow.Await(ctx, func() bool { return r.decided() || expired.IsReady() })
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

// refuse says why a decision does not count now, or "".
func (r *releaser) refuse(d release.Decision) string {
	gate := r.status.Gate
	switch {
	case strings.TrimSpace(d.By) == "":
		return "it does not say by whom: by is empty"
	case gate == nil && r.status.Outcome != "":
		return fmt.Sprintf("the release is over: %s", r.status.Outcome)
	case gate == nil:
		return fmt.Sprintf("nobody is being asked: the release is %s", r.status.Phase)
	case len(d.Plan) < 8:
		return fmt.Sprintf("it names no plan: plan needs 8 or more digits; the plan being asked about is %s", short(gate.Plan))
	case r.status.Plan == nil || !r.status.Plan.IsNamed(d.Plan):
		return fmt.Sprintf("it is for plan %s; the plan being asked about is %s", short(d.Plan), short(gate.Plan))
	case r.decided():
		return "it was decided already"
	}
	return ""
}

// take is the one place where decisions come in, by whichever door. Taking the
// same one twice changes nothing.
func (r *releaser) take(ctx workflow.Context, d release.Decision, door string) error {
	d.By = strings.TrimSpace(d.By) // or one person would be two
	why := r.refuse(d)
	given := release.Given{Decision: d, At: workflow.Now(ctx), Door: door, Ignored: why}
	if why == "" && d.Approve && slices.Contains(r.status.Gate.Approved, d.By) {
		return nil
	}
	r.status.Decisions = append(r.status.Decisions, given)
	if why == "" && d.Approve {
		r.status.Gate.Approved = append(r.status.Gate.Approved, d.By)
	} else if why == "" {
		r.rejected = &d
	}
	r.show(ctx)
	if why != "" {
		workflow.GetLogger(ctx).Info("decision does not count", "phase", r.status.Phase, "why", why)
		return errors.New(why)
	}
	return nil
}

// listen opens both doors before anything blocks: an update that comes earlier
// would be refused as unknown.
func (r *releaser) listen(ctx workflow.Context) error {
	err := workflow.SetUpdateHandlerWithOptions(ctx, release.DecideUpdate,
		func(ctx workflow.Context, d release.Decision) error {
			if err := r.take(ctx, d, "update"); err != nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), "Refused", nil)
			}
			return nil
		},
		workflow.UpdateHandlerOptions{
			Description: "Approve or reject the plan being asked about.",
			Validator: func(d release.Decision) error {
				if why := r.refuse(d); why != "" {
					return errors.New("this decision does not count: " + why)
				}
				return nil
			},
		})
	for _, door := range []struct {
		signal  string
		approve bool
	}{{release.ApproveSignal, true}, {release.RejectSignal, false}} {
		ch := workflow.GetSignalChannelWithOptions(ctx, door.signal, workflow.SignalChannelOptions{
			Description: `{"by": "…", "reason": "…", "plan": "8 or more digits of its hash"}`,
		})
		r.receive(ctx, ch, func(ctx workflow.Context, raw []byte) {
			var d release.Decision
			if err := json.Unmarshal(raw, &d); err != nil {
				d = release.Decision{Reason: "a signal that is not a decision: " + err.Error()}
			}
			d.Approve = door.approve
			if r.take(ctx, d, "signal") != nil {
				return // it is shown in the details, and that is all a signal can be told
			}
		})
	}
	return err
}

// receive calls take with each signal, as it came. Decoding it here, and not in
// the SDK, keeps a malformed one from being lost or from wedging the workflow.
func (c *chronicle) receive(ctx workflow.Context, ch workflow.ReceiveChannel, take func(workflow.Context, []byte)) {
	c.doors = append(c.doors, func(ctx workflow.Context) {
		for raw := (converter.RawValue{}); ch.ReceiveAsync(&raw); {
			take(ctx, raw.Payload().GetData())
		}
	})
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var raw converter.RawValue
			if !ch.Receive(ctx, &raw) {
				return
			}
			take(ctx, raw.Payload().GetData())
		}
	})
}

func short(hash string) string { return hash[:min(12, len(hash))] }
