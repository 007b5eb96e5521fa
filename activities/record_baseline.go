package activities

import (
	"context"
	"errors"

	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/release"
)

// Start is what a rollout starts from.
type Start struct {
	States []release.State `json:"states"`
	// Before is the rollout before this one, where it ended without a report
	// after its first change.
	Before *Unreported `json:"before,omitempty"`
	// Left is what CloseRollout has to clean up of rollouts without a report that
	// changed nothing.
	Left []CloseInput `json:"left,omitempty"`
	// Unread names a rollout before this one that ended without a report that
	// could be read, and why not.
	Unread string `json:"unread,omitempty"`
	// Since is the rollout that has changed the environment since the one that
	// this rollout follows ended.
	Since *Since `json:"since,omitempty"`
}

// Since is a rollout that reported a change.
type Since struct {
	Release string          `json:"release"` // workflow ID of the release it belonged to
	Outcome release.Outcome `json:"outcome"`
	Lost    string          `json:"lost"` // how the rollout ended that had no report
}

// StartInput names the targets of a rollout, and the run that it follows where
// that is known to have ended without a report.
type StartInput struct {
	Targets []TargetRef `json:"targets"`
	Follows string      `json:"follows,omitempty"`
}

// RecordBaseline returns what the targets run before the first change, and the
// rollout before this one if it ended without a report. Its result is read from the
// history of a rollout that ended without a report. It changes nothing.
func (a *Activities) RecordBaseline(ctx context.Context, in StartInput) (start Start, err error) {
	ctx, stop := a.begin(ctx)
	defer stop()
	self := activity.GetInfo(ctx).WorkflowExecution
	g, all := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		start.States, err = a.driver().Observe(all, in.Targets, nil)
		return classify(all, err)
	})
	g.Go(func() error {
		before, left, err := unreportedBefore(all, a.temporal(ctx), self.ID, self.RunID, in.Follows)
		if unread := new(UnreadError); errors.As(err, &unread) {
			start.Unread, start.Since = unread.Error(), unread.Since
			return nil
		}
		start.Before, start.Left = before, left
		return classify(all, err)
	})
	err = g.Wait()
	return start, err
}
