package config

import (
	"encoding/json"
	"fmt"

	"github.com/microbima/release/fly/flytoml"
	"github.com/microbima/release/release"
)

// Spec says what target t of p should run, given what it runs. It is pure: the
// same project, image and state give the same spec, byte for byte.
//
// A group without machines gets two if something outside can reach it; one, if
// each has a volume; else one and a standby for it. The configs of new machines
// lack what only exists later: whom a standby stands by for, and a volume's ID.
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
		Level:          level(p, app.Name, map[string]bool{}),
		Strategy:       release.Strategy(c.Strategy()),
		MaxUnavailable: c.MaxUnavailable(),
		Wait:           release.Duration(c.Wait()),
		Canary:         env.Canary,
		Probe:          probe(app, c),
	}
	for _, g := range c.Groups() {
		group, err := groupSpec(c, g, image, state)
		if err != nil {
			return none, fmt.Errorf("%s: %w", t.Target, err)
		}
		spec.Groups = append(spec.Groups, group)
	}
	return spec, nil
}

// level is how many rollouts must be over before that of app.
func level(p *release.Project, name string, above map[string]bool) int {
	app, _ := p.App(name)
	n := 0
	above[name] = true
	for _, need := range app.Needs {
		if !above[need] { // Load refuses circles; a project may come from elsewhere
			n = max(n, level(p, need, above)+1)
		}
	}
	delete(above, name)
	return n
}

func probe(app release.App, c *flytoml.Config) *release.Probe {
	path, ok := c.HTTPPath()
	if app.Probe != "" {
		path, ok = app.Probe, true
	}
	if !ok {
		return nil
	}
	return &release.Probe{Path: path}
}

func groupSpec(c *flytoml.Config, g flytoml.Group, image release.Image, state release.State) (release.GroupSpec, error) {
	spec := release.GroupSpec{Name: g.Name}
	for _, m := range state.Machines {
		if m.Group != g.Name {
			continue
		}
		if len(m.Config) == 0 {
			return spec, fmt.Errorf("machine %s: Fly doesn't say its config (host %s); destroy it or wait until its host is back", m.ID, m.Host)
		}
		config, err := c.Update(m.Config, g.Name, string(image))
		if err != nil {
			return spec, fmt.Errorf("machine %s: %w", m.ID, err)
		}
		if spec.Machines == nil {
			spec.Machines = map[string]json.RawMessage{}
		}
		spec.Machines[m.ID] = config
	}
	if spec.Machines != nil {
		return spec, nil
	}
	config, err := c.Create(g.Name, string(image))
	if err != nil {
		return spec, err
	}
	spec.New = []release.NewMachine{{Region: c.Region(), Config: config}}
	if g.Mount == nil {
		spec.New = append(spec.New, release.NewMachine{Region: c.Region(), Config: config, Standby: !g.Services})
	}
	return spec, nil
}
