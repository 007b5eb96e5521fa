package activities

import (
	"context"
	"errors"

	"github.com/microbima/release/release"
)

// Remains has the remains of unreported rollouts in an environment since the newest
// reported rollout that changed it.
type Remains struct {
	// Unsettled: one of them changed something that was not verified since, or its
	// history, which would tell that, cannot be read.
	Unsettled bool `json:"unsettled,omitempty"`
	// ToClose has the inputs of CloseRollout for those that changed nothing.
	ToClose []CloseInput `json:"to_close,omitempty"`
}

// ReadRemains returns the remains of unreported rollouts in an environment.
func (a *Activities) ReadRemains(ctx context.Context, in EnvironmentRef) (Remains, error) {
	defer startHeartbeat(ctx)()
	before, left, err := findUnreported(ctx, a.temporal(ctx), release.RolloutID(in.Project, in.Environment), "", "")
	if unread := new(UnreadError); errors.As(err, &unread) {
		return Remains{Unsettled: unread.LaterRollout == nil}, nil
	}
	return Remains{Unsettled: before != nil, ToClose: left}, classifyError(ctx, err)
}
