package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// leaseTTL outlives one change of one machine, and no more: after a crash it is
// what the next attempt has to wait for.
const leaseTTL = 10 * time.Second

// StepInput is one step and the metadata that says by which release.
type StepInput struct {
	Step  release.Step      `json:"step"`
	Stamp map[string]string `json:"stamp,omitempty"`
}

// ApplyStep carries one step out on one machine and waits until the machine is
// what the step wants it to be: started and healthy where it should run. It
// returns the machine as it is then (without its config). It is safe to call
// again: a change that was made already, by an attempt whose answer was lost,
// is recognised and not made twice.
//
// Errors: KindConflict when somebody else changed the machine, KindFailure with
// the evidence when the machine does not become healthy, KindRefused when Fly
// will not do it.
func (a *Activities) ApplyStep(ctx context.Context, in StepInput) (release.Machine, error) {
	defer beat(ctx)()
	m, err := a.applyStep(ctx, in)
	m.Config = nil
	return m, classify(err)
}

func (a *Activities) applyStep(ctx context.Context, in StepInput) (release.Machine, error) {
	s := in.Step
	switch s.Verb {
	case release.Create:
		return a.create(ctx, s, in.Stamp)
	case release.Destroy:
		return release.Machine{}, a.destroy(ctx, s)
	}
	m, err := a.find(ctx, s)
	if err != nil {
		return release.Machine{}, err
	}
	switch s.Verb {
	case release.Update:
		return a.update(ctx, s, m, in.Stamp)
	case release.Start:
		return a.start(ctx, s, m)
	case release.Stop:
		return a.stop(ctx, s, m)
	case release.Cordon, release.Uncordon:
		return a.cordon(ctx, s, m)
	}
	return release.Machine{}, refused(release.KindRefused, fmt.Errorf("%s: no such step", s))
}

// update gives m another config, once: a compare-and-set under a lease.
func (a *Activities) update(ctx context.Context, s release.Step, m fly.Machine, stamp map[string]string) (release.Machine, error) {
	want := s.After
	if !s.Exact {
		want = stamped(want, stamp)
	}
	m, err := a.settled(ctx, s, m)
	if err != nil {
		return release.Machine{}, err
	}
	runs := release.Machine{State: m.State}.Launches()
	if s.Exact {
		runs = !s.Idle // a restore knows how it was; a machine that crashes is found in any state
	}
	if !isOn(m, s, want) {
		if s.Version != "" && m.InstanceID != s.Version {
			return release.Machine{}, conflict(s, "was changed by somebody else: it is at version %s, the plan was made for %s", m.InstanceID, s.Version)
		}
		m, err = a.change(ctx, s, m, func(nonce string) (fly.Machine, error) {
			return a.Fly.Update(ctx, s.FlyApp, m.ID, fly.Update{Config: want, CurrentVersion: m.InstanceID, SkipLaunch: !runs, Nonce: nonce})
		})
		if err != nil {
			return release.Machine{}, err
		}
	}
	return a.await(ctx, waiting{step: s, want: want, id: m.ID, version: m.InstanceID, runs: runs})
}

// create makes a machine under the name that the plan chose, once: a machine of
// that name with that config is the one that an earlier attempt made.
func (a *Activities) create(ctx context.Context, s release.Step, stamp map[string]string) (release.Machine, error) {
	want := s.After
	if s.StandbyFor != "" {
		primary, err := a.byName(ctx, s.FlyApp, s.StandbyFor)
		if err != nil {
			return release.Machine{}, err
		}
		want = standby(want, primary.ID)
	}
	if !s.Exact {
		stamp = maps.Clone(stamp)
		if stamp == nil {
			stamp = map[string]string{}
		}
		stamp[release.MetaMachine] = s.Machine
		want = stamped(want, stamp)
	}
	m, err := a.recognise(ctx, s)
	if errors.Is(err, fly.ErrNotFound) {
		m, err = a.Fly.Create(ctx, s.FlyApp, fly.Create{
			Name: s.Machine, Region: s.Region, Config: want, SkipLaunch: s.Idle, SkipServiceRegistration: s.Hidden,
		})
	}
	if err != nil {
		return release.Machine{}, err
	}
	if !isOn(m, s, want) {
		return release.Machine{}, conflict(s, "exists already, with another config")
	}
	return a.await(ctx, waiting{step: s, want: want, id: m.ID, version: m.InstanceID, runs: !s.Idle})
}

// recognise looks for the machine that s would create. An attempt after the
// first looks for a while before it believes that there is none: a create whose
// answer was lost may not be visible yet.
func (a *Activities) recognise(ctx context.Context, s release.Step) (fly.Machine, error) {
	looks := 1
	if activity.GetInfo(ctx).Attempt > 1 {
		looks = 4
	}
	for {
		m, err := a.byName(ctx, s.FlyApp, s.Machine)
		if looks--; !errors.Is(err, fly.ErrNotFound) || looks == 0 {
			return m, err
		}
		if err := pause(ctx, a.poll()); err != nil {
			return fly.Machine{}, err
		}
	}
}

func (a *Activities) destroy(ctx context.Context, s release.Step) error {
	m, err := a.find(ctx, s)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Version != "" && m.InstanceID != s.Version {
		return conflict(s, "was changed by somebody else: it is at version %s, the plan was made for %s", m.InstanceID, s.Version)
	}
	if (release.Machine{State: m.State}).Running() {
		if _, err := a.stop(ctx, s, m); err != nil {
			return err
		}
	}
	_, err = a.change(ctx, s, m, func(nonce string) (fly.Machine, error) {
		return m, a.Fly.Destroy(ctx, s.FlyApp, m.ID, nonce)
	})
	if err != nil && !errors.Is(err, fly.ErrNotFound) {
		return err
	}
	return a.until(ctx, s, m.ID, func(m fly.Machine) bool { return m.State == "destroyed" })
}

func (a *Activities) start(ctx context.Context, s release.Step, m fly.Machine) (release.Machine, error) {
	m, err := a.settled(ctx, s, m)
	if err != nil {
		return release.Machine{}, err
	}
	if m.State != "started" {
		if _, err := a.change(ctx, s, m, func(nonce string) (fly.Machine, error) {
			return m, a.Fly.Start(ctx, s.FlyApp, m.ID, nonce)
		}); err != nil {
			return release.Machine{}, err
		}
	}
	return a.await(ctx, waiting{step: s, want: m.Config, id: m.ID, version: m.InstanceID, runs: true})
}

func (a *Activities) stop(ctx context.Context, s release.Step, m fly.Machine) (release.Machine, error) {
	if (release.Machine{State: m.State}).Running() {
		if _, err := a.change(ctx, s, m, func(nonce string) (fly.Machine, error) {
			return m, a.Fly.Stop(ctx, s.FlyApp, m.ID, nonce)
		}); err != nil {
			return release.Machine{}, err
		}
	}
	err := a.until(ctx, s, m.ID, func(m fly.Machine) bool {
		return slices.Contains([]string{"stopped", "suspended", "destroyed", "failed", "created"}, m.State)
	})
	m.State = "stopped"
	return Seen(m), err
}

func (a *Activities) cordon(ctx context.Context, s release.Step, m fly.Machine) (release.Machine, error) {
	wanted, do := s.Verb == release.Cordon, a.Fly.Uncordon
	if wanted {
		do = a.Fly.Cordon
	}
	if m.Cordoned != wanted {
		if _, err := a.change(ctx, s, m, func(nonce string) (fly.Machine, error) {
			return m, do(ctx, s.FlyApp, m.ID, nonce)
		}); err != nil {
			return release.Machine{}, err
		}
	}
	err := a.until(ctx, s, m.ID, func(m fly.Machine) bool { return m.Cordoned == wanted })
	m.Cordoned = wanted
	return Seen(m), err
}

// change makes one change of m under a lease, so that nobody else's comes
// between. A machine that changed since it was read is a conflict: the next
// attempt would find out whether that was an earlier one of ours.
func (a *Activities) change(ctx context.Context, s release.Step, m fly.Machine, do func(nonce string) (fly.Machine, error)) (fly.Machine, error) {
	lease, err := a.Fly.Lease(ctx, s.FlyApp, m.ID, "", leaseTTL)
	if err != nil {
		return fly.Machine{}, err
	}
	after, err := do(lease.Nonce)
	// The lease is given back even when ctx has ended meanwhile; one that
	// cannot be given back runs out by itself.
	giveBack, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if lost := a.Fly.ReleaseLease(giveBack, s.FlyApp, m.ID, lease.Nonce); lost != nil && !errors.Is(lost, fly.ErrNotFound) {
		activity.GetLogger(ctx).Warn("lease not given back", "target", s.Target.String(), "machine", m.ID, "error", lost)
	}
	return after, err
}

// find reads the machine of s: by ID, or by the name that the plan chose.
func (a *Activities) find(ctx context.Context, s release.Step) (fly.Machine, error) {
	m, err := a.Fly.Machine(ctx, s.FlyApp, s.Machine)
	if errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrInvalid) {
		m, err = a.byName(ctx, s.FlyApp, s.Machine)
	}
	if err == nil && m.State == "destroyed" {
		err = errGone
	}
	if isGone(err) && s.Verb != release.Destroy {
		return m, conflict(s, "does not exist any more")
	}
	return m, err
}

var errGone = errors.New("the machine is destroyed")

func isGone(err error) bool { return errors.Is(err, errGone) || errors.Is(err, fly.ErrNotFound) }

func (a *Activities) byName(ctx context.Context, app, name string) (fly.Machine, error) {
	machines, err := a.Fly.Machines(ctx, app)
	if err != nil {
		return fly.Machine{}, err
	}
	for _, m := range machines {
		if m.Name == name {
			return m, nil
		}
	}
	return fly.Machine{}, fmt.Errorf("machine %s of %s: %w", name, app, fly.ErrNotFound)
}

// isOn says whether m is what s makes of it: the config, by the same release,
// and the image.
func isOn(m fly.Machine, s release.Step, want json.RawMessage) bool {
	return release.SameConfig(m.Config, want) && release.SameStamps(m.Config, want) &&
		(s.To == "" || imageOf(m).Digest() == s.To.Digest())
}

// conflict is the error of a machine that is not what the plan was made for. It
// is never overwritten.
func conflict(s release.Step, format string, args ...any) error {
	f := release.Failure{Target: s.Target, Machine: s.Machine, Group: s.Group, Reason: fmt.Sprintf(format, args...)}
	return refused(release.KindConflict, f, f)
}
