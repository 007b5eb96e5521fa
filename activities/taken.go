package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/release"
)

// takenLimit is how long a rollback waits for the commits that it takes away.
const takenLimit = 10 * time.Second

// TakenAway returns the commits that a rollback to in.Revision takes away from what
// the environment runs, and those that it brings. The relation is empty: a rollback
// is exempt from order. It never fails: where git or Temporal can't be read, Why says so.
func (a *Activities) TakenAway(ctx context.Context, in LineageInput) (release.Lineage, error) {
	unknown := release.Lineage{Running: in.Running}
	last, err := a.lastReport(ctx, in.StandingInput)
	if err != nil {
		unknown.Why = "the reports of earlier rollouts could not be read: " + err.Error()
		return unknown, nil
	}
	var head *release.Head
	if last != nil {
		head = last.Head
	}
	compared := head.Compared(in.Running)
	if len(compared) == 0 || in.Revision.Commit == "" {
		return unknown, nil
	}
	asking, cancel := context.WithTimeout(ctx, takenLimit)
	defer cancel()
	found, err := a.Git.Lineage(asking, in.Repository, in.Revision.Commit, compared)
	if err != nil {
		activity.GetLogger(ctx).Warn("commits that a rollback takes away not known", "environment", in.Environment, "error", err)
		unknown.Why = "the repository could not be read: " + err.Error()
		return unknown, nil
	}
	return found.OfRollback(in.Running), nil
}
