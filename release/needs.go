package release

import (
	"fmt"
	"slices"
)

// An UnplannedNeed is an app that the app of a spec needs and that has no spec itself.
type UnplannedNeed struct {
	Spec   int // index of the spec that needs it
	Target TargetFile
}

// UnplannedNeeds returns the apps that the apps of specs need in env and that have no
// spec themselves.
func (p Project) UnplannedNeeds(env Environment, specs []Spec) (needs []UnplannedNeed) {
	for i, spec := range specs {
		app, _ := p.App(spec.Target.App)
		for _, need := range app.Needs {
			j := slices.IndexFunc(env.Targets, func(t TargetFile) bool { return t.Target.App == need })
			isPlanned := slices.ContainsFunc(specs, func(s Spec) bool { return s.Target.App == need })
			if j >= 0 && !isPlanned {
				needs = append(needs, UnplannedNeed{i, env.Targets[j]})
			}
		}
	}
	return needs
}

// Warning returns the warning for n if that app has no machines.
func (n UnplannedNeed) Warning() string {
	return fmt.Sprintf("%s, which it needs, has no machines in %s", n.Target.Target.App, n.Target.Target.Environment)
}
