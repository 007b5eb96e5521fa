package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// warnOfNeeds adds to each spec a warning for every app that it needs, that is not
// rolled out with it, and that has no machines in the environment. What the
// worker's token may not see is not warned of.
func (a *Activities) warnOfNeeds(ctx context.Context, p release.Project, env release.Environment, specs []release.Spec) error {
	known := map[string]int{} // machines, by app
	for i, spec := range specs {
		app, _ := p.App(spec.Target.App)
		for _, need := range app.Needs {
			j := slices.IndexFunc(env.Targets, func(t release.TargetFile) bool { return t.Target.App == need })
			planned := slices.ContainsFunc(specs, func(s release.Spec) bool { return s.Target.App == need })
			if j < 0 || planned {
				continue
			}
			n, asked := known[need]
			if !asked {
				s := release.State{FlyApp: env.Targets[j].FlyApp}
				switch err := lookAtMachines(ctx, a.Fly, &s); {
				case errors.Is(err, fly.ErrUnauthorized):
					n = 1
				case err != nil && !errors.Is(err, fly.ErrNotFound):
					return classify(ctx, err)
				default:
					n = len(s.Machines)
				}
				known[need] = n
			}
			if n == 0 {
				specs[i].Warnings = append(specs[i].Warnings, fmt.Sprintf("%s, which it needs, has no machines in %s", need, env.Name))
			}
		}
	}
	return nil
}
