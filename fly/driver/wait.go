package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// stableWait is how long a machine may stay in a transitional state. After that it is
// stuck, and the change may help.
const stableWait = 90 * time.Second

// waitStable waits until m is in no transitional state, because the state decides
// whether the update starts m. It does not wait for a machine that restarts: that
// machine should run, and a rollback must not wait for the end of a crash loop.
func (r *stepRun) waitStable(ctx context.Context, m fly.Machine) (fly.Machine, error) {
	for begun := time.Now(); isUndecided(r.Step, m.State) && time.Since(begun) < stableWait; {
		if err := sleep.For(ctx, r.poll()); err != nil {
			return m, err
		}
		reportWaiting(ctx, m.ID, fmt.Sprintf("machine %s of %s is %s", m.ID, r.Step.Target, m.State))
		next, err := r.Fly.Machine(ctx, r.Step.FlyApp, m.ID)
		if err != nil && !isTransient(err) {
			return m, err
		}
		if err == nil && !next.IsOlder(m.InstanceID) {
			m = next
		}
	}
	return m, nil
}

// isUndecided reports whether a step must wait while its machine is in that state. A
// restore does not wait for a machine that is about to run, because the baseline
// decides whether it should.
func isUndecided(s release.Step, state string) bool {
	aboutToRun := slices.Contains([]string{"creating", "starting", "updating", "replacing"}, state)
	return isTransitional(state) && state != "restarting" && !(s.Verbatim && aboutToRun)
}

// hostWait is how long one attempt of a step waits for an unreachable host.
const hostWait = time.Minute

// waitReadable waits until Fly returns the whole config of m. For a machine on an
// unreachable host it returns only a part, which does not show whether the machine was
// changed.
func (r *stepRun) waitReadable(ctx context.Context, m fly.Machine) (fly.Machine, error) {
	for begun := time.Now(); len(m.Config) == 0 && isHostAway(m); {
		if time.Since(begun) > hostWait {
			return m, fmt.Errorf("machine %s of %s: its host is %s", m.ID, r.Step.Target, m.HostStatus)
		}
		if err := sleep.For(ctx, r.poll()); err != nil {
			return m, err
		}
		next, err := readMachine(ctx, r.Fly, r.Step.FlyApp, m.ID, m.InstanceID)
		if err != nil {
			return m, err
		}
		m = next
	}
	return m, nil
}

// waitUntil reads a machine until is returns true. A machine that Fly does not find
// counts as destroyed.
func (r *stepRun) waitUntil(ctx context.Context, id string, is func(fly.Machine) bool) error {
	for begun := time.Now(); ; {
		m, err := r.Fly.Machine(ctx, r.Step.FlyApp, id)
		if errors.Is(err, fly.ErrNotFound) {
			m, err = fly.Machine{State: "destroyed"}, nil
		}
		switch {
		case err == nil && is(m):
			return nil
		case err == nil && m.State == "destroyed":
			return conflictError(r.Step, "was destroyed by another client")
		case err != nil && !isTransient(err):
			return err
		}
		if err := sleep.For(ctx, r.pollInterval(time.Since(begun))); err != nil {
			return err
		}
	}
}

// waitAtFly waits until Fly reports that m is in that state, or for startWait. The
// caller reads the machine afterwards.
func (r *stepRun) waitAtFly(ctx context.Context, m fly.Machine, state string) {
	if !isHostAway(m) {
		_ = r.Fly.Wait(ctx, r.Step.FlyApp, m.ID, fly.Wait{State: state, Version: m.InstanceID, Timeout: startWait})
	}
}
