package activities

import (
	"context"
	"errors"

	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/release"
)

// Start is the state in which a rollout starts.
type Start struct {
	States []release.State `json:"states"`
	// Before is the previous rollout if it changed something and ended without a
	// report.
	Before *Unreported `json:"before,omitempty"`
	// ToClose has the inputs of CloseRollout for unreported rollouts that changed
	// nothing.
	ToClose []CloseInput `json:"to_close,omitempty"`
	// UnreadRollout names an earlier unreported rollout whose history cannot be read,
	// and the reason.
	UnreadRollout string `json:"unread_rollout,omitempty"`
	// LaterRollout is the rollout that has changed the environment since the followed
	// rollout ended.
	LaterRollout *LaterRollout `json:"later_rollout,omitempty"`
}

// LaterRollout is a rollout that reported a change.
type LaterRollout struct {
	Release         string          `json:"release"` // workflow ID of the release it belonged to
	Outcome         release.Outcome `json:"outcome"`
	EndOfUnreported string          `json:"end_of_unreported"` // how the unreported rollout ended
}

// StartInput names the targets of a rollout, and the run ID of the unreported rollout
// that it follows.
type StartInput struct {
	Targets []TargetRef `json:"targets"`
	// Written has the versions that leased machines had: the states are not older.
	Written        Written `json:"written,omitempty"`
	PredecessorRun string  `json:"predecessor_run,omitempty"`
}

// RecordBaseline returns the state of the targets before the first change, and the
// previous rollout if it ended without a report. If the rollout ends without a report,
// later ones read this result from its history. It changes nothing.
func (a *Activities) RecordBaseline(ctx context.Context, in StartInput) (start Start, err error) {
	ctx, stop := a.beginAttempt(ctx)
	defer stop()
	self := activity.GetInfo(ctx).WorkflowExecution
	g, all := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		start.States, err = a.driver().Observe(all, in.Targets, in.Written)
		return classifyError(all, err)
	})
	g.Go(func() error {
		before, left, err := findUnreported(all, a.temporal(ctx), self.ID, self.RunID, in.PredecessorRun)
		if unread := new(UnreadError); errors.As(err, &unread) {
			start.UnreadRollout, start.LaterRollout = unread.Error(), unread.LaterRollout
			return nil
		}
		start.Before, start.ToClose = before, left
		return classifyError(all, err)
	})
	if err := g.Wait(); err != nil || start.Before == nil {
		return start, err
	}
	err = a.driver().RereadStale(ctx, start.States, start.Before.Written)
	return start, classifyError(ctx, err)
}
