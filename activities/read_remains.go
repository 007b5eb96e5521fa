package activities

import (
	"context"
	"errors"

	"github.com/microbima/release/release"
)

// Remains has the remains of unreported rollouts in an environment since the newest
// reported rollout that changed it.
type Remains struct {
	// Unsettled: one of them changed something that was not verified since.
	Unsettled bool `json:"unsettled,omitempty"`
	// ToClose has the inputs of CloseRollout for those that changed nothing.
	ToClose []CloseInput `json:"to_close,omitempty"`
}

// ReadRemains returns the remains of unreported rollouts in an environment. It returns
// none if a history cannot be read, because no rollout could use them.
func (a *Activities) ReadRemains(ctx context.Context, in EnvironmentRef) (Remains, error) {
	defer startHeartbeat(ctx)()
	before, left, err := findUnreported(ctx, a.temporal(ctx), release.RolloutID(in.Project, in.Environment), "", "")
	if unread := new(UnreadError); errors.As(err, &unread) {
		return Remains{}, nil
	}
	return Remains{Unsettled: before != nil, ToClose: left}, classifyError(ctx, err)
}
