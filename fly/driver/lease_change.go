package driver

import (
	"context"
	"errors"
	"time"

	"github.com/microbima/release/fly"
)

// changeUnderLease sends one change of m under the rollout's lease on it. If there is
// no lease, because the rollout created the machine or lost its leases, it takes one
// for the change. It uses a lease that KeepLeases keeps, and does not release it. A
// machine that changed since it was read is a conflict: the next attempt finds out
// whether an earlier one changed it.
func (r *stepRun) changeUnderLease(ctx context.Context, m fly.Machine, change func(nonce string) (fly.Machine, error)) (fly.Machine, error) {
	send := func(nonce string) (fly.Machine, error) {
		return retryLimited(ctx, func() (fly.Machine, error) { return change(nonce) })
	}
	l := holderLeases{r.Fly, r.Holder}
	if r.Nonce != "" {
		after, err := send(r.Nonce)
		if !errors.Is(err, fly.ErrConflict) {
			return after, err
		}
		held, readErr := r.Fly.ReadLease(ctx, r.Step.FlyApp, m.ID)
		switch {
		case readErr == nil && held.Description == r.Holder:
			return send(held.Nonce) // KeepLeases has taken an expired lease again
		case readErr == nil:
			return fly.Machine{}, conflictError(r.Step, "is leased by %s: is a flyctl deploy under way?", formatHolder(held))
		case !errors.Is(readErr, fly.ErrNotFound):
			return fly.Machine{}, readErr
		}
	}
	own := Leased{Target: r.Step.Target, FlyApp: r.Step.FlyApp, Machine: m.ID}
	lease, err := l.takeLease(ctx, own, changeTTL)
	if err != nil {
		return fly.Machine{}, err
	}
	own.Nonce = lease.Nonce
	after, err := send(own.Nonce)
	if isKept(lease) {
		return after, err
	}
	if failed := l.releaseAll(ctx, []Leased{own}); failed != nil {
		attemptOf(ctx).Log.Warn("lease not released", "target", r.Step.Target.String(), "machine", m.ID, "error", failed)
	}
	return after, err
}

// isKept reports whether KeepLeases keeps a lease: it lasts longer than a lease for one
// change, with five seconds for the difference of the clocks.
func isKept(l fly.Lease) bool { return time.Until(l.Expires) > changeTTL+5*time.Second }
