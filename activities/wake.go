package activities

import (
	"context"

	"go.temporal.io/sdk/activity"

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
// started it, is only waited for. It is safe to call again: what an earlier
// attempt may have started counts as started by it. It fails as ApplyStep does.
func (a *Activities) Wake(ctx context.Context, in StepInput) (Woken, error) {
	defer beat(ctx)()
	m, err := a.find(ctx, in)
	if err != nil {
		return Woken{}, classify(ctx, err)
	}
	woken := Woken{Started: m.State != "started" || activity.GetInfo(ctx).Attempt > 1}
	woken.Machine, err = a.start(ctx, in, m)
	woken.Machine.Config = nil
	return woken, classify(ctx, err)
}
