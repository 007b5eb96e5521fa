package activities

import (
	"context"
	"errors"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// warnOfNeeds adds to each spec a warning for every app that it needs, that is not
// rolled out with it, and that has no machines in the environment. What the
// worker's token may not see is not warned of.
func (a *Activities) warnOfNeeds(ctx context.Context, p release.Project, env release.Environment, specs []release.Spec) error {
	known := map[string]int{} // machines, by app
	for _, need := range p.NeedsBeside(env, specs) {
		app := need.Target.Target.App
		n, asked := known[app]
		if !asked {
			s := release.State{FlyApp: need.Target.FlyApp}
			switch err := lookAtMachines(ctx, a.Fly, &s); {
			case errors.Is(err, fly.ErrUnauthorized):
				n = 1
			case err != nil && !errors.Is(err, fly.ErrNotFound):
				return classify(ctx, err)
			default:
				n = len(s.Machines)
			}
			known[app] = n
		}
		if n == 0 {
			specs[need.Spec].Warnings = append(specs[need.Spec].Warnings, need.Warning())
		}
	}
	return nil
}
