package activities

import (
	"context"

	"github.com/microbima/release/release"
)

// ObserveInput names the targets to observe.
type ObserveInput struct {
	Targets []TargetRef `json:"targets"`
	// Written has the versions that the rollout wrote: older reads are stale.
	Written Written `json:"written,omitempty"`
}

// Observe returns the state of each target, in their order. It changes nothing.
func (a *Activities) Observe(ctx context.Context, in ObserveInput) ([]release.State, error) {
	ctx, stop := a.beginAttempt(ctx)
	defer stop()
	states, err := a.driver().Observe(ctx, in.Targets, in.Written)
	return states, classifyError(ctx, err)
}
