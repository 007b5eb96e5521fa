package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

const (
	// leaseTTL is what others have to wait for when a worker dies and none comes
	// back; refreshed every leaseEvery, a lease outlives three minutes without
	// Fly or without a worker.
	leaseTTL   = 5 * time.Minute
	leaseEvery = 2 * time.Minute
	// changeTTL outlives one change of a machine that the rollout holds no
	// lease on: one that it created.
	changeTTL = 10 * time.Second
	// leasesAtOnce is how many machines are leased side by side.
	leasesAtOnce = 32
)

// A Leased machine is one that a rollout holds.
type Leased struct {
	Target  release.Target `json:"target"`
	FlyApp  string         `json:"fly_app"`
	Machine string         `json:"machine"` // ID
	Nonce   string         `json:"nonce,omitempty"`
}

// LeaseInput names the machines that a rollout holds, and what its leases say
// of it: by that, another attempt knows them as its own.
type LeaseInput struct {
	Holder   string   `json:"holder"`
	Machines []Leased `json:"machines"`
}

// TakeLeases leases every machine, or none. Those that are gone are left out.
// It is safe to call again: leases of an earlier attempt are taken over. While
// somebody else holds one of them the error says who, and is worth another try.
func (a *Activities) TakeLeases(ctx context.Context, in LeaseInput) ([]Leased, error) {
	defer beat(ctx)()
	taken := make([]Leased, len(in.Machines))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(leasesAtOnce)
	for i, m := range in.Machines {
		g.Go(func() error {
			lease, err := a.lease(all, in.Holder, m, leaseTTL)
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
	var held []Leased
	for _, m := range taken {
		if m.Nonce != "" {
			held = append(held, m)
		}
	}
	if err != nil {
		// Half of an app's leases would keep the other's change from ending, too.
		return nil, classify(ctx, errors.Join(err, a.giveBack(ctx, in.Holder, held)))
	}
	return held, nil
}

// lease takes the lease on m, or takes over the one that in.Holder has.
func (a *Activities) lease(ctx context.Context, holder string, m Leased, ttl time.Duration) (fly.Lease, error) {
	lease, err := paced(ctx, func() (fly.Lease, error) { return a.Fly.TakeLease(ctx, m.FlyApp, m.Machine, holder, ttl) })
	if !errors.Is(err, fly.ErrConflict) {
		return lease, err
	}
	held, readErr := a.readLease(ctx, m)
	switch {
	case readErr != nil:
		return fly.Lease{}, fmt.Errorf("machine %s of %s is leased by somebody else: %w", m.Machine, m.Target, err)
	case held.Description == holder:
		return a.Fly.Lease(ctx, m.FlyApp, m.Machine, held.Nonce, ttl)
	}
	if lease, ok, err := a.takeOver(ctx, holder, m, held, ttl); ok {
		return lease, err
	}
	return fly.Lease{}, fmt.Errorf("machine %s of %s is leased by %s: is a flyctl deploy under way?", m.Machine, m.Target, holderOf(held))
}

func (a *Activities) readLease(ctx context.Context, m Leased) (fly.Lease, error) {
	return retryRead(ctx, func() (fly.Lease, error) { return a.Fly.ReadLease(ctx, m.FlyApp, m.Machine) })
}

// holderOf is who has a lease, for people.
func holderOf(l fly.Lease) string {
	who := l.Owner
	if l.Description != "" {
		who += " (" + l.Description + ")"
	}
	return fmt.Sprintf("%s until %s", who, l.Expires.UTC().Format("15:04:05 UTC"))
}

// giveBack releases leases, also when ctx has ended: those without a nonce if
// they are holder's. One that can't be released runs out by itself.
func (a *Activities) giveBack(ctx context.Context, holder string, held []Leased) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(leasesAtOnce)
	for _, m := range held {
		g.Go(func() error {
			if m.Nonce == "" {
				lease, err := a.readLease(ctx, m)
				switch {
				case errors.Is(err, fly.ErrNotFound) || err == nil && lease.Description != holder:
					return nil
				case err != nil:
					return err
				}
				m.Nonce = lease.Nonce
			}
			_, err := paced(ctx, func() (struct{}, error) {
				return struct{}{}, a.Fly.ReleaseLease(ctx, m.FlyApp, m.Machine, m.Nonce)
			})
			if err != nil && !errors.Is(err, fly.ErrNotFound) && !errors.Is(err, fly.ErrConflict) {
				return err
			}
			return nil
		})
	}
	return g.Wait()
}

// lastKept is when leases were refreshed last: what another attempt has to know.
type lastKept struct{ unix atomic.Int64 }

func (l *lastKept) MarshalJSON() ([]byte, error) { return json.Marshal(l.unix.Load()) }

// KeepLeases refreshes the leases until it is canceled. It ends with
// KindConflict when one is lost: taken away by somebody, or, after it had run
// out while no worker was up, taken by somebody else. Leases that ran out and
// that nobody else took are taken again: and given back, if the rollout had come
// to its end meanwhile.
func (a *Activities) KeepLeases(ctx context.Context, in LeaseInput) error {
	ctx, over := a.keepers.begin(ctx, in.Holder)
	defer over()
	err := a.keepLeases(ctx, in)
	if a.isUnneeded(ctx) {
		return nil // not an error in anybody's log: it is how each rollout ends
	}
	return err
}

// isUnneeded reports whether the leases are not to be kept any more: the rollout
// was closed, has canceled this, or has ended.
func (a *Activities) isUnneeded(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errClosed) || aborted(ctx) || a.isOver(ctx)
}

func (a *Activities) keepLeases(ctx context.Context, in LeaseInput) error {
	given := map[string]string{} // nonces, by machine
	for _, m := range in.Machines {
		given[m.Machine] = m.Nonce
	}
	defer func() {
		if !a.isUnneeded(ctx) {
			return
		}
		taken := slices.DeleteFunc(slices.Clone(in.Machines), func(m Leased) bool { return given[m.Machine] == m.Nonce })
		if lost := a.giveBack(ctx, in.Holder, taken); lost != nil {
			activity.GetLogger(ctx).Warn("leases not given back", "error", lost)
		}
	}()
	last := new(lastKept)
	last.unix.Store(activity.GetInfo(ctx).ScheduledTime.Unix())
	if unix := int64(0); activity.HasHeartbeatDetails(ctx) && activity.GetHeartbeatDetails(ctx, &unix) == nil {
		last.unix.Store(unix)
	}
	for {
		if err := pause(ctx, time.Until(time.Unix(last.unix.Load(), 0).Add(leaseEvery))); err != nil {
			return err
		}
		// One heartbeat for each refresh: a rollout may be held for days, and it may
		// have been closed by another worker since the last one.
		if activity.RecordHeartbeat(ctx, last); ctx.Err() != nil {
			return context.Cause(ctx)
		}
		begun := time.Now()
		lapsed := begun.Sub(time.Unix(last.unix.Load(), 0)) >= leaseTTL
		stop := beatWith(ctx, func() []any { return []any{last} })
		kept, err := a.refresh(ctx, in, lapsed)
		stop()
		if in.Machines = kept; err == nil {
			last.unix.Store(begun.Unix())
			continue
		}
		if refusal := classify(ctx, err); isFinal(refusal) || ctx.Err() != nil {
			return refusal
		}
		activity.GetLogger(ctx).Warn("leases not refreshed", "error", err)
		if err := pause(ctx, 15*time.Second); err != nil {
			return err
		}
	}
}

// isOver says whether ctx ended because Temporal knows nothing of this attempt any
// more, and its workflow has ended. Else another attempt goes on.
func (a *Activities) isOver(ctx context.Context) bool {
	if unknown := new(serviceerror.NotFound); !errors.As(context.Cause(ctx), &unknown) {
		return false
	}
	run := activity.GetInfo(ctx).WorkflowExecution
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	d, err := a.temporal(ctx).DescribeWorkflow(ctx, run.ID, run.RunID)
	return err == nil && d.WorkflowExecutionMetadata.WorkflowCloseTime != nil
}

// refresh makes every lease last longer, and returns those that are still
// needed.
func (a *Activities) refresh(ctx context.Context, in LeaseInput, lapsed bool) ([]Leased, error) {
	kept := append([]Leased(nil), in.Machines...)
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(leasesAtOnce)
	for i := range kept {
		g.Go(func() error {
			m := &kept[i]
			lease, err := a.Fly.Lease(all, m.FlyApp, m.Machine, m.Nonce, leaseTTL)
			if errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrConflict) {
				lease, err = a.again(all, in.Holder, *m, lapsed, err)
			}
			if err == nil {
				m.Nonce = lease.Nonce // "" where there is no machine any more
			}
			return err
		})
	}
	err := g.Wait()
	var left []Leased
	for _, m := range kept {
		if m.Nonce != "" {
			left = append(left, m)
		}
	}
	return left, err
}

// again is what can be done about a lease that is no longer ours.
func (a *Activities) again(ctx context.Context, holder string, m Leased, lapsed bool, lost error) (fly.Lease, error) {
	now, err := readMachine(ctx, a.Fly, m.FlyApp, m.Machine, "")
	if errors.Is(err, fly.ErrNotFound) || err == nil && now.State == "destroyed" {
		return fly.Lease{}, nil
	}
	if err != nil {
		return fly.Lease{}, err
	}
	held, err := a.readLease(ctx, m)
	step := release.Step{Target: m.Target, Machine: m.Machine}
	switch {
	case err == nil && held.Description == holder:
		return held, nil
	case err == nil:
		return fly.Lease{}, conflict(step, "lost its lease to %s: is a flyctl deploy under way?", holderOf(held))
	case !errors.Is(err, fly.ErrNotFound):
		return fly.Lease{}, err
	case lapsed:
		return a.lease(ctx, holder, m, leaseTTL)
	}
	return fly.Lease{}, conflict(step, "lost its lease: somebody cleared it (%s)", lost)
}
