package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// refreshRetry is the delay after a failed refresh.
const refreshRetry = 15 * time.Second

// Keeping has the leases to keep, and callbacks of the caller.
type Keeping struct {
	Holder   string
	Machines []Leased
	Last     time.Time // time of the last refresh
	// Begin, if set, is called before each refresh with the time of the last one; its
	// result is called after the refresh. It may end ctx if the operation is aborted.
	Begin func(last time.Time) (end func())
	// IsOver, if set, reports whether ctx ended because the rollout has ended.
	IsOver func(ctx context.Context) bool
}

// KeepLeases refreshes leases until ctx ends. It returns an *Error of KindConflict if
// one is lost: another client released it, or took it after it had expired while no
// worker ran. It takes expired leases again if they are free. It returns nil if the
// leases are no longer needed, because the rollout was closed, aborted or ended; then
// it releases the leases that it took.
func (d *Driver) KeepLeases(ctx context.Context, in Keeping) error {
	ctx, done := d.memory().keepers.add(ctx, in.Holder)
	defer done()
	l := holderLeases{d.Fly, in.Holder}
	given := map[string]string{} // nonces, by machine
	for _, m := range in.Machines {
		given[m.Machine] = m.Nonce
	}
	kept, err := l.refreshUntilEnd(ctx, in)
	if !in.isUnneeded(ctx) {
		return err
	}
	taken := slices.DeleteFunc(kept, func(m Leased) bool { return given[m.Machine] == m.Nonce })
	if failed := l.releaseAll(ctx, taken); failed != nil {
		attemptOf(ctx).Log.Warn("leases not released", "error", failed)
	}
	return nil
}

// isUnneeded reports whether the leases are no longer needed.
func (in Keeping) isUnneeded(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errClosed) || attemptOf(ctx).Aborted(ctx) || in.IsOver != nil && in.IsOver(ctx)
}

// beginRefresh calls Begin if it is set.
func (in Keeping) beginRefresh(last time.Time) (end func()) {
	if in.Begin == nil {
		return func() {}
	}
	return in.Begin(last)
}

// refreshUntilEnd refreshes the leases until ctx ends or one is lost. It returns the
// leases that are held then.
func (l holderLeases) refreshUntilEnd(ctx context.Context, in Keeping) ([]Leased, error) {
	kept, last := slices.Clone(in.Machines), in.Last
	for {
		if err := sleep.For(ctx, time.Until(last.Add(leaseInterval))); err != nil {
			return kept, err
		}
		end := in.beginRefresh(last)
		if ctx.Err() != nil {
			end()
			return kept, context.Cause(ctx)
		}
		begun := time.Now()
		left, err := l.refreshAll(ctx, kept, begun.Sub(last) >= leaseTTL)
		end()
		if kept = left; err == nil {
			last = begun.Truncate(time.Second)
			continue
		}
		if IsPermanent(err) || ctx.Err() != nil {
			return kept, err
		}
		attemptOf(ctx).Log.Warn("leases not refreshed", "error", err)
		if err := sleep.For(ctx, refreshRetry); err != nil {
			return kept, err
		}
	}
}

// refreshAll extends every lease, and returns those of machines that exist. lapsed
// means that the leases may have expired.
func (l holderLeases) refreshAll(ctx context.Context, machines []Leased, lapsed bool) ([]Leased, error) {
	kept := slices.Clone(machines)
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(concurrentLeases)
	for i := range kept {
		g.Go(func() error {
			m := &kept[i]
			lease, err := l.fly.Lease(all, m.FlyApp, m.Machine, m.Nonce, leaseTTL)
			if errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrConflict) {
				lease, err = l.retakeLease(all, *m, lapsed, err)
			}
			if err == nil {
				m.Nonce = lease.Nonce // "" if the machine no longer exists
			}
			return err
		})
	}
	err := g.Wait()
	return withNonce(kept), err
}

// lostLeaseError returns the error of a machine whose lease is lost for reason.
func lostLeaseError(m Leased, reason string) error {
	return failureError(release.KindConflict, release.Failure{Target: m.Target, Machine: m.Machine, Reason: reason})
}

// retakeLease returns another lease for a lost one, unless another client took or
// released it. It returns an empty lease for a machine that no longer exists.
func (l holderLeases) retakeLease(ctx context.Context, m Leased, lapsed bool, lost error) (fly.Lease, error) {
	now, err := readMachine(ctx, l.fly, m.FlyApp, m.Machine, "")
	if errors.Is(err, fly.ErrNotFound) || err == nil && now.State == "destroyed" {
		return fly.Lease{}, nil
	}
	if err != nil {
		return fly.Lease{}, err
	}
	held, err := l.readLease(ctx, m)
	switch {
	case err == nil && held.Description == l.holder:
		return held, nil
	case err == nil:
		return fly.Lease{}, lostLeaseError(m, fmt.Sprintf("lost its lease to %s: is a flyctl deploy under way?", formatHolder(held)))
	case !errors.Is(err, fly.ErrNotFound):
		return fly.Lease{}, err
	case lapsed:
		return l.takeLease(ctx, m, leaseTTL)
	}
	return fly.Lease{}, lostLeaseError(m, fmt.Sprintf("lost its lease: another client released it (%s)", lost))
}
