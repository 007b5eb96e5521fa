package activities

import (
	"context"
	"slices"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// A StartedMachine is a machine that was started for verification.
type StartedMachine struct {
	Machine release.Machine `json:"machine"` // without its config
	// Started: the machine was stopped before, and must be stopped again.
	Started bool `json:"started"`
}

// Wake starts the stopped machine of a step for verification, with driver.Wake. It
// fails as ApplyStep does.
func (a *Activities) Wake(ctx context.Context, in StepInput) (woken StartedMachine, err error) {
	ctx, stop := a.beginAttempt(ctx)
	defer stop()
	woken.Machine, woken.Started, err = a.driver().Wake(ctx, driver.Change(in))
	woken.Machine.Config = release.Config{}
	return woken, classifyError(ctx, err)
}

// addWoken records that the machine of wake may run for verification only.
func (in *CloseInput) addWoken(wake StepInput) {
	in.removeWoken(wake)
	wake.Step.Verb = release.Stop
	in.VerificationStarts = append(in.VerificationStarts, wake)
}

// removeWoken records that the machine of step was stopped again, or was not started.
func (in *CloseInput) removeWoken(step StepInput) {
	in.VerificationStarts = slices.DeleteFunc(in.VerificationStarts, func(w StepInput) bool {
		return w.Step.FlyApp == step.Step.FlyApp && w.Step.Machine == step.Step.Machine
	})
}
