package activities

import (
	"context"
	"errors"

	"github.com/microbima/release/release"
)

// Remains is what rollouts without a report have left in an environment since
// the newest one that changed it and has a report.
type Remains struct {
	// Unsettled: one of them changed something, and nobody has looked since.
	Unsettled bool `json:"unsettled,omitempty"`
	// Left is what CloseRollout has to clean up of those that changed nothing.
	Left []CloseInput `json:"left,omitempty"`
}

// ReadRemains returns what rollouts without a report have left in an environment.
// A history that can't be read leaves nothing: no rollout could learn from it.
func (a *Activities) ReadRemains(ctx context.Context, in StandingInput) (Remains, error) {
	defer beat(ctx)()
	before, left, err := unreportedBefore(ctx, a.temporal(ctx), release.RolloutID(in.Project, in.Environment), "", "")
	if unread := new(UnreadError); errors.As(err, &unread) {
		return Remains{}, nil
	}
	return Remains{Unsettled: before != nil, Left: left}, classify(ctx, err)
}

// setApart returns states with the machines in Left that a rollout without a report
// made and that serve nothing.
func (a *Activities) setApart(ctx context.Context, in PlanInput, states []release.State) ([]release.State, error) {
	before, _, err := unreportedBefore(ctx, a.temporal(ctx), release.RolloutID(in.Project.Name, in.Environment), "", "")
	if unread := new(UnreadError); errors.As(err, &unread) || err == nil && before == nil {
		return states, nil
	}
	if err != nil {
		return nil, err
	}
	return release.SetApart(before.Plan, before.Baselines, before.States, states), nil
}
