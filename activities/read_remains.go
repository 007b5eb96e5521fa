package activities

import (
	"context"
	"errors"

	"github.com/microbima/release/release"
)

// Remains is what rollouts without a report have left in an environment since the
// newest one that changed it and has a report.
type Remains struct {
	// Unsettled: one of them changed something, and it was not verified since.
	Unsettled bool `json:"unsettled,omitempty"`
	// Left is what CloseRollout has to clean up of those that changed nothing.
	Left []CloseInput `json:"left,omitempty"`
}

// ReadRemains returns what rollouts without a report have left in an environment. If a
// history cannot be read it returns nothing: no rollout could use it.
func (a *Activities) ReadRemains(ctx context.Context, in EnvironmentRef) (Remains, error) {
	defer heartbeat(ctx)()
	before, left, err := unreportedBefore(ctx, a.temporal(ctx), release.RolloutID(in.Project, in.Environment), "", "")
	if unread := new(UnreadError); errors.As(err, &unread) {
		return Remains{}, nil
	}
	return Remains{Unsettled: before != nil, Left: left}, classify(ctx, err)
}
