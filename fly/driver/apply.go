package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A Change is one step and the facts that it needs.
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

// A Result is the machine as a step left it and, of a release command, how it ended.
type Result struct {
	Machine release.Machine
	Command *release.CommandResult
}

// Apply carries out one step on one machine and waits until the machine is as the
// step wants it: started and healthy where it should run. It returns the machine as
// it is then. It is safe to call again: a change that an earlier attempt made, and
// whose answer was lost, is recognized and not made twice.
//
// Errors of a kind: KindConflict if somebody else changed the machine, KindFailure
// with the evidence if it does not become healthy, KindNoRoom if its host has no
// room for another version of it, KindRefused if Fly refuses the step.
func (d *Driver) Apply(ctx context.Context, c Change) (Result, error) {
	r := &stepRun{d, c}
	if c.Step.Verb == release.Run {
		return r.runReleaseCommand(ctx)
	}
	m, err := r.apply(ctx)
	return Result{Machine: m}, err
}

// A stepRun is one attempt of a step.
type stepRun struct {
	*Driver
	Change
}

func (r *stepRun) apply(ctx context.Context) (release.Machine, error) {
	switch r.Step.Verb {
	case release.Create:
		return r.create(ctx)
	case release.Destroy:
		return release.Machine{}, r.destroy(ctx)
	}
	m, err := r.find(ctx)
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
		return r.cordon(ctx, m)
	}
	return release.Machine{}, &Error{release.KindRefused, fmt.Errorf("%s: no such step", r.Step)}
}

// update gives m another config, once: a compare-and-set under a lease.
func (r *stepRun) update(ctx context.Context, m fly.Machine) (release.Machine, error) {
	s, want := r.Step, r.Step.After
	if !s.Exact {
		want = addMetadata(want, r.Stamp)
	}
	m, err := r.waitStable(ctx, m)
	if err == nil {
		m, err = r.waitReadable(ctx, m)
	}
	if err != nil {
		return release.Machine{}, err
	}
	done := isOn(m, s, want) // by an earlier attempt
	runs := launches(m, done) || s.Launch
	if s.Exact {
		runs = !s.Idle // the baseline says whether it ran; a crashing machine may be in any state now
	}
	if done && runs && Describe(m).Rests() {
		if err := r.wake(ctx, m); err != nil {
			return release.Machine{}, err
		}
	}
	if !done {
		if s.Version != "" && m.InstanceID != s.Version {
			return release.Machine{}, versionConflict(s, m)
		}
		m, err = r.changeUnderLease(ctx, m, func(nonce string) (fly.Machine, error) {
			return r.Fly.Update(ctx, s.FlyApp, m.ID, fly.Update{
				Config: want, CurrentVersion: m.InstanceID, SkipLaunch: !runs, MinSecretsVersion: r.Secrets, Nonce: nonce,
			})
		})
		if err != nil {
			return release.Machine{}, capacityError(ctx, s, err, hostPatience, release.KindNoRoom)
		}
	}
	return r.confirm(ctx, awaited{step: s, want: want, id: m.ID, version: m.InstanceID, runs: runs}, m)
}

// launches reports whether an update starts m. Once m is updated, its state no longer
// shows how it was found: it may have ended since, or somebody has stopped it. A
// machine that was launched then should run.
func launches(m fly.Machine, updated bool) bool {
	return Describe(m).Launches() || updated && m.Launched()
}

// versionConflict returns the error of a machine that is not at the version that the
// plan was made for.
func versionConflict(s release.Step, m fly.Machine) error {
	return conflict(s, "was changed by somebody else: it is at version %s, the plan was made for %s", m.InstanceID, s.Version)
}

// wake starts a machine that Fly's proxy has stopped, as the proxy would for a
// request: it was not found healthy yet.
func (r *stepRun) wake(ctx context.Context, m fly.Machine) error {
	_, err := r.changeUnderLease(ctx, m, func(nonce string) (fly.Machine, error) {
		return m, r.Fly.Start(ctx, r.Step.FlyApp, m.ID, nonce)
	})
	return err
}

// hostPatience is how long a host that has no room for a machine's new version is
// asked again. Then another machine may take its place elsewhere.
const hostPatience = 20 * time.Second

// capacityError returns err, or, once Fly has had no room for a step for longer than
// patience, an Error of that kind. A restore is never given up: it can use no other
// host.
func capacityError(ctx context.Context, s release.Step, err error, patience time.Duration, kind string) error {
	if !errors.Is(err, fly.ErrNoCapacity) || s.Exact || time.Since(attemptOf(ctx).Scheduled) < patience {
		return err
	}
	return failure(kind, release.Failure{Target: s.Target, Machine: s.Machine, Group: s.Group, Reason: "could not be given room", Output: err.Error()})
}

// confirm waits until a changed machine is as it should be, and then runs the
// machine checks beside it.
func (r *stepRun) confirm(ctx context.Context, w awaited, m fly.Machine) (release.Machine, error) {
	after, err := r.await(ctx, w)
	if err == nil && w.runs {
		err = r.runMachineChecks(ctx, m)
	}
	return after, err
}

func (r *stepRun) start(ctx context.Context, m fly.Machine) (release.Machine, error) {
	m, err := r.waitStable(ctx, m)
	if err != nil {
		return release.Machine{}, err
	}
	if m.State != "started" {
		if err := r.wake(ctx, m); err != nil {
			return release.Machine{}, err
		}
	}
	return r.await(ctx, awaited{step: r.Step, want: m.Config, id: m.ID, version: m.InstanceID, runs: true})
}

func (r *stepRun) stop(ctx context.Context, m fly.Machine) (release.Machine, error) {
	if (release.Machine{State: m.State}).Running() {
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
	return Describe(m), err
}

func (r *stepRun) cordon(ctx context.Context, m fly.Machine) (release.Machine, error) {
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
	m.Cordoned = wanted
	return Describe(m), err
}

func (r *stepRun) destroy(ctx context.Context) error {
	m, err := r.find(ctx)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.Step.Version != "" && m.InstanceID != r.Step.Version {
		return versionConflict(r.Step, m)
	}
	if seen := Describe(m); seen.Running() && seen.Host == "" { // Fly destroys a machine on an unreachable host, but cannot stop it
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

// A destroyer destroys machines and reads what is left of them.
type destroyer interface {
	MachineReader
	Destroy(ctx context.Context, app, id, nonce string) error
}

// destroyMachine destroys a machine. That Fly does not find it is believed only if
// Fly does not show it either.
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
	return fmt.Errorf("machine %s of %s is %s, and could not be destroyed: %s", id, app, m.State, err)
}

// awaited is a machine that was changed, and what it should become.
type awaited struct {
	step    release.Step
	want    json.RawMessage
	id      string
	version string // instance_id that the change gave it
	runs    bool   // it should be started and healthy; else only on its config
}
