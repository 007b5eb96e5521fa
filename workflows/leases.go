package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// heldLeases has the leases of a rollout on the machines that it may change.
type heldLeases struct {
	machines      []activities.Leased
	lostErr       error // why the leases are no longer held, or nil
	stopKeeping   func()
	cancelForward func() // cancels forward; nil while forward is not running
}

// leaseHolder returns the description that the leases of this rollout have.
func (r *rolloutRun) leaseHolder() string {
	return release.LeaseHolder(r.in.Release, r.recordedRunID)
}

// versions returns the versions of the machines when they were leased. A list of machines
// may be older, in particular after the rollout that ended just before this one.
func (l heldLeases) versions() activities.Written {
	written := activities.Written{}
	for _, m := range l.machines {
		if m.Version == "" {
			continue // Fly did not tell it
		}
		if written[m.FlyApp] == nil {
			written[m.FlyApp] = map[string]string{}
		}
		written[m.FlyApp][m.Machine] = m.Version
	}
	return written
}

// takeLeases leases the machines of every target that the plan changes, until the
// rollout ends: other clients cannot change them meanwhile.
func (r *rolloutRun) takeLeases(ctx workflow.Context) error {
	in := activities.LeaseInput{Holder: r.leaseHolder()}
	for _, t := range r.in.Plan.Targets {
		if !t.Changed {
			continue
		}
		for _, id := range workflow.DeterministicKeys(t.MachineVersions) {
			in.Machines = append(in.Machines, activities.Leased{Target: t.Target, FlyApp: t.FlyApp, Machine: id})
		}
	}
	if len(in.Machines) == 0 {
		return nil
	}
	// After an abort or a worker's death some leases may be taken and not reported.
	r.leases.machines = in.Machines
	err := workflow.ExecuteActivity(withLeaseOptions(ctx, "Take leases in "+r.in.Plan.Environment), act.TakeLeases, in).Get(ctx, &in.Machines)
	if err != nil {
		return err
	}
	r.leases.machines = in.Machines
	r.keepLeases(ctx, in)
	return nil
}

// keepLeases refreshes the leases concurrently until the rollout ends, also during a
// rollback. If a lease is lost, it cancels forward.
func (r *rolloutRun) keepLeases(ctx workflow.Context, in activities.LeaseInput) {
	disconnected, _ := workflow.NewDisconnectedContext(ctx)
	disconnected, r.leases.stopKeeping = workflow.WithCancel(disconnected)
	workflow.Go(disconnected, func(ctx workflow.Context) {
		err := workflow.ExecuteActivity(withKeepLeasesOptions(ctx, "Keep leases in "+r.in.Plan.Environment), act.KeepLeases, in).Get(ctx, nil)
		if temporal.IsCanceledError(err) {
			return
		}
		r.leases.lostErr = err
		if r.leases.lostErr == nil {
			r.leases.lostErr = errors.New("the leases are no longer refreshed")
		}
		if r.leases.cancelForward != nil {
			r.leases.cancelForward()
		}
	})
}

// withLeases returns a context that ends when the leases are lost. It takes the leases
// again if they were lost before and an operator chose to retry.
func (r *rolloutRun) withLeases(ctx workflow.Context) (workflow.Context, func(), error) {
	if r.leases.lostErr != nil {
		r.leases.lostErr = nil
		if err := r.takeLeases(ctx); err != nil {
			return ctx, func() {}, err
		}
	}
	ctx, cancel := workflow.WithCancel(ctx)
	r.leases.cancelForward = cancel
	return ctx, func() { r.leases.cancelForward = nil; cancel() }, nil
}

// preferLeaseError returns the error of the lost leases if that is why the context of
// err was canceled, otherwise err.
func (r *rolloutRun) preferLeaseError(err error) error {
	if err != nil && r.leases.lostErr != nil && temporal.IsCanceledError(err) {
		return r.leases.lostErr
	}
	return err
}

// leaseNonce returns the nonce of the lease on the machine of step, or "".
func (r *rolloutRun) leaseNonce(step release.Step) string {
	if r.leases.lostErr != nil {
		return ""
	}
	for _, m := range r.leases.machines {
		if m.Machine == step.Machine && m.FlyApp == step.FlyApp {
			return m.Nonce
		}
	}
	return ""
}

// withLeaseOptions returns ctx with the options of an activity that waits until other
// holders release their leases.
func withLeaseOptions(ctx workflow.Context, summary string) workflow.Context {
	return withBudget(ctx, release.TaskQueue, summary, 5*time.Minute, 15*time.Minute)
}

// keepLeasesHeartbeat is the heartbeat timeout of KeepLeases. A lease lasts five
// minutes, so another attempt still refreshes it in time.
const keepLeasesHeartbeat = 150 * time.Second

// withKeepLeasesOptions returns ctx with the options of KeepLeases, which lasts as long
// as the rollout. Its cancellation is not waited for: startClosing releases the leases.
func withKeepLeasesOptions(ctx workflow.Context, summary string) workflow.Context {
	ctx = withBudget(ctx, release.TaskQueue, summary, 90*24*time.Hour, 180*24*time.Hour)
	options := workflow.GetActivityOptions(ctx)
	options.WaitForCancellation, options.HeartbeatTimeout = false, keepLeasesHeartbeat
	return workflow.WithActivityOptions(ctx, options)
}
