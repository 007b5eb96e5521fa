package activities

import (
	"cmp"
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

// StepInput is one step and what goes with it.
type StepInput struct {
	Step    release.Step      `json:"step"`
	Stamp   map[string]string `json:"stamp,omitempty"`   // metadata that says by which release
	Holder  string            `json:"holder,omitempty"`  // what the rollout's leases say of it
	Nonce   string            `json:"nonce,omitempty"`   // of the lease on the machine; "": it has none
	Secrets uint64            `json:"secrets,omitempty"` // version of the secrets that the machine must see
	Again   int               `json:"again,omitempty"`   // how often a person said to retry
	ID      string            `json:"id,omitempty"`      // of a machine that the step names by its planned name, once it is made
}

// A StepResult is the machine as the step left it, without its config, and what
// a release command said.
type StepResult struct {
	release.Machine
	Ran *release.CommandResult `json:"ran,omitempty"`
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
func (a *Activities) ApplyStep(ctx context.Context, in StepInput) (StepResult, error) {
	ctx, stop := beatWaiting(ctx)
	defer stop()
	if in.Step.Verb == release.Run {
		ran, err := a.run(ctx, in)
		ran.Config = nil
		return ran, classify(ctx, err)
	}
	m, err := a.applyStep(ctx, in)
	m.Config = nil
	return StepResult{Machine: m}, classify(ctx, err)
}

func (a *Activities) applyStep(ctx context.Context, in StepInput) (release.Machine, error) {
	s := in.Step
	switch s.Verb {
	case release.Create:
		return a.create(ctx, in)
	case release.Destroy:
		return release.Machine{}, a.destroy(ctx, in)
	}
	m, err := a.find(ctx, in)
	if err != nil {
		return release.Machine{}, err
	}
	switch s.Verb {
	case release.Update:
		return a.update(ctx, in, m)
	case release.Start:
		return a.start(ctx, in, m)
	case release.Stop:
		return a.stop(ctx, in, m)
	case release.Cordon, release.Uncordon:
		return a.cordon(ctx, in, m)
	}
	return release.Machine{}, refused(release.KindRefused, fmt.Errorf("%s: no such step", s))
}

// update gives m another config, once: a compare-and-set under a lease.
func (a *Activities) update(ctx context.Context, in StepInput, m fly.Machine) (release.Machine, error) {
	s, want := in.Step, in.Step.After
	if !s.Exact {
		want = stamped(want, in.Stamp)
	}
	m, err := a.settled(ctx, s, m)
	if err == nil {
		m, err = a.reached(ctx, s, m)
	}
	if err != nil {
		return release.Machine{}, err
	}
	done := isOn(m, s, want) // by an earlier attempt
	runs := launches(m, done)
	if s.Exact {
		runs = !s.Idle // a restore knows how it was; a machine that crashes is found in any state
	}
	if done && runs && Seen(m).Rests() {
		if err := a.wake(ctx, in, m); err != nil {
			return release.Machine{}, err
		}
	}
	if !done {
		if s.Version != "" && m.InstanceID != s.Version {
			return release.Machine{}, conflict(s, "was changed by somebody else: it is at version %s, the plan was made for %s", m.InstanceID, s.Version)
		}
		m, err = a.change(ctx, in, m, func(nonce string) (fly.Machine, error) {
			return a.Fly.Update(ctx, s.FlyApp, m.ID, fly.Update{
				Config: want, CurrentVersion: m.InstanceID, SkipLaunch: !runs, MinSecretsVersion: in.Secrets, Nonce: nonce,
			})
		})
		if err != nil {
			return release.Machine{}, crowded(ctx, s, err, hostMakesRoom, release.KindNoRoom)
		}
	}
	return a.confirm(ctx, waiting{in: in, want: want, id: m.ID, version: m.InstanceID, runs: runs}, m)
}

// launches says whether an update starts m. Once it is updated, its state no
// longer tells how it was found: it may have ended meanwhile, or somebody has
// stopped it. What was launched then is to run.
func launches(m fly.Machine, updated bool) bool {
	return Seen(m).Launches() || updated && m.Launched()
}

// wake starts a machine that Fly's proxy has stopped, as the proxy would for
// anybody who asks for it: nobody has seen yet whether it is well.
func (a *Activities) wake(ctx context.Context, in StepInput, m fly.Machine) error {
	_, err := a.change(ctx, in, m, func(nonce string) (fly.Machine, error) {
		return m, a.Fly.Start(ctx, in.Step.FlyApp, m.ID, nonce)
	})
	return err
}

// create makes a machine under the name that the plan chose, once: a machine of
// that name with that config is the one that an earlier attempt made.
func (a *Activities) create(ctx context.Context, in StepInput) (release.Machine, error) {
	s, want := in.Step, in.Step.After
	if s.StandbyFor != "" {
		primary, err := a.byName(ctx, s.FlyApp, s.StandbyFor)
		if err != nil {
			return release.Machine{}, err
		}
		want = standby(want, primary.ID)
	}
	if !s.Exact {
		stamp := maps.Clone(in.Stamp)
		if stamp == nil {
			stamp = map[string]string{}
		}
		stamp[release.MetaMachine] = s.Machine
		want = stamped(want, stamp)
	}
	find := func(ctx context.Context) (fly.Machine, error) { return a.byName(ctx, s.FlyApp, s.Machine) }
	m, err := fly.Machine{}, fly.ErrNotFound
	if activity.GetInfo(ctx).Attempt > 1 || in.Again > 0 { // else the plan has looked: there is none of that name
		m, err = a.findCreated(ctx, s, find)
	}
	if err == nil {
		want = mounting(want, volumeOf(m.Config))
	}
	if errors.Is(err, fly.ErrNotFound) {
		if want, err = a.withVolume(ctx, s, want); err != nil {
			return release.Machine{}, err
		}
		m, err = paced(ctx, func() (fly.Machine, error) {
			return a.Fly.Create(ctx, s.FlyApp, fly.Create{
				Name: s.Machine, Region: s.Region, Config: want, SkipLaunch: s.Idle, SkipServiceRegistration: s.Hidden, MinSecretsVersion: in.Secrets,
			})
		})
		if errors.Is(err, fly.ErrUnknownOutcome) {
			a.appear(ctx, mayAppear, find)
		}
	}
	if errors.Is(err, fly.ErrNameTaken) {
		if m, err = a.findCreated(ctx, s, find); errors.Is(err, fly.ErrNotFound) {
			err = fmt.Errorf("create %s of %s: its name was taken a moment ago, and is free now", s.Machine, s.Target)
		}
		want = mounting(want, volumeOf(m.Config))
	}
	if err != nil {
		return release.Machine{}, crowded(ctx, s, err, time.Duration(s.Wait), release.KindFailure)
	}
	if !isOn(m, s, want) {
		return release.Machine{}, conflict(s, "exists already, with another config")
	}
	after, err := a.confirm(ctx, waiting{in: in, want: want, id: m.ID, version: m.InstanceID, runs: !s.Idle}, m)
	a.appear(ctx, mustAppear, find)
	return after, err
}

// findCreated looks for the machine that a step would create, and waits until Fly
// tells the whole of it. One that goes has to be gone: ErrNotFound.
func (a *Activities) findCreated(ctx context.Context, s release.Step, find func(context.Context) (fly.Machine, error)) (fly.Machine, error) {
	m, err := a.recognise(ctx, find)
	if err == nil && m.State == "destroying" {
		if err = a.until(ctx, s, m.ID, func(m fly.Machine) bool { return m.State == "destroyed" }); err == nil {
			err = fly.ErrNotFound
		}
	}
	if err != nil {
		return m, err
	}
	return a.reached(ctx, s, m)
}

// hostMakesRoom is how long a host that has no room for a machine's new version
// is asked again. Another machine elsewhere may take its place then.
const hostMakesRoom = 20 * time.Second

// crowded is err, unless Fly has had no room for what s does for too long by now:
// then time will not cure it. The way back has nowhere else to go, and goes on.
func crowded(ctx context.Context, s release.Step, err error, patience time.Duration, kind string) error {
	if !errors.Is(err, fly.ErrNoCapacity) || s.Exact || time.Since(activity.GetInfo(ctx).ScheduledTime) < patience {
		return err
	}
	f := release.Failure{Target: s.Target, Machine: s.Machine, Group: s.Group, Reason: "could not be given room", Output: err.Error()}
	return refused(kind, f, f)
}

// confirm waits until a changed machine is what it should be, and then runs the
// machine checks beside it.
func (a *Activities) confirm(ctx context.Context, w waiting, m fly.Machine) (release.Machine, error) {
	after, err := a.await(ctx, w)
	if err == nil && w.runs {
		err = a.check(ctx, w.in, m)
	}
	return after, err
}

// How long appear waits for a machine that a create may have made, and for one that it
// has made.
const (
	mayAppear  = 2 * time.Second
	mustAppear = 5 * time.Second
)

// appear waits, at most so long, until Fly lists what a create has made, or may have
// made, when nobody will try again: the way back begins, and must see it.
func (a *Activities) appear(ctx context.Context, long time.Duration, find func(context.Context) (fly.Machine, error)) {
	if ctx.Err() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), long)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := find(ctx); err == nil || pause(ctx, a.poll()/4) != nil {
			return
		}
	}
}

// recognise looks for the machine that a step would create. An attempt after
// the first looks for a while before it believes that there is none: a create
// whose answer was lost may not be visible yet.
func (a *Activities) recognise(ctx context.Context, find func(context.Context) (fly.Machine, error)) (fly.Machine, error) {
	looks := 1
	if activity.GetInfo(ctx).Attempt > 1 {
		looks = 4
	}
	for {
		m, err := find(ctx)
		if looks--; !errors.Is(err, fly.ErrNotFound) || looks == 0 {
			return m, err
		}
		if err := pause(ctx, a.poll()); err != nil {
			return fly.Machine{}, err
		}
	}
}

func (a *Activities) destroy(ctx context.Context, in StepInput) error {
	s := in.Step
	m, err := a.find(ctx, in)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Version != "" && m.InstanceID != s.Version {
		return conflict(s, "was changed by somebody else: it is at version %s, the plan was made for %s", m.InstanceID, s.Version)
	}
	// What can't be reached can't be stopped, but Fly can forget it.
	if seen := Seen(m); seen.Running() && seen.Host == "" {
		if _, err := a.stop(ctx, in, m); err != nil {
			return err
		}
	}
	_, err = a.change(ctx, in, m, func(nonce string) (fly.Machine, error) {
		return m, a.remove(ctx, s.FlyApp, m.ID, nonce)
	})
	if err != nil && !errors.Is(err, fly.ErrNotFound) {
		return err
	}
	a.waitFor(ctx, s, m, "destroyed")
	return a.until(ctx, s, m.ID, func(m fly.Machine) bool { return m.State == "destroyed" })
}

// waitFor lets Fly say when m is in that state, for a while. It judges nothing:
// whatever happened is seen by looking.
func (a *Activities) waitFor(ctx context.Context, s release.Step, m fly.Machine, state string) {
	if Seen(m).Host == "" {
		_ = a.Fly.Wait(ctx, s.FlyApp, m.ID, fly.Wait{State: state, Version: m.InstanceID, Timeout: startsWithin})
	}
}

// remove has Fly destroy a machine. That Fly knows of none is believed only when
// it doesn't show it, either.
func (a *Activities) remove(ctx context.Context, app, id, nonce string) error {
	err := a.Fly.Destroy(ctx, app, id, nonce)
	if !errors.Is(err, fly.ErrNotFound) {
		return err
	}
	m, readErr := retryRead(ctx, func() (fly.Machine, error) { return a.Fly.Machine(ctx, app, id) })
	switch {
	case errors.Is(readErr, fly.ErrNotFound), readErr == nil && (m.State == "destroying" || m.State == "destroyed"):
		return nil
	case readErr != nil:
		return readErr
	}
	return fmt.Errorf("machine %s of %s is %s, and could not be destroyed: %s", id, app, m.State, err)
}

func (a *Activities) start(ctx context.Context, in StepInput, m fly.Machine) (release.Machine, error) {
	s := in.Step
	m, err := a.settled(ctx, s, m)
	if err != nil {
		return release.Machine{}, err
	}
	if m.State != "started" {
		if _, err := a.change(ctx, in, m, func(nonce string) (fly.Machine, error) {
			return m, a.Fly.Start(ctx, s.FlyApp, m.ID, nonce)
		}); err != nil {
			return release.Machine{}, err
		}
	}
	return a.await(ctx, waiting{in: in, want: m.Config, id: m.ID, version: m.InstanceID, runs: true})
}

func (a *Activities) stop(ctx context.Context, in StepInput, m fly.Machine) (release.Machine, error) {
	s := in.Step
	if (release.Machine{State: m.State}).Running() {
		if _, err := a.change(ctx, in, m, func(nonce string) (fly.Machine, error) {
			return m, a.Fly.Stop(ctx, s.FlyApp, m.ID, nonce)
		}); err != nil {
			return release.Machine{}, err
		}
	}
	a.waitFor(ctx, s, m, "stopped")
	err := a.until(ctx, s, m.ID, func(m fly.Machine) bool {
		return slices.Contains([]string{"stopped", "suspended", "destroyed", "failed", "created"}, m.State)
	})
	m.State = "stopped"
	return Seen(m), err
}

func (a *Activities) cordon(ctx context.Context, in StepInput, m fly.Machine) (release.Machine, error) {
	s := in.Step
	wanted, do := s.Verb == release.Cordon, a.Fly.Uncordon
	if wanted {
		do = a.Fly.Cordon
	}
	if m.Cordoned != wanted {
		if _, err := a.change(ctx, in, m, func(nonce string) (fly.Machine, error) {
			return m, do(ctx, s.FlyApp, m.ID, nonce)
		}); err != nil {
			return release.Machine{}, err
		}
	}
	err := a.until(ctx, s, m.ID, func(m fly.Machine) bool { return m.Cordoned == wanted })
	m.Cordoned = wanted
	return Seen(m), err
}

// change makes one change of m under the rollout's lease on it. Where it has
// none, because the rollout created the machine or has lost its leases, it takes
// one for the change: nobody else's comes between. A machine that changed since
// it was read is a conflict: the next attempt would find out whether that was an
// earlier one of ours.
func (a *Activities) change(ctx context.Context, in StepInput, m fly.Machine, do func(nonce string) (fly.Machine, error)) (fly.Machine, error) {
	s := in.Step
	send := do
	do = func(nonce string) (fly.Machine, error) {
		return paced(ctx, func() (fly.Machine, error) { return send(nonce) })
	}
	if in.Nonce != "" {
		after, err := do(in.Nonce)
		if !errors.Is(err, fly.ErrConflict) {
			return after, err
		}
		held, readErr := a.Fly.ReadLease(ctx, s.FlyApp, m.ID)
		switch {
		case readErr == nil && held.Description == in.Holder:
			return do(held.Nonce) // it ran out and was taken again meanwhile
		case readErr == nil:
			return fly.Machine{}, conflict(s, "is leased by %s: is a flyctl deploy under way?", holderOf(held))
		case !errors.Is(readErr, fly.ErrNotFound):
			return fly.Machine{}, readErr
		}
	}
	own := Leased{Target: s.Target, FlyApp: s.FlyApp, Machine: m.ID}
	lease, err := a.lease(ctx, in.Holder, own, changeTTL)
	if err != nil {
		return fly.Machine{}, err
	}
	own.Nonce = lease.Nonce
	after, err := do(own.Nonce)
	if lost := a.giveBack(ctx, in.Holder, []Leased{own}); lost != nil {
		activity.GetLogger(ctx).Warn("lease not given back", "target", s.Target.String(), "machine", m.ID, "error", lost)
	}
	return after, err
}

// find returns the machine of a step. It fails with a conflict if the machine is
// gone and the step does not destroy it.
func (a *Activities) find(ctx context.Context, in StepInput) (fly.Machine, error) {
	m, err := a.locate(ctx, in)
	if isGone(err) && in.Step.Verb != release.Destroy {
		return m, conflict(in.Step, "does not exist any more")
	}
	return m, err
}

// locate reads the machine of a step: by ID, or by the name that the plan chose.
// isGone tells the error of a machine that does not exist, or no longer.
func (a *Activities) locate(ctx context.Context, in StepInput) (fly.Machine, error) {
	s := in.Step
	m, err := readMachine(ctx, a.Fly, s.FlyApp, cmp.Or(in.ID, s.Machine), s.Version)
	if errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrInvalid) {
		m, err = a.byName(ctx, s.FlyApp, s.Machine)
	}
	if err == nil && (m.State == "destroyed" || m.State == "destroying" && s.Verb != release.Destroy) {
		err = errGone
	}
	return m, err
}

var errGone = errors.New("the machine is destroyed")

func isGone(err error) bool { return errors.Is(err, errGone) || errors.Is(err, fly.ErrNotFound) }

func (a *Activities) byName(ctx context.Context, app, name string) (fly.Machine, error) {
	machines, err := retryRead(ctx, func() ([]fly.Machine, error) { return a.Fly.Machines(ctx, app) })
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
