package activities

import (
	"context"
	"errors"

	"github.com/microbima/release/release"
)

// GateInput describes a plan that may need an approval.
type GateInput struct {
	EnvironmentRef
	Gate          *release.Gate     `json:"gate,omitempty"` // of the environment at the revision
	Lineage       release.Lineage   `json:"lineage"`
	Skipped       []release.Skipped `json:"skipped,omitempty"`
	AllowDiverged bool              `json:"allow_diverged,omitempty"`
	Rollback      bool              `json:"rollback,omitempty"`
	Emergency     bool              `json:"emergency,omitempty"` // an emergency rollback skips the gate
	// PredecessorRun is the run ID of a rollout of the same release without a report.
	PredecessorRun string `json:"predecessor_run,omitempty"`
}

// A Standing has the pin of an environment and the gate of a plan.
type Standing struct {
	Pin *release.Pin `json:"pin,omitempty"`
	// Gate is the gate that the plan has to pass, or nil.
	Gate *release.Gate `json:"gate,omitempty"`
	// Reasons has the reasons if Gate demands more than the environment's own gate.
	Reasons []string `json:"reasons,omitempty"`
	// GateAtRevision is the gate of the environment after the plan.
	GateAtRevision *release.Gate `json:"gate_at_revision,omitempty"`
	// UnreadRollout names an unreported rollout whose history cannot be read.
	UnreadRollout string `json:"unread_rollout,omitempty"`
}

// ReadStanding reads the pin and the current gate of an environment, and returns the gate
// that the plan has to pass.
func (a *Activities) ReadStanding(ctx context.Context, in GateInput) (standing Standing, err error) {
	defer startHeartbeat(ctx)()
	c := a.temporal(ctx)
	if standing.Pin, err = FindPin(ctx, c, in.EnvironmentRef); err != nil {
		return standing, classifyError(ctx, err)
	}
	last, err := lastReport(ctx, c, in.EnvironmentRef)
	if err != nil {
		return standing, classifyError(ctx, err)
	}
	var before *release.Gate
	if last != nil {
		before = last.GateAtRevision
	}
	standing.GateAtRevision = in.Gate
	if in.Rollback {
		standing.GateAtRevision = before
	}
	if in.Emergency || in.Lineage.Relation == release.Backward { // a backward plan is never executed
		return standing, nil
	}
	if !in.Rollback { // for a rollback, an operator has chosen the state
		if standing.UnreadRollout, err = unreadBefore(ctx, c, in); err != nil {
			return standing, classifyError(ctx, err)
		}
	}
	standing.Gate, standing.Reasons = release.RequiredGate(release.GateInput{
		Gate: in.Gate, PreviousGate: before, Lineage: in.Lineage, Skipped: in.Skipped, AllowDiverged: in.AllowDiverged, UnreadRollout: standing.UnreadRollout,
	})
	return standing, nil
}

// unreadBefore returns which earlier rollout ended without a readable report, and why,
// or "".
func unreadBefore(ctx context.Context, c Temporal, in GateInput) (string, error) {
	_, _, err := findUnreported(ctx, c, release.RolloutID(in.Project, in.Environment), "", in.PredecessorRun)
	unread := new(UnreadError)
	switch {
	case !errors.As(err, &unread):
		return "", err
	case unread.LaterRollout != nil: // a later rollout has settled it
		return "", nil
	}
	return unread.Error(), nil
}
