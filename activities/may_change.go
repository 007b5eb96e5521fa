package activities

import (
	"context"

	"github.com/microbima/release/release"
)

// A Permit has the facts that decide whether a rollout may change its environment.
type Permit struct {
	Pin *release.Pin `json:"pin,omitempty"`
	// Head is the revision that the environment runs as a whole, or nil.
	Head *release.Head `json:"head,omitempty"`
	// Gate is the current gate of the environment.
	Gate *release.Gate `json:"gate,omitempty"`
}

// MayChange returns the pin, the head and the gate of an environment. A rollout calls
// it under the lock, when only an operator can change them.
func (a *Activities) MayChange(ctx context.Context, in EnvironmentRef) (permit Permit, err error) {
	defer startHeartbeat(ctx)()
	if permit.Pin, err = FindPin(ctx, a.temporal(ctx), in); err != nil {
		return permit, classifyError(ctx, err)
	}
	last, err := lastReport(ctx, a.temporal(ctx), in)
	if last != nil {
		permit.Head, permit.Gate = last.Head, last.GateAtRevision
	}
	return permit, classifyError(ctx, err)
}
