package activities

import (
	"context"

	"github.com/microbima/release/release"
)

// ObserveInput names the targets to observe.
type ObserveInput struct {
	Targets []TargetRef `json:"targets"`
	// Written are versions that machines were given: what is older is stale.
	Written Written `json:"written,omitempty"`
}

// Observe returns what each target runs, in their order. It changes nothing.
func (a *Activities) Observe(ctx context.Context, in ObserveInput) ([]release.State, error) {
	ctx, stop := a.begin(ctx)
	defer stop()
	states, err := a.driver().Observe(ctx, in.Targets, in.Written)
	return states, classify(ctx, err)
}
