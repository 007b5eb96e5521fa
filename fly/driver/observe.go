package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// A TargetRef names a target and its Fly app. It is stored in histories.
type TargetRef struct {
	Target release.Target `json:"target"`
	FlyApp string         `json:"fly_app"`
	// Probe, if set, is sent as well: State.ProbeError has its failure.
	Probe *release.Probe `json:"probe,omitempty"`
}

// ConcurrentTargets is the number of targets that are read concurrently. Fly's limits
// are per Fly app.
const ConcurrentTargets = 50

// Observe returns the state of each target, in their order. It reads machines again
// whose version is older than written. It changes nothing.
func (d *Driver) Observe(ctx context.Context, refs []TargetRef, written Written) ([]release.State, error) {
	states := make([]release.State, len(refs))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(ConcurrentTargets)
	for i, ref := range refs {
		g.Go(func() (err error) {
			if states[i], err = d.observeTarget(all, ref); err == nil {
				err = d.rereadStale(all, &states[i], written[ref.FlyApp])
			}
			if err == nil && ref.Probe != nil {
				states[i].ProbeError = d.probeBefore(all, *ref.Probe, states[i])
			}
			return err
		})
	}
	return states, g.Wait()
}

// ObserveTarget returns the state of one target: its machines sorted by ID, without
// those of release commands and consoles; its volumes, addresses and secrets if the
// token may read them. With an error it returns the facts that were read.
func ObserveTarget(ctx context.Context, f TargetReader, ref TargetRef) (release.State, error) {
	return observeTarget(ctx, f, new(machineconfig.Reader), ref)
}

func (d *Driver) observeTarget(ctx context.Context, ref TargetRef) (release.State, error) {
	return observeTarget(ctx, d.Fly, &d.memory().configs, ref)
}

// observeTarget is ObserveTarget with a reader of configs.
func observeTarget(ctx context.Context, f TargetReader, configs *machineconfig.Reader, ref TargetRef) (release.State, error) {
	s := release.State{Target: ref.Target, FlyApp: ref.FlyApp, Machines: []release.Machine{}}
	g, all := errgroup.WithContext(ctx)
	g.Go(func() error {
		app, err := RetryRead(all, func() (fly.App, error) { return f.App(all, ref.FlyApp) })
		s.URL = app.URL
		s.Definition = app.Definition
		return err
	})
	g.Go(func() error { return readMachines(all, f, configs, &s) })
	g.Go(func() error { return readVolumes(all, f, &s) })
	g.Go(func() error { return readAddresses(all, f, &s) })
	g.Go(func() error { return readSecrets(all, f, &s) })
	err := g.Wait()
	slices.SortFunc(s.Volumes, func(a, b release.Volume) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Secrets, func(a, b release.Secret) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(s.Addresses)
	return s, err
}

func readVolumes(ctx context.Context, f TargetReader, s *release.State) error {
	have, err := RetryRead(ctx, func() ([]fly.Volume, error) { return f.Volumes(ctx, s.FlyApp) })
	for _, v := range have {
		s.Volumes = append(s.Volumes, release.Volume{ID: v.ID, Name: v.Name, Region: v.Region, AttachedTo: v.AttachedMachine, Free: v.Free()})
	}
	return ignoreUnauthorized(err)
}

func readAddresses(ctx context.Context, f TargetReader, s *release.State) error {
	have, err := RetryRead(ctx, func() ([]fly.Address, error) { return f.Addresses(ctx, s.FlyApp) })
	for _, ip := range have {
		s.Addresses = append(s.Addresses, ip.IP)
	}
	s.Private = err == nil && !slices.ContainsFunc(have, fly.Address.IsPublic)
	return ignoreUnauthorized(err)
}

func readSecrets(ctx context.Context, f TargetReader, s *release.State) error {
	have, err := RetryRead(ctx, func() ([]fly.Secret, error) { return f.Secrets(ctx, s.FlyApp) })
	for _, x := range have {
		s.Secrets = append(s.Secrets, release.Secret{Name: x.Name, Updated: x.UpdatedAt})
	}
	return ignoreUnauthorized(err)
}

// ignoreUnauthorized returns err, or nil if the token may not read an optional fact.
func ignoreUnauthorized(err error) error {
	if errors.Is(err, fly.ErrUnauthorized) {
		return nil
	}
	return err
}

// ListMachines returns the machines of a Fly app as ObserveTarget does.
func ListMachines(ctx context.Context, l MachineLister, app string) ([]release.Machine, error) {
	s := release.State{FlyApp: app}
	err := readMachines(ctx, l, new(machineconfig.Reader), &s)
	return s.Machines, err
}

// readMachines reads the machines of s.
func readMachines(ctx context.Context, l MachineLister, configs *machineconfig.Reader, s *release.State) error {
	machines, err := RetryRead(ctx, func() ([]fly.Machine, error) { return l.Machines(ctx, s.FlyApp) })
	for _, m := range machines {
		addMachine(s, m, configs.Read(configOf(m)))
	}
	sortMachines(s)
	return err
}

func sortMachines(s *release.State) {
	slices.SortFunc(s.Machines, func(a, b release.Machine) int { return cmp.Compare(a.ID, b.ID) })
}

// addMachine adds m, whose config is config, to the list of s for its kind.
func addMachine(s *release.State, m fly.Machine, config *machineconfig.Config) {
	switch meta := config.Metadata; {
	case len(meta) == 0 && m.HostStatus != "ok" && len(m.Config) == 0:
		s.Unidentified = append(s.Unidentified, describeMachine(m, config))
	case meta["fly_platform_version"] != "v2":
		s.Foreign = append(s.Foreign, m.ID)
	case strings.HasPrefix(meta["fly_process_group"], "fly_app_"):
		s.Commands = append(s.Commands, fmt.Sprintf("machine %s (%s) is %s", m.ID, meta["fly_process_group"], m.State))
	case m.State == "destroying":
		// The machine is ignored: it will be gone.
	default:
		s.Machines = append(s.Machines, describeMachine(m, config))
	}
}

// isServing reports whether a machine of s may get traffic.
func isServing(s release.State) bool { return slices.ContainsFunc(s.Machines, mayGetTraffic) }

// mayGetTraffic reports whether m is started and not cordoned.
func mayGetTraffic(m release.Machine) bool { return m.State == "started" && !m.Cordoned }

// CheckRead returns an error that names the machines without a known config and group,
// or nil.
func CheckRead(states []release.State) error {
	var all []string
	for _, s := range states {
		for _, m := range s.Unidentified {
			all = append(all, fmt.Sprintf("machine %s (%s) of %s: its host is %s and Fly returns neither its config nor its group, so it cannot be planned for: wait until the host is back, or destroy the machine (fly machine destroy --force %s)", m.ID, m.Name, s.Target, m.Host, m.ID))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}
