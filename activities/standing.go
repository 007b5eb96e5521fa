package activities

import (
	"context"
	"errors"

	"github.com/microbima/release/release"
)

// GateInput is a plan that may have to be approved.
type GateInput struct {
	EnvironmentRef
	Gate          *release.Gate     `json:"gate,omitempty"` // of the environment, at the revision
	Lineage       release.Lineage   `json:"lineage"`
	Skipped       []release.Skipped `json:"skipped,omitempty"`
	AllowDiverged bool              `json:"allow_diverged,omitempty"`
	Rollback      bool              `json:"rollback,omitempty"`
	Emergency     bool              `json:"emergency,omitempty"` // a rollback that passes the gate
	// Follows is the run ID of a rollout of the same release without a report.
	Follows string `json:"follows,omitempty"`
}

// A Standing is what binds a release in an environment.
type Standing struct {
	Pin *release.Pin `json:"pin,omitempty"`
	// Gate is what the plan has to pass; nil: it needs no approval.
	Gate *release.Gate `json:"gate,omitempty"`
	// Because is why that is more than the environment's own gate.
	Because []string `json:"because,omitempty"`
	// Then is the gate that the environment has once the plan is carried out.
	Then *release.Gate `json:"then,omitempty"`
	// Unread names a rollout that ended without a report that can be read.
	Unread string `json:"unread,omitempty"`
}

// Standing reads the pin of an environment and the gate that it had until now,
// and returns which gate the plan has to pass.
func (a *Activities) Standing(ctx context.Context, in GateInput) (standing Standing, err error) {
	defer heartbeat(ctx)()
	c := a.temporal(ctx)
	if standing.Pin, err = FindPin(ctx, c, in.EnvironmentRef); err != nil {
		return standing, classify(ctx, err)
	}
	last, err := lastReport(ctx, c, in.EnvironmentRef)
	if err != nil {
		return standing, classify(ctx, err)
	}
	var before *release.Gate
	if last != nil {
		before = last.Gate
	}
	standing.Then = in.Gate
	if in.Rollback {
		standing.Then = before
	}
	if in.Emergency || in.Lineage.Relation == release.Backward { // a backward plan is never carried out
		return standing, nil
	}
	if !in.Rollback { // an operator has named what a rollback restores
		if standing.Unread, err = unreadBefore(ctx, c, in); err != nil {
			return standing, classify(ctx, err)
		}
	}
	standing.Gate, standing.Because = release.GateOf(release.Asking{
		Gate: in.Gate, Before: before, Lineage: in.Lineage, Skipped: in.Skipped, AllowDiverged: in.AllowDiverged, Unread: standing.Unread,
	})
	return standing, nil
}

// unreadBefore returns which rollout before the next one ended without a report that
// can be read, and why not, or "".
func unreadBefore(ctx context.Context, c Temporal, in GateInput) (string, error) {
	_, _, err := unreportedBefore(ctx, c, release.RolloutID(in.Project, in.Environment), "", in.Follows)
	unread := new(UnreadError)
	switch {
	case !errors.As(err, &unread):
		return "", err
	case unread.Since != nil: // a later rollout has settled it
		return "", nil
	}
	return unread.Error(), nil
}
