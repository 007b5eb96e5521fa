package activities

import (
	"context"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// StepInput is one step with the facts that it needs.
type StepInput struct {
	Step    release.Step      `json:"step"`
	Stamp   map[string]string `json:"stamp,omitempty"`   // metadata that names the release
	Holder  string            `json:"holder,omitempty"`  // description of the rollout's leases
	Nonce   string            `json:"nonce,omitempty"`   // of the lease on the machine; "": it has none
	Secrets uint64            `json:"secrets,omitempty"` // version of the secrets that the machine must see
	Retries int               `json:"retries,omitempty"` // how often an operator chose to retry the step
	ID      string            `json:"id,omitempty"`      // of the machine that the step names by its planned name, once it exists
	Written string            `json:"written,omitempty"` // version that the rollout gave the machine last
}

// A StepResult is the machine after the step, without its config, and the result of a
// release command.
type StepResult struct {
	release.Machine
	Ran *release.CommandResult `json:"ran,omitempty"`
}

// ApplyStep executes one step on one machine with driver.Apply. It fails with
// KindConflict, KindFailure, KindHostFull or KindPermanent.
func (a *Activities) ApplyStep(ctx context.Context, in StepInput) (StepResult, error) {
	ctx, stop := a.beginWaitingAttempt(ctx)
	defer stop()
	result, err := a.driver().Apply(ctx, driver.Change(in))
	result.Machine.Config = release.Config{}
	return StepResult{result.Machine, result.Command}, classifyError(ctx, err)
}
