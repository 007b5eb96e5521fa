package driver

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A Closing is how a rollout ended, and what it may have left at Fly.
type Closing struct {
	Release  string // workflow ID, as machines have it in their metadata
	Holder   string // description of the rollout's leases
	Machines []Leased
	Releases map[string]FlyRelease // by Fly app
	Status   string                // of the Fly releases: complete, failed, interrupted
	Error    string
	// Commands are the Fly apps in which machines ran a command; CommandMachines are
	// the IDs, by Fly app, of those that are known: a list of Fly's may be older than
	// they are.
	Commands        []string
	CommandMachines map[string][]string
	Addresses       map[string][]string // IP addresses to be released
	// Begun are images by Fly app for which a Fly release may have been made, since
	// Since, that is not known: making it was given up.
	Begun map[string]release.Image
	Since time.Time
	// Woken are stops of machines that the rollout started for a verification and did
	// not stop again.
	Woken []Change
}

// CloseRollout removes what a rollout left at Fly: it destroys the machines that ran
// commands, ends the Fly releases, releases addresses, stops the machines that run for
// a verification only, and then releases the leases. It is safe to call again.
func (d *Driver) CloseRollout(ctx context.Context, in Closing) error {
	var g errgroup.Group
	g.SetLimit(ConcurrentTargets)
	for _, app := range in.Commands {
		g.Go(func() error { return d.removeCommandMachines(ctx, app, in) })
	}
	for _, r := range in.Releases {
		g.Go(func() error { return in.endRelease(ctx, d.Fly, r.ID) })
	}
	for app, image := range in.Begun {
		g.Go(func() error {
			r, err := findUnfinishedRelease(ctx, d.Fly, app, image, in.Since)
			if err != nil || r.ID == "" {
				return err
			}
			return in.endRelease(ctx, d.Fly, r.ID)
		})
	}
	for app, ips := range in.Addresses {
		for _, ip := range ips {
			g.Go(func() error {
				if err := d.Fly.ReleaseAddress(ctx, app, ip); !errors.Is(err, fly.ErrNotFound) {
					return err
				}
				return nil
			})
		}
	}
	g.Go(func() error {
		d.memory().keepers.close(ctx, in.Holder)
		stopped := d.stopMachines(ctx, in.Woken) // under the leases
		return errors.Join(stopped, leases{d.Fly, in.Holder}.release(ctx, in.Machines))
	})
	return g.Wait()
}

func (in Closing) endRelease(ctx context.Context, f ReleaseAPI, id string) error {
	return f.UpdateRelease(ctx, id, in.Status, lastBytes(in.Error, 2000))
}

// removeCommandMachines destroys the machines of a Fly app on which the rollout ran
// commands. After a failure it lists machines several times before it believes that
// there are none: one may just have been created. Machines that are known are destroyed
// also where Fly's list does not show them.
func (d *Driver) removeCommandMachines(ctx context.Context, app string, in Closing) error {
	looks := 1
	if in.Status != "complete" {
		looks = 4
	}
	known := slices.Clone(in.CommandMachines[app])
	for found := len(known) > 0; looks > 0; {
		machines, err := RetryRead(ctx, func() ([]fly.Machine, error) { return d.Fly.Machines(ctx, app) })
		if err != nil {
			return err
		}
		for _, m := range machines {
			if !in.ranCommand(m) {
				continue
			}
			found = true
			known = slices.DeleteFunc(known, func(id string) bool { return id == m.ID })
			if err := destroyMachine(ctx, d.Fly, app, m.ID, ""); err != nil {
				return err
			}
		}
		if looks--; looks == 0 || found {
			break
		}
		if err := sleep(ctx, d.poll()); err != nil {
			return err
		}
	}
	for _, id := range known {
		if err := destroyMachine(ctx, d.Fly, app, id, ""); err != nil {
			return err
		}
	}
	return nil
}

// ranCommand reports whether m is a machine on which the release ran a command.
func (in Closing) ranCommand(m fly.Machine) bool {
	meta := release.Metadata(configOf(m))
	group := meta["fly_process_group"]
	return meta[release.MetaRelease] == in.Release && (group == release.ReleaseCommandGroup || group == release.MachineCheckGroup)
}
