package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// Timeouts of waitForCreated for a machine that may have been created, and for one that
// was.
const (
	maybeCreatedWait = 2 * time.Second
	createdWait      = 5 * time.Second
)

// A finder finds a machine by its name, or returns fly.ErrNotFound.
type finder func(ctx context.Context) (fly.Machine, error)

// create creates a machine with the name in the plan, once: an existing machine with
// that name and config is the one of an earlier attempt.
func (r *stepRun) create(ctx context.Context) (release.Machine, error) {
	s := r.Step
	doc, err := r.configToCreate(ctx)
	if err != nil {
		return release.Machine{}, err
	}
	find := func(ctx context.Context) (fly.Machine, error) { return findByName(ctx, r.Fly, s.FlyApp, s.Machine) }
	m, err := fly.Machine{}, fly.ErrNotFound
	if attemptOf(ctx).Number > 1 || r.Retries > 0 { // before the first attempt no machine has that name
		m, err = r.findCreated(ctx, find)
	}
	if err == nil {
		doc = setVolume(doc, volumeOf(m.Config))
	}
	if errors.Is(err, fly.ErrNotFound) {
		if doc, err = r.chooseVolume(ctx, doc); err != nil {
			return release.Machine{}, err
		}
		m, err = r.sendCreate(ctx, doc, find)
	}
	if errors.Is(err, fly.ErrNameTaken) {
		if m, err = r.findCreated(ctx, find); errors.Is(err, fly.ErrNotFound) {
			err = fmt.Errorf("create %s of %s: its name was taken and is free now", s.Machine, s.Target)
		}
		doc = setVolume(doc, volumeOf(m.Config))
	}
	if err != nil {
		return release.Machine{}, capacityError(ctx, s, err, time.Duration(s.Wait), release.KindFailure)
	}
	want := r.readConfig(doc)
	if !isOn(r.describe(m), s, want) {
		return release.Machine{}, conflictError(s, "exists already with another config")
	}
	after, err := r.confirmChange(ctx, awaitedMachine{step: s, want: want, id: m.ID, version: m.InstanceID, runs: !s.SkipLaunch}, m)
	if err != nil {
		r.waitForCreated(ctx, createdWait, find)
	}
	return after, err
}

// configToCreate returns the config of the machine to create, without its volume.
func (r *stepRun) configToCreate(ctx context.Context) (json.RawMessage, error) {
	s, want := r.Step, r.Step.After.Doc
	if s.StandbyFor != "" {
		primary, err := findByName(ctx, r.Fly, s.FlyApp, s.StandbyFor)
		if err != nil {
			return nil, err
		}
		want = setStandby(want, primary.ID)
	}
	if s.Verbatim {
		return want, nil
	}
	return addMetadata(want, stampWithName(r.Stamp, s.Machine)), nil
}

// stampWithName returns stamp with the name of the machine.
func stampWithName(stamp map[string]string, name string) map[string]string {
	stamp = maps.Clone(stamp)
	if stamp == nil {
		stamp = map[string]string{}
	}
	stamp[release.MetaMachine] = name
	return stamp
}

// sendCreate sends the create. If the response is lost and ctx has ended, it waits
// until Fly may list the machine.
func (r *stepRun) sendCreate(ctx context.Context, want json.RawMessage, find finder) (fly.Machine, error) {
	s := r.Step
	m, err := retryLimited(ctx, func() (fly.Machine, error) {
		return r.Fly.Create(ctx, s.FlyApp, fly.Create{
			Name: s.Machine, Region: s.Region, Config: want, SkipLaunch: s.SkipLaunch, SkipServiceRegistration: s.Cordoned, MinSecretsVersion: r.Secrets,
		})
	})
	if errors.Is(err, fly.ErrUnknownOutcome) && ctx.Err() != nil {
		r.waitForCreated(ctx, maybeCreatedWait, find)
	}
	return m, err
}

// findCreated finds the machine that the step would create, and waits until Fly returns
// its whole config. If the machine is being destroyed, it waits for the end and returns
// fly.ErrNotFound.
func (r *stepRun) findCreated(ctx context.Context, find finder) (fly.Machine, error) {
	m, err := r.findRepeatedly(ctx, find)
	if err == nil && m.State == "destroying" {
		if err = r.waitUntil(ctx, m.ID, func(m fly.Machine) bool { return m.State == "destroyed" }); err == nil {
			err = fly.ErrNotFound
		}
	}
	if err != nil {
		return m, err
	}
	return r.waitReadable(ctx, m)
}

// findRepeatedly calls find, up to four times after the first attempt, because Fly may
// not list a created machine yet.
func (r *stepRun) findRepeatedly(ctx context.Context, find finder) (fly.Machine, error) {
	reads := 1
	if attemptOf(ctx).Number > 1 {
		reads = 4
	}
	for {
		m, err := find(ctx)
		if reads--; !errors.Is(err, fly.ErrNotFound) || reads == 0 {
			return m, err
		}
		if err := sleep.For(ctx, r.poll()); err != nil {
			return fly.Machine{}, err
		}
	}
}

// waitForCreated waits, for at most limit, until Fly lists a machine that was or may
// have been created, also if ctx has ended. The next thing may be a rollback, which must
// see the machine.
func (r *stepRun) waitForCreated(ctx context.Context, limit time.Duration, find finder) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := find(ctx); err == nil || sleep.For(ctx, r.poll()/4) != nil {
			return
		}
	}
}
