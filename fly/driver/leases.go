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
	// leaseTTL is how long other clients wait if a worker dies and none replaces it.
	// With a refresh every leaseInterval, a lease survives three minutes without Fly or
	// without a worker.
	leaseTTL      = 5 * time.Minute
	leaseInterval = 2 * time.Minute
	// changeTTL is the duration of a lease for one change of a machine that the rollout
	// has not leased, because it created the machine.
	changeTTL = 10 * time.Second
	// concurrentLeases is how many machines are leased concurrently.
	concurrentLeases = 32
)

// A Leased machine is one that a rollout has leased. It is stored in histories.
type Leased struct {
	Target  release.Target `json:"target"`
	FlyApp  string         `json:"fly_app"`
	Machine string         `json:"machine"` // ID
	Nonce   string         `json:"nonce,omitempty"`
	// Version is the version of the machine when it was leased, or older.
	Version string `json:"version,omitempty"`
}

// holderLeases has the leases of one holder. The holder is the description of each
// lease, by which another attempt recognizes it.
type holderLeases struct {
	fly    LeaseAPI
	holder string
}

// TakeLeases leases every machine, or none, and returns the leased ones: machines that
// no longer exist are left out. It is safe to call again: it takes over the leases of
// an earlier attempt. If another client holds a lease, the error names the holder, and
// a retry may succeed.
func (d *Driver) TakeLeases(ctx context.Context, holder string, machines []Leased) ([]Leased, error) {
	l := holderLeases{d.Fly, holder}
	taken := make([]Leased, len(machines))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(concurrentLeases)
	for i, m := range machines {
		g.Go(func() error {
			lease, err := l.takeLease(all, m, leaseTTL)
			if errors.Is(err, fly.ErrNotFound) {
				return nil
			}
			m.Nonce, m.Version = lease.Nonce, lease.Version
			if err == nil {
				taken[i] = m
			}
			return err
		})
	}
	err := g.Wait()
	held := withNonce(taken)
	if err != nil {
		// Keeping some of the leases would block the client that holds the others.
		return nil, errors.Join(err, l.releaseAll(ctx, held))
	}
	return held, nil
}

// withNonce returns the machines with a nonce.
func withNonce(machines []Leased) (held []Leased) {
	for _, m := range machines {
		if m.Nonce != "" {
			held = append(held, m)
		}
	}
	return held
}

// takeLease takes the lease on m, or returns the one that the holder has. It does not
// shorten that one.
func (l holderLeases) takeLease(ctx context.Context, m Leased, ttl time.Duration) (fly.Lease, error) {
	lease, err := retryLimited(ctx, func() (fly.Lease, error) { return l.fly.TakeLease(ctx, m.FlyApp, m.Machine, l.holder, ttl) })
	if !errors.Is(err, fly.ErrConflict) {
		return lease, err
	}
	held, readErr := l.readLease(ctx, m)
	switch {
	case readErr != nil:
		return fly.Lease{}, fmt.Errorf("machine %s of %s is leased by another client: %w", m.Machine, m.Target, err)
	case held.Description == l.holder && time.Until(held.Expires) > ttl:
		return held, nil
	case held.Description == l.holder:
		return l.fly.Lease(ctx, m.FlyApp, m.Machine, held.Nonce, ttl)
	case l.isLeftOver(ctx, held):
		return l.replaceLease(ctx, m, held, ttl)
	}
	return fly.Lease{}, &LeasedError{Machine: m, Holder: formatHolder(held)}
}

// A LeasedError means that another client, whose lease was read, has leased a machine.
type LeasedError struct {
	Machine Leased
	Holder  string // in words
}

func (e *LeasedError) Error() string {
	return fmt.Sprintf("machine %s of %s is leased by %s: is a flyctl deploy under way?", e.Machine.Machine, e.Machine.Target, e.Holder)
}

// isLeftOver reports whether a lease is from an ended run of the same rollout. The
// workflow ID is the lock of the environment, so that run no longer changes the
// machine.
func (l holderLeases) isLeftOver(ctx context.Context, held fly.Lease) bool {
	run, ours := release.ParseLeaseHolder(held.Description)
	return ours && attemptOf(ctx).RunEnded(ctx, run)
}

// replaceLease releases the lease held on m and takes a new one.
func (l holderLeases) replaceLease(ctx context.Context, m Leased, held fly.Lease, ttl time.Duration) (fly.Lease, error) {
	if err := l.fly.ReleaseLease(ctx, m.FlyApp, m.Machine, held.Nonce); err != nil && !errors.Is(err, fly.ErrNotFound) && !errors.Is(err, fly.ErrConflict) {
		return fly.Lease{}, err
	}
	return l.fly.TakeLease(ctx, m.FlyApp, m.Machine, l.holder, ttl)
}

// readLease reads the current lease on m.
func (l holderLeases) readLease(ctx context.Context, m Leased) (fly.Lease, error) {
	return RetryRead(ctx, func() (fly.Lease, error) { return l.fly.ReadLease(ctx, m.FlyApp, m.Machine) })
}

// formatHolder returns the owner of a lease and its end.
func formatHolder(l fly.Lease) string {
	owner := l.Owner
	if l.Description != "" {
		owner += " (" + l.Description + ")"
	}
	return fmt.Sprintf("%s until %s", owner, l.Expires.UTC().Format("15:04:05 UTC"))
}

// releaseAll releases leases, also if ctx has ended. For a machine without a nonce it
// releases the lease if the holder has it. A lease that cannot be released expires.
func (l holderLeases) releaseAll(ctx context.Context, held []Leased) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(concurrentLeases)
	for _, m := range held {
		g.Go(func() error { return l.releaseLease(ctx, m) })
	}
	return g.Wait()
}

// releaseLease releases one lease. It returns nil if the holder does not have it.
func (l holderLeases) releaseLease(ctx context.Context, m Leased) error {
	if m.Nonce == "" {
		lease, err := l.readLease(ctx, m)
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
