package driver

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// A Closing is how a rollout ended, and what may be left of it at Fly.
type Closing struct {
	Release  string // workflow ID, as machines have it in their metadata
	Holder   string // description of the rollout's leases
	Machines []Leased
	Releases map[string]FlyRelease // by Fly app
	Status   string                // of the Fly releases: complete, failed, interrupted
	Error    string
	// Commands are the Fly apps in which machines ran a command. CommandMachines are
	// the IDs, by Fly app, of the known ones, which Fly's list may not have yet.
	Commands        []string
	CommandMachines map[string][]string
	Addresses       map[string][]string // IP addresses to release
	// Begun has, by Fly app, images for which a Fly release may exist since Since: its
	// create was canceled.
	Begun map[string]release.Image
	Since time.Time
	// Woken has stop steps of machines that the rollout started for verification and
	// did not stop.
	Woken []Change
}

// CloseRollout removes the remains of a rollout at Fly: it destroys the machines of
// commands, ends the Fly releases, releases addresses, stops machines that run for
// verification only, and then releases the leases. It is safe to call again.
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
		d.memory().keepers.endAll(ctx, in.Holder)
		stopped := d.stopMachines(ctx, in.Woken) // under the leases
		return errors.Join(stopped, holderLeases{d.Fly, in.Holder}.releaseAll(ctx, in.Machines))
	})
	return g.Wait()
}

// endRelease sets the final status of a Fly release.
func (in Closing) endRelease(ctx context.Context, f ReleaseAPI, id string) error {
	return f.UpdateRelease(ctx, id, in.Status, lastBytes(in.Error, 2000))
}

// removeCommandMachines destroys the machines of a Fly app on which the rollout ran
// commands. After a failure it lists machines several times before it concludes that
// there are none, because a new machine may not be listed yet. It also destroys known
// machines that Fly does not list.
func (d *Driver) removeCommandMachines(ctx context.Context, app string, in Closing) error {
	reads := 1
	if in.Status != "complete" {
		reads = 4
	}
	known := slices.Clone(in.CommandMachines[app])
	for found := len(known) > 0; reads > 0; {
		machines, err := RetryRead(ctx, func() ([]fly.Machine, error) { return d.Fly.Machines(ctx, app) })
		if err != nil {
			return err
		}
		for _, m := range machines {
			if !in.ranCommand(d.memory().configs.Read(configOf(m))) {
				continue
			}
			found = true
			known = slices.DeleteFunc(known, func(id string) bool { return id == m.ID })
			if err := destroyMachine(ctx, d.Fly, app, m.ID, ""); err != nil {
				return err
			}
		}
		if reads--; reads == 0 || found {
			break
		}
		if err := sleep.For(ctx, d.poll()); err != nil {
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

// ranCommand reports whether the release ran a command on a machine with that config.
func (in Closing) ranCommand(config *machineconfig.Config) bool {
	meta := config.Metadata
	group := meta["fly_process_group"]
	return config.Facts().Origin.Release == in.Release && (group == release.ReleaseCommandGroup || group == release.MachineCheckGroup)
}
