package release

import (
	"fmt"
	"slices"
)

// A NeedBeside is an app that a spec's app needs and that is not rolled out with it.
type NeedBeside struct {
	Spec   int // index of the spec that needs it
	Target TargetFile
}

// NeedsBeside returns what the apps of specs need in env besides each other.
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

// Warning is what is said of n where nothing of it runs.
func (n NeedBeside) Warning() string {
	return fmt.Sprintf("%s, which it needs, has no machines in %s", n.Target.Target.App, n.Target.Target.Environment)
}
