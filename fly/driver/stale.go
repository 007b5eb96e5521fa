package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// Written has the versions that a rollout wrote, by Fly app and machine ID. The version
// is "" if a machine may have been changed to an unknown version.
type Written map[string]map[string]string

// RereadStale reads machines of states again that may be older than written.
func (d *Driver) RereadStale(ctx context.Context, states []release.State, written Written) error {
	for i := range states {
		if err := d.rereadStale(ctx, &states[i], written[states[i].FlyApp]); err != nil {
			return err
		}
	}
	return nil
}

// rereadStale reads machines of s again that may be stale: those that the list does not
// have, those with an older version than written, and those whose written version is
// unknown. It returns an error if Fly returns nothing newer.
func (d *Driver) rereadStale(ctx context.Context, s *release.State, written map[string]string) error {
	for _, id := range slices.Sorted(maps.Keys(written)) {
		have, isListed := s.FindMachine(id)
		isUnread := slices.ContainsFunc(s.Unidentified, func(m release.Machine) bool { return m.ID == id })
		if isUnread || isListed && written[id] != "" && !fly.OlderVersion(have.Version, written[id]) {
			continue
		}
		version := cmp.Or(written[id], have.Version)
		m, err := readMachine(ctx, d.Fly, s.FlyApp, id, version)
		switch {
		case errors.Is(err, fly.ErrNotFound):
			m.State = "destroyed"
		case err != nil:
			return err
		case m.IsOlder(version) && !isHostAway(m): // of an unreachable host Fly returns old facts
			return fmt.Errorf("read machine %s of %s: Fly returned version %s, and it had version %s later", id, s.Target, m.InstanceID, version)
		}
		s.Machines = slices.DeleteFunc(s.Machines, func(m release.Machine) bool { return m.ID == id })
		if m.State != "destroyed" {
			addMachine(s, m, d.memory().configs.Read(configOf(m)))
		}
	}
	sortMachines(s)
	return nil
}

// observeAgain reads the machines of now. Reads older than the versions in goal are
// stale and repeated. For machines on unreachable hosts it uses the facts of goal.
func (d *Driver) observeAgain(ctx context.Context, goal release.State, now *release.State) error {
	if err := readMachines(ctx, d.Fly, &d.memory().configs, now); err != nil {
		return err
	}
	written := map[string]string{}
	for _, m := range goal.Machines {
		if m.ID != "" && m.Version != "" {
			written[m.ID] = m.Version
		}
	}
	err := d.rereadStale(ctx, now, written)
	*now = now.WithKnownMachines(goal.Machines)
	return err
}
