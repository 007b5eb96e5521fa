package activities

import (
	"context"
	"slices"

	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/release"
)

// A Woken is a machine that was started for a look.
type Woken struct {
	Machine release.Machine `json:"machine"` // without its config
	// Started: it was stopped, and has to be stopped again after the look.
	Started bool `json:"started"`
}

// Wake starts the stopped machine of a step for a look, and waits until it is
// started and its checks pass. A machine that runs already, as Fly's proxy has
// started it, is only waited for. It is safe to call again: an idle machine that an
// earlier attempt may have started counts as started by it. It fails as ApplyStep does.
func (a *Activities) Wake(ctx context.Context, in StepInput) (Woken, error) {
	defer beat(ctx)()
	m, err := a.find(ctx, in)
	if err != nil {
		return Woken{}, classify(ctx, err)
	}
	woken := Woken{Started: !Seen(m).Running() || in.Step.Idle && activity.GetInfo(ctx).Attempt > 1}
	woken.Machine, err = a.start(ctx, in, m)
	woken.Machine.Config = nil
	return woken, classify(ctx, err)
}

// putToSleep stops the machines of these steps. One that is gone is left out.
func (a *Activities) putToSleep(ctx context.Context, steps []StepInput) error {
	var g errgroup.Group
	g.SetLimit(TargetsAtOnce)
	for _, in := range steps {
		g.Go(func() error {
			m, err := a.locate(ctx, in)
			if isGone(err) {
				return nil
			}
			if err == nil {
				_, err = a.stop(ctx, in, m)
			}
			return err
		})
	}
	return g.Wait()
}

// woke notes that the machine of wake may have been started for a look.
func (in *CloseInput) woke(wake StepInput) {
	in.slept(wake)
	wake.Step.Verb = release.Stop
	in.Woken = append(in.Woken, wake)
}

// slept notes that the machine of step was stopped again, or was not started.
func (in *CloseInput) slept(step StepInput) {
	in.Woken = slices.DeleteFunc(in.Woken, func(w StepInput) bool {
		return w.Step.FlyApp == step.Step.FlyApp && w.Step.Machine == step.Step.Machine
	})
}
