package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// takeOver takes the lease held on m if it was left by a run of this very
// rollout that is closed: terminated, for instance. The workflow ID is the
// environment's lock, so such a run does not change the machine any more. ok is
// false for every other holder.
func (a *Activities) takeOver(ctx context.Context, holder string, m Leased, held fly.Lease, ttl time.Duration) (lease fly.Lease, ok bool, err error) {
	run, ours := release.HolderRun(held.Description)
	if !ours || !a.isClosed(ctx, run) {
		return fly.Lease{}, false, nil
	}
	if err := a.Fly.ReleaseLease(ctx, m.FlyApp, m.Machine, held.Nonce); err != nil && !errors.Is(err, fly.ErrNotFound) && !errors.Is(err, fly.ErrConflict) {
		return fly.Lease{}, true, err
	}
	lease, err = a.Fly.TakeLease(ctx, m.FlyApp, m.Machine, holder, ttl)
	return lease, true, err
}

// isClosed reports whether that run of the workflow that this activity belongs
// to is closed. A run that cannot be read is not.
func (a *Activities) isClosed(ctx context.Context, run string) bool {
	self := activity.GetInfo(ctx).WorkflowExecution
	if run == self.RunID {
		return false
	}
	d, err := a.temporal(ctx).DescribeWorkflow(ctx, self.ID, run)
	return err == nil && d.WorkflowCloseTime != nil
}
