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

// A Change is one step with the facts that it needs.
type Change struct {
	Step    release.Step
	Stamp   map[string]string // metadata that names the release
	Holder  string            // description of the rollout's leases
	Nonce   string            // of the lease on the machine; "": it has none
	Secrets uint64            // version of the secrets that the machine must see
	Retries int               // how often an operator chose to retry the step
	ID      string            // of the machine that the step names by its planned name, once it exists
	Written string            // version that the rollout gave the machine last: an older reading is stale
}

// A Result is the machine after a step, and the result of a release command.
type Result struct {
	Machine release.Machine
	Command *release.CommandResult
}

// Apply executes one step on one machine and waits until the machine is in the state
// that the step wants: started and healthy if it should run. It returns the machine in
// that state. It is safe to call again: a change of an earlier attempt whose response
// was lost is recognized and not repeated.
//
// It returns an *Error with KindConflict if another client changed the machine,
// KindFailure with the evidence if the machine does not become healthy, KindHostFull if
// its host has no room for another version, or KindPermanent if Fly refuses the step.
func (d *Driver) Apply(ctx context.Context, c Change) (Result, error) {
	r := &stepRun{d, c}
	if c.Step.Verb == release.Run {
		return r.runReleaseCommand(ctx)
	}
	m, err := r.applyVerb(ctx)
	return Result{Machine: m}, err
}

// A stepRun is one attempt of a step.
type stepRun struct {
	*Driver
	Change
}

// applyVerb executes a step that is not a command.
func (r *stepRun) applyVerb(ctx context.Context) (release.Machine, error) {
	switch r.Step.Verb {
	case release.Create:
		return r.create(ctx)
	case release.Destroy:
		return release.Machine{}, r.destroy(ctx)
	}
	m, err := r.findMachine(ctx)
	if err != nil {
		return release.Machine{}, err
	}
	switch r.Step.Verb {
	case release.Update:
		return r.update(ctx, m)
	case release.Start:
		return r.start(ctx, m)
	case release.Stop:
		return r.stop(ctx, m)
	case release.Cordon, release.Uncordon:
		return r.setCordoned(ctx, m)
	}
	return release.Machine{}, &Error{release.KindPermanent, fmt.Errorf("%s: unknown verb", r.Step)}
}

// update gives m another config with a compare-and-set under a lease.
func (r *stepRun) update(ctx context.Context, m fly.Machine) (release.Machine, error) {
	s, want := r.Step, r.Step.After
	if !s.Verbatim {
		want = r.readConfig(addMetadata(want.Doc, r.Stamp))
	}
	m, err := r.waitStable(ctx, m)
	if err == nil {
		m, err = r.waitReadable(ctx, m)
	}
	if err != nil {
		return release.Machine{}, err
	}
	seen := r.describe(m)
	done := isOn(seen, s, want) // an earlier attempt has updated m
	runs := shouldLaunch(m, seen, done) || s.Launch
	if s.Verbatim {
		runs = !s.SkipLaunch // the baseline decides; a crashing machine may be in any state now
	}
	if done && runs && seen.IsAsleep() {
		if err := r.startUnderLease(ctx, m); err != nil {
			return release.Machine{}, err
		}
	}
	if !done {
		if s.Version != "" && m.InstanceID != s.Version {
			return release.Machine{}, versionConflict(s, m)
		}
		m, err = r.changeUnderLease(ctx, m, func(nonce string) (fly.Machine, error) {
			return r.Fly.Update(ctx, s.FlyApp, m.ID, fly.Update{
				Config: want.Doc, CurrentVersion: m.InstanceID, SkipLaunch: !runs, MinSecretsVersion: r.Secrets, Nonce: nonce,
			})
		})
		if err != nil {
			return release.Machine{}, capacityError(ctx, s, err, hostPatience, release.KindHostFull)
		}
	}
	return r.confirmChange(ctx, awaitedMachine{step: s, want: want, id: m.ID, version: m.InstanceID, runs: runs}, m)
}

// shouldLaunch reports whether an update starts m, which is described by seen. After the
// update the state of m no longer shows how it was found: it may have exited since, or
// another client stopped it. If the update launched it, it should run.
func shouldLaunch(m fly.Machine, seen release.Machine, updated bool) bool {
	return seen.StartsOnUpdate() || updated && m.Launched()
}

// versionConflict returns the error of a machine that has another version than the plan
// expects.
func versionConflict(s release.Step, m fly.Machine) error {
	return conflictError(s, "was changed by another client: it is at version %s, the plan was made for %s", m.InstanceID, s.Version)
}

// startUnderLease starts a stopped machine, as Fly's proxy does for a request.
func (r *stepRun) startUnderLease(ctx context.Context, m fly.Machine) error {
	_, err := r.changeUnderLease(ctx, m, func(nonce string) (fly.Machine, error) {
		return m, r.Fly.Start(ctx, r.Step.FlyApp, m.ID, nonce)
	})
	return err
}

// hostPatience is how long an update is retried on a host that has no room for the new
// version. Then a machine on another host may replace it.
const hostPatience = 20 * time.Second

// capacityError returns err, or an *Error of that kind if Fly has had no room for the
// step for longer than patience. A restore is always retried, because it can use no
// other host.
func capacityError(ctx context.Context, s release.Step, err error, patience time.Duration, kind string) error {
	if !errors.Is(err, fly.ErrNoCapacity) || s.Verbatim || time.Since(attemptOf(ctx).Scheduled) < patience {
		return err
	}
	return failureError(kind, release.Failure{Target: s.Target, Machine: s.Machine, Group: s.Group, Reason: "could not be given room", Output: err.Error()})
}

// confirmChange waits until a changed machine is in its wanted state, and then runs its
// machine checks.
func (r *stepRun) confirmChange(ctx context.Context, w awaitedMachine, m fly.Machine) (release.Machine, error) {
	after, err := r.awaitReady(ctx, w)
	if err == nil && w.runs {
		err = r.runMachineChecks(ctx, m)
	}
	return after, err
}

// start starts m and waits until it is healthy.
func (r *stepRun) start(ctx context.Context, m fly.Machine) (release.Machine, error) {
	m, err := r.waitStable(ctx, m)
	if err != nil {
		return release.Machine{}, err
	}
	if m.State != "started" {
		if err := r.startUnderLease(ctx, m); err != nil {
			return release.Machine{}, err
		}
	}
	return r.awaitReady(ctx, awaitedMachine{step: r.Step, want: r.readConfig(m.Config), id: m.ID, version: m.InstanceID, runs: true})
}

// stop stops m and waits until it is stopped.
func (r *stepRun) stop(ctx context.Context, m fly.Machine) (release.Machine, error) {
	if (release.Machine{State: m.State}).IsRunning() {
		if _, err := r.changeUnderLease(ctx, m, func(nonce string) (fly.Machine, error) {
			return m, r.Fly.Stop(ctx, r.Step.FlyApp, m.ID, nonce)
		}); err != nil {
			return release.Machine{}, err
		}
	}
	r.waitAtFly(ctx, m, "stopped")
	err := r.waitUntil(ctx, m.ID, func(m fly.Machine) bool {
		return slices.Contains([]string{"stopped", "suspended", "destroyed", "failed", "created"}, m.State)
	})
	m.State = "stopped"
	return r.describe(m), err
}

// setCordoned cordons or uncordons m and waits until Fly shows that. A restored machine
// that serves again must also be healthy: the machines that served in its place stay
// until then.
func (r *stepRun) setCordoned(ctx context.Context, m fly.Machine) (release.Machine, error) {
	wanted, send := r.Step.Verb == release.Cordon, r.Fly.Uncordon
	if wanted {
		send = r.Fly.Cordon
	}
	if m.Cordoned != wanted {
		if _, err := r.changeUnderLease(ctx, m, func(nonce string) (fly.Machine, error) {
			return m, send(ctx, r.Step.FlyApp, m.ID, nonce)
		}); err != nil {
			return release.Machine{}, err
		}
	}
	err := r.waitUntil(ctx, m.ID, func(m fly.Machine) bool { return m.Cordoned == wanted })
	if err == nil && r.Step.Verb == release.Uncordon && r.Step.Verbatim && !r.Step.SkipHealthCheck {
		return r.awaitReady(ctx, awaitedMachine{step: r.Step, want: r.readConfig(m.Config), id: m.ID, version: m.InstanceID, runs: true})
	}
	m.Cordoned = wanted
	return r.describe(m), err
}

// destroy stops and destroys the machine of the step. It does nothing if the machine is
// gone.
func (r *stepRun) destroy(ctx context.Context) error {
	m, err := r.findMachine(ctx)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.Step.Version != "" && m.InstanceID != r.Step.Version {
		return versionConflict(r.Step, m)
	}
	if seen := r.describe(m); seen.IsRunning() && seen.Host == "" { // Fly destroys a machine on an unreachable host, but cannot stop it
		if _, err := r.stop(ctx, m); err != nil {
			return err
		}
	}
	_, err = r.changeUnderLease(ctx, m, func(nonce string) (fly.Machine, error) {
		return m, destroyMachine(ctx, r.Fly, r.Step.FlyApp, m.ID, nonce)
	})
	if err != nil && !errors.Is(err, fly.ErrNotFound) {
		return err
	}
	r.waitAtFly(ctx, m, "destroyed")
	return r.waitUntil(ctx, m.ID, func(m fly.Machine) bool { return m.State == "destroyed" })
}

// A destroyer destroys and reads machines.
type destroyer interface {
	MachineReader
	Destroy(ctx context.Context, app, id, nonce string) error
}

// destroyMachine destroys a machine. If Fly answers that it does not exist,
// destroyMachine reads the machine to confirm that.
func destroyMachine(ctx context.Context, f destroyer, app, id, nonce string) error {
	err := f.Destroy(ctx, app, id, nonce)
	if !errors.Is(err, fly.ErrNotFound) {
		return err
	}
	m, readErr := RetryRead(ctx, func() (fly.Machine, error) { return f.Machine(ctx, app, id) })
	switch {
	case errors.Is(readErr, fly.ErrNotFound), readErr == nil && (m.State == "destroying" || m.State == "destroyed"):
		return nil
	case readErr != nil:
		return readErr
	}
	return fmt.Errorf("machine %s of %s is %s and could not be destroyed: %s", id, app, m.State, err)
}

// An awaitedMachine is a changed machine with the state that it should reach.
type awaitedMachine struct {
	step    release.Step
	want    release.Config
	id      string
	version string // instance_id that the change gave it
	runs    bool   // it should be started and healthy; otherwise only its config counts
}
