package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/microbima/release/fly/flytoml"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// Spec returns what target t of p should run, given its state. It is pure: the same
// project, image and state give the same spec, byte for byte.
//
// A group without machines gets one if it has a volume or release.toml says machines =
// 1, two if it has services, else one and a standby for it. The configs of new machines
// lack the IDs that exist only later: the machine of a standby, and the volume.
//
// A machine that cannot take its config, or whose host is unreachable, is replaced. If
// it has a volume on that host, Spec fails: the operator has to decide about the data.
func Spec(p *release.Project, t release.TargetFile, image release.Image, state release.State) (release.Spec, error) {
	none := release.Spec{}
	c, _, err := flytoml.Parse(t.Path, []byte(t.FlyToml))
	if err != nil {
		return none, err
	}
	c = c.WithFiles(t.Files)
	app, ok := p.App(t.Target.App)
	if !ok {
		return none, fmt.Errorf("project %s has no app %q", p.Name, t.Target.App)
	}
	env, err := p.Environment(t.Target.Environment)
	if err != nil {
		return none, err
	}
	spec := release.Spec{
		Target: t.Target, FlyApp: t.FlyApp, Image: image,
		Level:           p.Levels()[app.Name],
		Strategy:        release.Strategy(c.Strategy()),
		MaxUnavailable:  c.MaxUnavailable(),
		Wait:            release.Duration(c.Wait()),
		Canary:          env.Canary,
		Probe:           appProbe(app, t.Path, c),
		RefuseUnchecked: app.Unchecked == release.RefuseUnchecked,
	}
	for _, slow := range c.SlowChecks() {
		spec.Warnings = append(spec.Warnings, "wait_timeout of [deploy] is short: "+slow)
	}
	for _, g := range c.Groups() {
		group, err := groupSpec(app, c, g.Name, image, state)
		if err != nil {
			return none, fmt.Errorf("%s: %w", t.Target, err)
		}
		spec.Groups = append(spec.Groups, group)
	}
	spec.Addresses = addresses(app, c)
	if spec.Definition, err = c.Definition(); err != nil {
		return none, fmt.Errorf("%s: %w", t.Target, err)
	}
	spec.Command, err = releaseCommand(c, image, state)
	return spec, err
}

// releaseCommand returns the release command, on a machine as large as the largest one
// of the default group, or nil if there is none.
func releaseCommand(c *flytoml.Config, image release.Image, state release.State) (*release.Command, error) {
	deploy := c.Deploy()
	if len(deploy.ReleaseCommand) == 0 {
		return nil, nil
	}
	var machines []json.RawMessage
	for _, m := range state.Machines { // also stopped ones: autostop may have stopped all
		if !m.Config.IsZero() {
			machines = append(machines, m.Config.Doc)
		}
	}
	config, err := c.ReleaseCommand(string(image), machines)
	return &release.Command{
		Run: strings.Join(deploy.ReleaseCommand, " "), Config: machineconfig.Read(config), Region: c.Region(), Timeout: release.Duration(deploy.ReleaseTimeout),
	}, err
}

// appProbe returns the request to the Fly app's URL that checks it: the probe of
// release.toml, else the first HTTP check of fly.toml, else nil. A Fly app without a
// public address has no probe.
func appProbe(app release.App, file string, c *flytoml.Config) *release.Probe {
	if app.Addresses != release.ReachPublic {
		return nil
	}
	check, ok := c.Probe()
	p := release.Probe{Path: app.Probe, Setting: fmt.Sprintf("probe of [apps.%s] in %s", app.Name, File)}
	if app.Probe == "" {
		if !ok {
			return nil
		}
		p = release.Probe{Path: check.Path, Method: strings.ToUpper(check.Method), Headers: check.Headers, Setting: check.Key + " in " + file}
	}
	if ok && check.Plain {
		p.Scheme = "http"
	}
	return &p
}

// addresses returns the kinds of IP addresses that a first rollout allocates.
func addresses(app release.App, c *flytoml.Config) []string {
	public := c.Addresses()
	switch {
	case app.Addresses == release.ReachPublic:
		return public
	case app.Addresses == release.ReachFlycast && c.Reachable():
		return []string{"private_v6"}
	}
	return nil
}

// groupSpec returns what the group of that name should run.
func groupSpec(app release.App, c *flytoml.Config, name string, image release.Image, state release.State) (release.GroupSpec, error) {
	spec := release.GroupSpec{Name: name, Machines: map[string]release.Config{}, Replace: map[string]string{}}
	g, err := c.Group(name, string(image))
	if err != nil {
		return spec, err
	}
	spec.MachineChecks = g.MachineChecks
	if spec.Volume, err = newVolume(g, state); err != nil {
		return spec, err
	}
	var configs machineconfig.Reader // most machines of a group have the same config
	for _, m := range state.Machines {
		if m.Group != g.Name || m.Superseded {
			continue
		}
		config, reason, err := machineConfig(g, m, state)
		if err == nil && reason != "" {
			spec.Replace[m.ID] = reason
			config, err = g.Replace(m.Config.Doc)
		}
		if err != nil {
			return spec, fmt.Errorf("machine %s: %w", m.ID, err)
		}
		spec.Machines[m.ID] = configs.Read(config).Config
	}
	if len(spec.Machines) == 0 {
		if g.Mount != nil && c.Region() == "" {
			return spec, fmt.Errorf("group %s needs a volume %s, whose region is unknown; write primary_region = \"…\" in fly.toml", g.Name, g.Mount.Name)
		}
		n, standby := newMachines(app, g.Group)
		for i := range n {
			spec.New = append(spec.New, release.NewMachine{Region: c.Region(), Config: configs.Read(g.New).Config, Standby: standby && i > 0})
		}
	}
	return spec, checkVolumes(spec, c.Region(), state)
}

// newVolume returns the volume of a new machine of g, or nil if g has none. It may be
// created on a first rollout, or if fly.toml has its initial_size; else it must exist.
func newVolume(g *flytoml.GroupMachines, state release.State) (out *release.NewVolume, err error) {
	if g.Volume == nil {
		return nil, nil
	}
	out = &release.NewVolume{Name: g.Volume.Name}
	if len(state.Machines) == 0 || g.Mount.InitialSizeGB > 0 {
		out.CreateRequest, err = json.Marshal(g.Volume)
	}
	return out, err
}

// machineConfig returns the config that m should have, or the reason to replace it.
func machineConfig(g *flytoml.GroupMachines, m release.Machine, state release.State) (config json.RawMessage, reason string, err error) {
	var trouble, condition string
	switch {
	case m.Host != "" || m.Config.IsZero():
		trouble, condition = "its host is "+m.Host, "is back"
	case m.HostFull:
		trouble, condition = "its host has no room for another version of it", "has room"
	}
	if trouble != "" {
		if g.Mount != nil || slices.ContainsFunc(state.Volumes, func(v release.Volume) bool { return v.AttachedTo == m.ID }) {
			return nil, "", fmt.Errorf("%s, and its volume is on that host; wait until the host %s, or destroy the machine (fly machine destroy --force %s) if its data may be lost", trouble, condition, m.ID)
		}
		return nil, trouble, nil
	}
	config, err = g.Update(m.Config.Doc)
	if errors.Is(err, flytoml.ErrReplace) {
		return nil, err.Error(), nil
	}
	return config, "", err
}

// checkVolumes fails if a machine to be created has no free volume, and none may be
// created for it.
func checkVolumes(spec release.GroupSpec, region string, state release.State) error {
	if spec.Volume == nil || len(spec.Volume.CreateRequest) > 0 {
		return nil
	}
	need, free := map[string]int{}, map[string]int{}
	for _, n := range spec.New {
		need[cmp.Or(n.Region, region)]++
	}
	for id := range spec.Replace {
		if m, ok := state.FindMachine(id); ok {
			need[m.Region]++
		}
	}
	for _, v := range state.Volumes {
		if v.Free && v.Name == spec.Volume.Name {
			free[v.Region]++
		}
	}
	for _, r := range slices.Sorted(maps.Keys(need)) {
		if r != "" && free[r] < need[r] {
			return fmt.Errorf("group %s needs %d free volume(s) %s in %s, and there are %d; create them with `fly volumes create %s -a %s -r %s`, or set initial_size in [[mounts]] to have them created",
				spec.Name, need[r], spec.Volume.Name, r, free[r], spec.Volume.Name, state.FlyApp, r)
		}
	}
	return nil
}
