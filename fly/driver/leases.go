package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

const (
	// leaseTTL is how long others wait when a worker dies and none comes back. A lease
	// that is refreshed every leaseInterval outlives three minutes without Fly or
	// without a worker.
	leaseTTL      = 5 * time.Minute
	leaseInterval = 2 * time.Minute
	// changeTTL outlives one change of a machine that the rollout holds no lease on:
	// one that it created.
	changeTTL = 10 * time.Second
	// concurrentLeases is how many machines are leased concurrently.
	concurrentLeases = 32
)

// A Leased machine is one that a rollout holds. It is recorded in histories.
type Leased struct {
	Target  release.Target `json:"target"`
	FlyApp  string         `json:"fly_app"`
	Machine string         `json:"machine"` // ID
	Nonce   string         `json:"nonce,omitempty"`
}

// leases are those of one holder. Each lease has the holder as its description: by
// that, another attempt recognizes it.
type leases struct {
	fly    LeaseAPI
	holder string
}

// TakeLeases leases every machine, or none, and returns those that it leased: machines
// that do not exist any more are left out. It is safe to call again: leases of an
// earlier attempt are taken over. If somebody else holds one of them, the error names
// the holder, and a retry may succeed.
func (d *Driver) TakeLeases(ctx context.Context, holder string, machines []Leased) ([]Leased, error) {
	l := leases{d.Fly, holder}
	taken := make([]Leased, len(machines))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(concurrentLeases)
	for i, m := range machines {
		g.Go(func() error {
			lease, err := l.take(all, m, leaseTTL)
			if errors.Is(err, fly.ErrNotFound) {
				return nil
			}
			m.Nonce = lease.Nonce
			if err == nil {
				taken[i] = m
			}
			return err
		})
	}
	err := g.Wait()
	held := withNonce(taken)
	if err != nil {
		// Half of an app's leases would keep the holder of the others waiting, too.
		return nil, errors.Join(err, l.release(ctx, held))
	}
	return held, nil
}

// withNonce returns the machines that have a lease.
func withNonce(machines []Leased) (held []Leased) {
	for _, m := range machines {
		if m.Nonce != "" {
			held = append(held, m)
		}
	}
	return held
}

// take takes the lease on m, or takes over the one that the holder has. It never
// shortens that one.
func (l leases) take(ctx context.Context, m Leased, ttl time.Duration) (fly.Lease, error) {
	lease, err := retryLimited(ctx, func() (fly.Lease, error) { return l.fly.TakeLease(ctx, m.FlyApp, m.Machine, l.holder, ttl) })
	if !errors.Is(err, fly.ErrConflict) {
		return lease, err
	}
	held, readErr := l.read(ctx, m)
	switch {
	case readErr != nil:
		return fly.Lease{}, fmt.Errorf("machine %s of %s is leased by somebody else: %w", m.Machine, m.Target, err)
	case held.Description == l.holder && time.Until(held.Expires) > ttl:
		return held, nil
	case held.Description == l.holder:
		return l.fly.Lease(ctx, m.FlyApp, m.Machine, held.Nonce, ttl)
	case l.isLeftOver(ctx, held):
		return l.replace(ctx, m, held, ttl)
	}
	return fly.Lease{}, fmt.Errorf("machine %s of %s is leased by %s: is a flyctl deploy under way?", m.Machine, m.Target, formatHolder(held))
}

// isLeftOver reports whether a lease was left by a run of this same rollout that has
// ended: it was terminated, for instance. The workflow ID is the environment's lock, so
// such a run does not change the machine any more.
func (l leases) isLeftOver(ctx context.Context, held fly.Lease) bool {
	run, ours := release.HolderRun(held.Description)
	return ours && attemptOf(ctx).RunEnded(ctx, run)
}

// replace releases the lease held on m and takes a new one.
func (l leases) replace(ctx context.Context, m Leased, held fly.Lease, ttl time.Duration) (fly.Lease, error) {
	if err := l.fly.ReleaseLease(ctx, m.FlyApp, m.Machine, held.Nonce); err != nil && !errors.Is(err, fly.ErrNotFound) && !errors.Is(err, fly.ErrConflict) {
		return fly.Lease{}, err
	}
	return l.fly.TakeLease(ctx, m.FlyApp, m.Machine, l.holder, ttl)
}

func (l leases) read(ctx context.Context, m Leased) (fly.Lease, error) {
	return RetryRead(ctx, func() (fly.Lease, error) { return l.fly.ReadLease(ctx, m.FlyApp, m.Machine) })
}

// formatHolder returns who holds a lease, and until when.
func formatHolder(l fly.Lease) string {
	who := l.Owner
	if l.Description != "" {
		who += " (" + l.Description + ")"
	}
	return fmt.Sprintf("%s until %s", who, l.Expires.UTC().Format("15:04:05 UTC"))
}

// release releases leases, also if ctx has ended. A machine without a nonce is
// released if the holder has the lease. A lease that cannot be released expires.
func (l leases) release(ctx context.Context, held []Leased) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(concurrentLeases)
	for _, m := range held {
		g.Go(func() error { return l.releaseOne(ctx, m) })
	}
	return g.Wait()
}

func (l leases) releaseOne(ctx context.Context, m Leased) error {
	if m.Nonce == "" {
		lease, err := l.read(ctx, m)
		switch {
		case errors.Is(err, fly.ErrNotFound) || err == nil && lease.Description != l.holder:
			return nil
		case err != nil:
			return err
		}
		m.Nonce = lease.Nonce
	}
	_, err := retryLimited(ctx, func() (struct{}, error) {
		return struct{}{}, l.fly.ReleaseLease(ctx, m.FlyApp, m.Machine, m.Nonce)
	})
	if errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrConflict) {
		return nil
	}
	return err
}
