package driver

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// refreshRetry is the delay after a refresh that failed.
const refreshRetry = 15 * time.Second

// Keeping is what KeepLeases refreshes, and what it needs of its caller.
type Keeping struct {
	Holder   string
	Machines []Leased
	Last     time.Time // when they were refreshed last
	// Begin, if set, is called before each refresh with the time of the last one; the
	// function that it returns is called after the refresh. Where it finds out that the
	// operation is not wanted any more, it ends ctx.
	Begin func(last time.Time) (end func())
	// IsOver, if set, reports whether ctx ended because the rollout has.
	IsOver func(ctx context.Context) bool
}

// KeepLeases refreshes leases until ctx ends. It returns an Error of KindConflict if
// one is lost: removed by somebody, or taken by somebody else after it had expired
// while no worker was up. Leases that expired and that nobody took are taken again. It
// returns nil if they are not needed any more, because the rollout was closed, aborted
// this, or has ended; then it releases the leases that it took.
func (d *Driver) KeepLeases(ctx context.Context, in Keeping) error {
	ctx, done := d.memory().keepers.add(ctx, in.Holder)
	defer done()
	l := leases{d.Fly, in.Holder}
	given := map[string]string{} // nonces, by machine
	for _, m := range in.Machines {
		given[m.Machine] = m.Nonce
	}
	kept, err := l.keep(ctx, in)
	if !in.isUnneeded(ctx) {
		return err
	}
	taken := slices.DeleteFunc(kept, func(m Leased) bool { return given[m.Machine] == m.Nonce })
	if failed := l.release(ctx, taken); failed != nil {
		attemptOf(ctx).Log.Warn("leases not released", "error", failed)
	}
	return nil
}

// isUnneeded reports whether the leases are not to be kept any more.
func (in Keeping) isUnneeded(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errClosed) || attemptOf(ctx).Aborted(ctx) || in.IsOver != nil && in.IsOver(ctx)
}

func (in Keeping) begin(last time.Time) (end func()) {
	if in.Begin == nil {
		return func() {}
	}
	return in.Begin(last)
}

// keep refreshes the leases until that is not possible or not wanted any more, and
// returns those that it holds then.
func (l leases) keep(ctx context.Context, in Keeping) ([]Leased, error) {
	kept, last := slices.Clone(in.Machines), in.Last
	for {
		if err := sleep(ctx, time.Until(last.Add(leaseInterval))); err != nil {
			return kept, err
		}
		end := in.begin(last)
		if ctx.Err() != nil {
			end()
			return kept, context.Cause(ctx)
		}
		begun := time.Now()
		left, err := l.refresh(ctx, kept, begun.Sub(last) >= leaseTTL)
		end()
		if kept = left; err == nil {
			last = begun.Truncate(time.Second)
			continue
		}
		if IsPermanent(err) || ctx.Err() != nil {
			return kept, err
		}
		attemptOf(ctx).Log.Warn("leases not refreshed", "error", err)
		if err := sleep(ctx, refreshRetry); err != nil {
			return kept, err
		}
	}
}

// refresh extends every lease, and returns those that are still needed. With lapsed,
// the leases may have expired.
func (l leases) refresh(ctx context.Context, machines []Leased, lapsed bool) ([]Leased, error) {
	kept := slices.Clone(machines)
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(concurrentLeases)
	for i := range kept {
		g.Go(func() error {
			m := &kept[i]
			lease, err := l.fly.Lease(all, m.FlyApp, m.Machine, m.Nonce, leaseTTL)
			if errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrConflict) {
				lease, err = l.retake(all, *m, lapsed, err)
			}
			if err == nil {
				m.Nonce = lease.Nonce // "" where there is no machine any more
			}
			return err
		})
	}
	err := g.Wait()
	return withNonce(kept), err
}

// retake returns another lease for one that is lost, if nobody else has taken it or
// removed it. A machine that does not exist any more needs none.
func (l leases) retake(ctx context.Context, m Leased, lapsed bool, lost error) (fly.Lease, error) {
	now, err := readMachine(ctx, l.fly, m.FlyApp, m.Machine, "")
	if errors.Is(err, fly.ErrNotFound) || err == nil && now.State == "destroyed" {
		return fly.Lease{}, nil
	}
	if err != nil {
		return fly.Lease{}, err
	}
	held, err := l.read(ctx, m)
	step := release.Step{Target: m.Target, Machine: m.Machine}
	switch {
	case err == nil && held.Description == l.holder:
		return held, nil
	case err == nil:
		return fly.Lease{}, conflict(step, "lost its lease to %s: is a flyctl deploy under way?", formatHolder(held))
	case !errors.Is(err, fly.ErrNotFound):
		return fly.Lease{}, err
	case lapsed:
		return l.take(ctx, m, leaseTTL)
	}
	return fly.Lease{}, conflict(step, "lost its lease: somebody cleared it (%s)", lost)
}
