package activities

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/config"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A Place is a target and where it lives.
type Place struct {
	Target release.Target `json:"target"`
	FlyApp string         `json:"fly_app"`
	// Probe, if given, is sent as well: State.Sick says why it failed.
	Probe *release.Probe `json:"probe,omitempty"`
}

// TargetsAtOnce is how many targets are looked at side by side. Fly's limits are
// per Fly app, and the client keeps them.
const TargetsAtOnce = 50

// ObserveInput names the targets to look at.
type ObserveInput struct {
	Places []Place `json:"places"`
	// Written are versions that machines were given: what is older is stale.
	Written Written `json:"written,omitempty"`
}

// Observe says what each target runs, in the order asked for. It changes
// nothing.
func (a *Activities) Observe(ctx context.Context, in ObserveInput) ([]release.State, error) {
	defer beat(ctx)()
	return a.observe(ctx, in.Places, in.Written)
}

func (a *Activities) observe(ctx context.Context, places []Place, written Written) ([]release.State, error) {
	states := make([]release.State, len(places))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(TargetsAtOnce)
	for i, p := range places {
		g.Go(func() (err error) {
			if states[i], err = Look(all, a.Fly, p); err == nil {
				err = freshen(all, a.Fly, &states[i], written[p.FlyApp])
			}
			if err == nil && p.Probe != nil {
				states[i].Sick = a.probeBefore(all, *p.Probe, states[i])
			}
			return err
		})
	}
	return states, classify(ctx, g.Wait())
}

// probeBefore returns why the probe of a target fails before anything is changed,
// or "". One that nothing serves is not probed: it would be started by that.
func (a *Activities) probeBefore(ctx context.Context, p release.Probe, s release.State) string {
	if s.URL == "" || s.Private || !serves(s) {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for again := true; ; again = false {
		health, failures := a.probe(ctx, s.Target, p, s.URL)
		switch {
		case health == release.Healthy:
			return ""
		case !again || pause(ctx, a.poll()) != nil:
			return failures[0].Error()
		}
	}
}

// A Reader is what it takes to look at a target. *fly.Client is one.
type Reader interface {
	App(ctx context.Context, app string) (fly.App, error)
	Machines(ctx context.Context, app string) ([]fly.Machine, error)
	Machine(ctx context.Context, app, id string) (fly.Machine, error)
	Volumes(ctx context.Context, app string) ([]fly.Volume, error)
	Addresses(ctx context.Context, app string) ([]fly.Address, error)
	Secrets(ctx context.Context, app string) ([]fly.Secret, error)
}

// Look says what one target runs: its machines sorted by ID, without those of
// release commands and consoles, which come and go by themselves; its volumes,
// addresses and secrets, as far as the token may see them. An error leaves what
// was found so far.
func Look(ctx context.Context, f Reader, p Place) (release.State, error) {
	s := release.State{Target: p.Target, FlyApp: p.FlyApp, Machines: []release.Machine{}}
	g, all := errgroup.WithContext(ctx)
	g.Go(func() error {
		app, err := retryRead(all, func() (fly.App, error) { return f.App(all, p.FlyApp) })
		s.URL, s.Definition = app.URL, app.Definition
		return err
	})
	g.Go(func() error { return lookAtMachines(all, f, &s) })
	g.Go(func() error {
		have, err := retryRead(all, func() ([]fly.Volume, error) { return f.Volumes(all, p.FlyApp) })
		for _, v := range have {
			s.Volumes = append(s.Volumes, release.Volume{ID: v.ID, Name: v.Name, Region: v.Region, Attached: v.AttachedMachine, Free: v.Free()})
		}
		return unlessForbidden(err)
	})
	g.Go(func() error {
		have, err := retryRead(all, func() ([]fly.Address, error) { return f.Addresses(all, p.FlyApp) })
		for _, ip := range have {
			s.Addresses = append(s.Addresses, ip.IP)
		}
		s.Private = err == nil && !slices.ContainsFunc(have, fly.Address.IsPublic)
		return unlessForbidden(err)
	})
	g.Go(func() error {
		have, err := retryRead(all, func() ([]fly.Secret, error) { return f.Secrets(all, p.FlyApp) })
		for _, x := range have {
			s.Secrets = append(s.Secrets, release.Secret{Name: x.Name, Updated: x.UpdatedAt})
		}
		return unlessForbidden(err)
	})
	err := g.Wait()
	slices.SortFunc(s.Volumes, func(a, b release.Volume) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Secrets, func(a, b release.Secret) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(s.Addresses)
	return s, err
}

// unlessForbidden is err, unless Fly does not let this token see something that
// a release can do without.
func unlessForbidden(err error) error {
	if errors.Is(err, fly.ErrUnauthorized) {
		return nil
	}
	return err
}

// lookAtMachines fills in the machines of s alone.
func lookAtMachines(ctx context.Context, f Reader, s *release.State) error {
	machines, err := retryRead(ctx, func() ([]fly.Machine, error) { return f.Machines(ctx, s.FlyApp) })
	for _, m := range machines {
		addMachine(s, m)
	}
	slices.SortFunc(s.Machines, func(a, b release.Machine) int { return cmp.Compare(a.ID, b.ID) })
	return err
}

// addMachine puts m where it belongs in s.
func addMachine(s *release.State, m fly.Machine) {
	switch meta := release.Metadata(configOf(m)); {
	case len(meta) == 0 && m.HostStatus != "ok" && len(m.Config) == 0:
		s.Unread = append(s.Unread, seen(m, meta))
	case meta["fly_platform_version"] != "v2":
		s.Foreign = append(s.Foreign, m.ID)
	case strings.HasPrefix(meta["fly_process_group"], "fly_app_"):
		s.Commands = append(s.Commands, fmt.Sprintf("machine %s (%s) is %s", m.ID, meta["fly_process_group"], m.State))
	case m.State == "destroying":
		// It will not be there, whatever is planned for it.
	default:
		s.Machines = append(s.Machines, seen(m, meta))
	}
}

// Seen is a Fly machine in the words of a release.
func Seen(m fly.Machine) release.Machine { return seen(m, release.Metadata(configOf(m))) }

func seen(m fly.Machine, meta map[string]string) release.Machine {
	out := release.Machine{
		ID: m.ID, Name: m.Name, Group: cmp.Or(meta["fly_process_group"], meta["process_group"], "app"), Region: m.Region,
		State: m.State, Version: m.InstanceID, Image: imageOf(m), Config: configOf(m),
		Cordoned: m.Cordoned, Release: meta[release.MetaRelease], Revision: meta[release.MetaRevision],
		Created: m.Name != "" && meta[release.MetaMachine] == m.Name, Updated: m.UpdatedAt, Made: m.VersionTime(),
	}
	if by := meta["fly_flyctl_version"]; by != ClientVersion {
		out.Client = by // flyctl leaves our metadata on what it changes
	}
	if x, ok := m.UnrequestedExit(); ok {
		out.Exit = &release.Exit{Code: x.Code, OOM: x.OOM, Restarts: x.RestartCount, At: x.At}
	}
	out.Crashed = m.Crashed() && !release.NeverRestarts(out.Config)
	if m.HostStatus != "ok" {
		out.Host = m.HostStatus
	}
	for _, c := range m.Checks {
		out.Checks = append(out.Checks, release.Check{Name: c.Name, Status: c.Status, Output: excerpt(c.Output, 400)})
	}
	return out
}

// PlanInput is what a plan is made of: the files at a revision and the images
// built from it. Only apps with an image are planned for.
type PlanInput struct {
	Project     release.Project  `json:"project"`
	Environment string           `json:"environment"`
	Revision    release.Revision `json:"revision"`
	Images      release.Images   `json:"images"`
	// NoRoom are machines, by ID, whose hosts were found to have no room for
	// another version of them.
	NoRoom []string `json:"no_room,omitempty"`
	// Unverified says, by app, why its image is not what the environment before
	// has verified.
	Unverified map[string]string `json:"unverified,omitempty"`
}

// PlanRollout looks at what an environment runs and plans the way to what it
// should run. It fails with KindTooLarge where Temporal could not hold the
// rollout or its rollback. It changes nothing.
func (a *Activities) PlanRollout(ctx context.Context, in PlanInput) (release.Plan, error) {
	defer beat(ctx)()
	env, err := in.Project.Environment(in.Environment)
	if err != nil {
		return release.Plan{}, refused(release.KindConfig, err)
	}
	var places []Place
	var files []release.TargetFile
	for _, t := range env.Targets {
		if _, ok := in.Images[t.Target.App]; ok {
			places, files = append(places, Place{Target: t.Target, FlyApp: t.FlyApp}), append(files, t)
		}
	}
	states, err := a.observe(ctx, places, nil)
	if err != nil {
		return release.Plan{}, err
	}
	if err := Unread(states); err != nil {
		return release.Plan{}, refused(release.KindConfig, err)
	}
	if states, err = a.setApart(ctx, in, states); err != nil {
		return release.Plan{}, classify(ctx, err)
	}
	var specs []release.Spec
	for i, t := range files {
		for j, m := range states[i].Machines {
			states[i].Machines[j].NoRoom = slices.Contains(in.NoRoom, m.ID)
		}
		spec, err := config.Spec(&in.Project, t, in.Images[t.Target.App], states[i])
		if err != nil {
			return release.Plan{}, refused(release.KindConfig, err)
		}
		spec.Unverified = in.Unverified[t.Target.App]
		specs = append(specs, spec)
	}
	if err := a.warnOfNeeds(ctx, in.Project, env, specs); err != nil {
		return release.Plan{}, err
	}
	plan, err := release.NewPlan(in.Environment, in.Revision.Commit, specs, states)
	if err != nil {
		return release.Plan{}, refused(release.KindConfig, err)
	}
	if err := CheckPlan(plan, states); err != nil {
		return release.Plan{}, err
	}
	return plan.WithContent(), nil
}

// CheckPlan returns why a plan that was made from states is refused: a target of it
// must not go unchecked, or Temporal could not hold the rollout or its rollback.
func CheckPlan(plan release.Plan, states []release.State) error {
	if err := plan.CheckRefused(); err != nil {
		return refused(release.KindConfig, err)
	}
	return mustFit(plan, states)
}

// RestoreInput names the state to go back to.
type RestoreInput struct {
	Environment string             `json:"environment"`
	Baselines   []release.Baseline `json:"baselines"`
	// Goals, if given, are what the plan led to that is taken back: machines
	// that it made are removed, and those that are on neither are left alone,
	// for somebody else has changed them: unless Overwrite says not to.
	Goals     []release.State `json:"goals,omitempty"`
	Overwrite bool            `json:"overwrite,omitempty"`
	// Found is what the rollout found, where that was neither its goal nor the
	// baseline: a rollout before it had ended without a report.
	Found []release.State `json:"found,omitempty"`
	// Written are versions that machines were given: what is older is stale.
	Written Written `json:"written,omitempty"`
}

// A Restoration is the way back from what runs now, and what differs now. States
// are without configs: those that a rollback needs are in its plan.
type Restoration struct {
	Plan        release.Plan    `json:"plan"`
	States      []release.State `json:"states"`
	Differences []string        `json:"differences,omitempty"`
	Recreated   []string        `json:"recreated,omitempty"`
	// Others is how many machines are left alone because somebody else changed
	// them.
	Others int `json:"others,omitempty"`
}

// PlanRestore looks at what runs now and plans the way back to the baselines.
// An empty plan means: they are what runs. It changes nothing. Without goals,
// which is when a person asks for it, it fails with KindRefused where a machine
// can't be made again, and with KindTooLarge where Temporal could not hold it.
func (a *Activities) PlanRestore(ctx context.Context, in RestoreInput) (Restoration, error) {
	defer beat(ctx)()
	var places []Place
	for _, b := range in.Baselines {
		places = append(places, Place{Target: b.State.Target, FlyApp: b.State.FlyApp})
	}
	states, err := a.observe(ctx, places, in.Written)
	if err != nil {
		return Restoration{}, err
	}
	for i, b := range in.Baselines {
		states[i] = states[i].Recalled(b.State.Machines)
	}
	if lost := release.Lost(in.Baselines, states); len(lost) > 0 && in.Goals == nil {
		return Restoration{}, refused(release.KindRefused, fmt.Errorf("what ran then can't be brought back: %s", strings.Join(lost, "; ")))
	}
	others := 0
	var ours func(release.Target, release.Machine) bool
	if in.Goals != nil && !in.Overwrite {
		is := release.Ours(in.Goals, release.States(in.Baselines))
		found := release.Ours(in.Found, nil)
		ours = func(t release.Target, m release.Machine) bool {
			if is(t, m) || found(t, m) {
				return true
			}
			others++
			return false
		}
	}
	plan := release.Restore(in.Environment, in.Baselines, states, ours, release.Made(in.Goals))
	if in.Goals == nil {
		if err := mustFit(plan, states); err != nil {
			return Restoration{}, err
		}
	}
	return Restoration{
		Plan:        plan.WithContent(),
		Others:      others,
		States:      withoutConfigs(states),
		Differences: release.Differences(in.Baselines, states),
		Recreated:   release.Recreated(in.Baselines, states),
	}, nil
}

// withoutConfigs returns states without the configs of their machines.
func withoutConfigs(states []release.State) []release.State {
	bare := slices.Clone(states)
	for i := range bare {
		bare[i].Machines = slices.Clone(bare[i].Machines)
		for j := range bare[i].Machines {
			bare[i].Machines[j].Config = nil
		}
	}
	return bare
}

func configOf(m fly.Machine) json.RawMessage {
	if len(m.Config) > 0 {
		return m.Config
	}
	return m.IncompleteConfig
}

// imageOf is what m runs. Fly says which digest a reference had when the
// machine was made; where it doesn't, the config's own reference has to do.
func imageOf(m fly.Machine) release.Image {
	if m.ImageRef.Digest != "" {
		ref := m.ImageRef
		ref.Tag = ""
		return release.Image(ref.String())
	}
	var c struct{ Image release.Image }
	if json.Unmarshal(configOf(m), &c) != nil {
		return ""
	}
	return c.Image
}

// excerpt is the end of s, at most n bytes of it.
func excerpt(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}
