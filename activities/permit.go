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

// MayChange returns the pin of an environment, its head and its gate. A rollout
// asks under the lock: nobody changes them then, except people, who set pins.
func (a *Activities) MayChange(ctx context.Context, in StandingInput) (permit Permit, err error) {
	defer beat(ctx)()
	if permit.Pin, err = a.readPin(ctx, in); err != nil {
		return permit, err
	}
	last, err := a.lastReport(ctx, in)
	if last != nil {
		permit.Head, permit.Gate = last.Head, last.Gate
	}
	return permit, err
}
