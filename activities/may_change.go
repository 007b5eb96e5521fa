package activities

import (
	"context"

	"github.com/microbima/release/release"
)

// A Permit is what binds a rollout that holds the lock of its environment.
type Permit struct {
	Pin *release.Pin `json:"pin,omitempty"`
	// Head is the revision that the environment runs as a whole, if it does.
	Head *release.Head `json:"head,omitempty"`
	// Gate is the gate that the environment has until now.
	Gate *release.Gate `json:"gate,omitempty"`
}

// MayChange returns the pin of an environment, its head and its gate. A rollout calls
// it under the lock: only operators, who set pins, change any of them then.
func (a *Activities) MayChange(ctx context.Context, in EnvironmentRef) (permit Permit, err error) {
	defer heartbeat(ctx)()
	if permit.Pin, err = FindPin(ctx, a.temporal(ctx), in); err != nil {
		return permit, classify(ctx, err)
	}
	last, err := lastReport(ctx, a.temporal(ctx), in)
	if last != nil {
		permit.Head, permit.Gate = last.Head, last.Gate
	}
	return permit, classify(ctx, err)
}
