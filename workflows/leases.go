package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// leases are what a rollout holds on the machines that it may change.
type leases struct {
	machines []activities.Leased
	lost     error // why they are no longer held
	end      func()
	forward  func() // ends the way forward
}

// holder is what the leases of this rollout say of it.
func (r *roller) holder() string {
	return release.Holder(r.in.Release, r.recordedRun)
}

// lease keeps others from changing the machines of every target that the plan
// changes, until the rollout ends.
func (r *roller) lease(ctx workflow.Context) error {
	in := activities.LeaseInput{Holder: r.holder()}
	for _, t := range r.in.Plan.Targets {
		if !t.Changed {
			continue
		}
		for _, id := range workflow.DeterministicKeys(t.Seen) {
			in.Machines = append(in.Machines, activities.Leased{Target: t.Target, FlyApp: t.FlyApp, Machine: id})
		}
	}
	if len(in.Machines) == 0 {
		return nil
	}
	// An abort, or a worker's death, may hide that some were taken.
	r.leases.machines = in.Machines
	err := workflow.ExecuteActivity(leasing(ctx, "keep others out of "+r.in.Plan.Environment), act.TakeLeases, in).Get(ctx, &in.Machines)
	if err != nil {
		return err
	}
	r.leases.machines = in.Machines
	r.keepLeases(ctx, in)
	return nil
}

// keepLeases refreshes them beside all else, also on the way back.
func (r *roller) keepLeases(ctx workflow.Context, in activities.LeaseInput) {
	apart, _ := workflow.NewDisconnectedContext(ctx)
	apart, r.leases.end = workflow.WithCancel(apart)
	workflow.Go(apart, func(ctx workflow.Context) {
		err := workflow.ExecuteActivity(keeping(ctx, "keep others out, go on"), act.KeepLeases, in).Get(ctx, nil)
		if temporal.IsCanceledError(err) {
			return
		}
		r.leases.lost = err
		if r.leases.lost == nil {
			r.leases.lost = errors.New("the leases are no longer kept")
		}
		if r.leases.forward != nil {
			r.leases.forward()
		}
	})
}

// whileLeased is a context that ends when the leases are lost. Those that were
// lost before, when a person said to go on all the same, are taken again.
func (r *roller) whileLeased(ctx workflow.Context) (workflow.Context, func(), error) {
	if r.leases.lost != nil {
		r.leases.lost = nil
		if err := r.lease(ctx); err != nil {
			return ctx, func() {}, err
		}
	}
	ctx, end := workflow.WithCancel(ctx)
	r.leases.forward = end
	return ctx, func() { r.leases.forward = nil; end() }, nil
}

// orLost is the real reason where err only says that a context ended.
func (r *roller) orLost(err error) error {
	if err != nil && r.leases.lost != nil && temporal.IsCanceledError(err) {
		return r.leases.lost
	}
	return err
}

// nonce is that of the lease on the machine of step, or "".
func (r *roller) nonce(step release.Step) string {
	if r.leases.lost != nil {
		return ""
	}
	for _, m := range r.leases.machines {
		if m.Machine == step.Machine && m.FlyApp == step.FlyApp {
			return m.Nonce
		}
	}
	return ""
}

// leasing: until whoever holds a machine lets go of it.
func leasing(ctx workflow.Context, summary string) workflow.Context {
	return budget(ctx, release.TaskQueue, summary, 5*time.Minute, 15*time.Minute)
}

// keepHeartbeat is the heartbeat timeout of KeepLeases. A lease lasts for five
// minutes, and one that is refreshed by another attempt must not have run out.
const keepHeartbeat = 150 * time.Second

// keeping: for as long as the rollout lasts. It need not be waited for: it
// changes nothing that the end of a rollout would not undo.
func keeping(ctx workflow.Context, summary string) workflow.Context {
	ctx = budget(ctx, release.TaskQueue, summary, 90*24*time.Hour, 180*24*time.Hour)
	options := workflow.GetActivityOptions(ctx)
	options.WaitForCancellation, options.HeartbeatTimeout = false, keepHeartbeat
	return workflow.WithActivityOptions(ctx, options)
}
