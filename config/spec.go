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
	"github.com/microbima/release/release"
)

// Spec says what target t of p should run, given what it runs. It is pure: the
// same project, image and state give the same spec, byte for byte.
//
// A group without machines gets two if something outside can reach it; one, if
// each has a volume or release.toml says so; else one and a standby for it. The configs of new machines
// lack what only exists later: whom a standby stands by for, and a volume's ID.
// A machine that can't take its config, or whose host can't be reached, is to be
// replaced; if it has a volume there, that is an error: nobody else can say
// whether its data may be left behind.
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
		Probe:           probe(app, t.Path, c),
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
	spec.Command, err = command(c, image, state)
	return spec, err
}

// command is the release command, on a machine as large as the largest of the
// default group.
func command(c *flytoml.Config, image release.Image, state release.State) (*release.Command, error) {
	deploy := c.Deploy()
	if len(deploy.ReleaseCommand) == 0 {
		return nil, nil
	}
	var machines []json.RawMessage
	for _, m := range state.Machines { // stopped ones too: autostop may have stopped all
		if len(m.Config) > 0 {
			machines = append(machines, m.Config)
		}
	}
	config, err := c.ReleaseCommand(string(image), machines)
	return &release.Command{
		Run: strings.Join(deploy.ReleaseCommand, " "), Config: config, Region: c.Region(), Timeout: release.Duration(deploy.ReleaseTimeout),
	}, err
}

// probe returns the request that is made at the Fly app's URL: the one that
// release.toml names, else that of fly.toml's first HTTP check, else none. A Fly
// app without a public address has none.
func probe(app release.App, file string, c *flytoml.Config) *release.Probe {
	if app.Addresses != release.Public {
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

// addresses are the kinds of IP address that a first rollout asks for.
func addresses(app release.App, c *flytoml.Config) []string {
	public := c.Addresses()
	switch {
	case app.Addresses == release.Public:
		return public
	case app.Addresses == release.Flycast && c.Reachable():
		return []string{"private_v6"}
	}
	return nil
}

func groupSpec(app release.App, c *flytoml.Config, name string, image release.Image, state release.State) (release.GroupSpec, error) {
	spec := release.GroupSpec{Name: name, Machines: map[string]json.RawMessage{}, Replace: map[string]string{}}
	g, err := c.Group(name, string(image))
	if err != nil {
		return spec, err
	}
	spec.MachineChecks = g.MachineChecks
	if spec.Volume, err = volume(g, state); err != nil {
		return spec, err
	}
	for _, m := range state.Machines {
		if m.Group != g.Name {
			continue
		}
		config, why, err := wanted(g, m, state)
		if err != nil {
			return spec, fmt.Errorf("machine %s: %w", m.ID, err)
		}
		if spec.Machines[m.ID] = config; why == "" {
			continue
		}
		spec.Replace[m.ID] = why
		if spec.Machines[m.ID], err = g.Replace(m.Config); err != nil {
			return spec, fmt.Errorf("machine %s: %w", m.ID, err)
		}
	}
	if len(spec.Machines) == 0 {
		if g.Mount != nil && c.Region() == "" {
			return spec, fmt.Errorf("group %s needs a volume %s, and nothing says in which region it is made: write primary_region = \"…\" in its fly.toml", g.Name, g.Mount.Name)
		}
		n, standby := newMachines(app, g.Services, g.Mount != nil)
		for i := range n {
			spec.New = append(spec.New, release.NewMachine{Region: c.Region(), Config: g.New, Standby: standby && i > 0})
		}
	}
	return spec, volumes(spec, c.Region(), state)
}

// volume is what a new machine of g is attached to. One is made on a first
// rollout, and where fly.toml says how large; else people make volumes.
func volume(g *flytoml.GroupMachines, state release.State) (out *release.NewVolume, err error) {
	if g.Volume == nil {
		return nil, nil
	}
	out = &release.NewVolume{Name: g.Volume.Name}
	if len(state.Machines) == 0 || g.Mount.InitialSizeGB > 0 {
		out.Ask, err = json.Marshal(g.Volume)
	}
	return out, err
}

// wanted is the config that m should have, or why another machine has to take
// its place.
func wanted(g *flytoml.GroupMachines, m release.Machine, state release.State) (config json.RawMessage, why string, err error) {
	trouble, back := "", ""
	switch {
	case m.Host != "" || len(m.Config) == 0:
		trouble, back = "its host is "+m.Host, "is back"
	case m.NoRoom:
		trouble, back = "its host has no room for another version of it", "has room"
	}
	if trouble != "" {
		if g.Mount != nil || slices.ContainsFunc(state.Volumes, func(v release.Volume) bool { return v.Attached == m.ID }) {
			return nil, "", fmt.Errorf("%s, and its volume is there: wait until the host %s, or destroy the machine (fly machine destroy --force %s) if its data may be lost", trouble, back, m.ID)
		}
		return nil, trouble, nil
	}
	config, err = g.Update(m.Config)
	if errors.Is(err, flytoml.ErrReplace) {
		return nil, err.Error(), nil
	}
	return config, "", err
}

// volumes sees that there is a volume for each machine to be created, or that
// one may be made.
func volumes(spec release.GroupSpec, region string, state release.State) error {
	if spec.Volume == nil || len(spec.Volume.Ask) > 0 {
		return nil
	}
	need, free := map[string]int{}, map[string]int{}
	for _, n := range spec.New {
		need[cmp.Or(n.Region, region)]++
	}
	for id := range spec.Replace {
		if m, ok := state.Machine(id); ok {
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
			return fmt.Errorf("group %s needs %d free volume(s) %s in %s, and there are %d: make them with `fly volumes create %s -a %s -r %s`, or say initial_size in [[mounts]] and they are made",
				spec.Name, need[r], spec.Volume.Name, r, free[r], spec.Volume.Name, state.FlyApp, r)
		}
	}
	return nil
}
