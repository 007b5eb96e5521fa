package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// stableWait is how long a machine is given to leave a transitional state. One that
// does not is stuck, and a change may be what it needs.
const stableWait = 90 * time.Second

// waitStable waits until m is in no transitional state: a decision made in one is how
// machines are left stopped. A machine that restarts should run in any case, and a
// rollback must not wait for a crash loop to end.
func (r *stepRun) waitStable(ctx context.Context, m fly.Machine) (fly.Machine, error) {
	for begun := time.Now(); isUndecided(r.Step, m.State) && time.Since(begun) < stableWait; {
		if err := sleep(ctx, r.poll()); err != nil {
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
// restore does not wait for a machine that is about to run, as a rollout that was cut
// off leaves it: the baseline says whether it should run.
func isUndecided(s release.Step, state string) bool {
	aboutToRun := slices.Contains([]string{"creating", "starting", "updating", "replacing"}, state)
	return isTransitional(state) && state != "restarting" && !(s.Exact && aboutToRun)
}

// hostWait is how long one attempt of a step waits for a host that cannot be reached.
const hostWait = time.Minute

// waitReadable waits until Fly shows the whole of m. Of a machine whose host cannot be
// reached it shows only a part, which does not tell whether the machine was changed.
func (r *stepRun) waitReadable(ctx context.Context, m fly.Machine) (fly.Machine, error) {
	for begun := time.Now(); len(m.Config) == 0 && isHostAway(m); {
		if time.Since(begun) > hostWait {
			return m, fmt.Errorf("machine %s of %s: its host is %s", m.ID, r.Step.Target, m.HostStatus)
		}
		if err := sleep(ctx, r.poll()); err != nil {
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
			return conflict(r.Step, "was destroyed by somebody else")
		case err != nil && !isTransient(err):
			return err
		}
		if err := sleep(ctx, r.pollInterval(time.Since(begun))); err != nil {
			return err
		}
	}
}

// waitAtFly waits for a while until Fly reports that m is in that state. It judges
// nothing: what happened is read afterwards.
func (r *stepRun) waitAtFly(ctx context.Context, m fly.Machine, state string) {
	if !isHostAway(m) {
		_ = r.Fly.Wait(ctx, r.Step.FlyApp, m.ID, fly.Wait{State: state, Version: m.InstanceID, Timeout: startWait})
	}
}
