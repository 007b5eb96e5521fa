package release

import (
	"fmt"
	"slices"
)

// A NeedBeside is an app that the app of a spec needs and that has no spec itself.
type NeedBeside struct {
	Spec   int // index of the spec that needs it
	Target TargetFile
}

// NeedsBeside returns the apps that the apps of specs need in env and that have no
// spec themselves.
func (p Project) NeedsBeside(env Environment, specs []Spec) (needs []NeedBeside) {
	for i, spec := range specs {
		app, _ := p.App(spec.Target.App)
		for _, need := range app.Needs {
			j := slices.IndexFunc(env.Targets, func(t TargetFile) bool { return t.Target.App == need })
			isPlanned := slices.ContainsFunc(specs, func(s Spec) bool { return s.Target.App == need })
			if j >= 0 && !isPlanned {
				needs = append(needs, NeedBeside{i, env.Targets[j]})
			}
		}
	}
	return needs
}

// Warning returns the warning for n if that app has no machines.
func (n NeedBeside) Warning() string {
	return fmt.Sprintf("%s, which it needs, has no machines in %s", n.Target.Target.App, n.Target.Target.Environment)
}
