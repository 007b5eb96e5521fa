package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// An UnreadError is an unreported rollout whose history cannot be read, or no longer
// matters.
type UnreadError struct {
	Rollout, Run, Why string
	LaterRollout      *LaterRollout // the rollout that changed the environment since, or nil
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("%s (run %s): %s", e.Rollout, e.Run, e.Why)
}

// findUnreported returns the newest closed rollout with that ID, other than the run
// self, if it changed something and ended without a report; otherwise nil. left has the
// inputs of CloseRollout for the unreported runs since then. With follows it returns
// that run, or the run that it followed itself, even if it changed nothing.
func findUnreported(ctx context.Context, c Temporal, id, self, follows string) (before *Unreported, left []CloseInput, err error) {
	runs, err := closedRuns(ctx, c, id)
	if err != nil {
		return nil, nil, err
	}
	for _, run := range runs {
		if run.id == self {
			continue
		}
		if run.id == follows {
			break
		}
		if run.reported {
			outcome, err := run.readOutcome(ctx, c, id)
			switch {
			case err != nil:
				return nil, nil, err
			case outcome.ChangedNothing():
				continue
			case follows == "":
				return nil, left, nil
			}
			return nil, left, changedSince(ctx, c, id, run, follows)
		}
		u, err := readUnreported(ctx, c, id, run.id)
		if err != nil {
			return nil, nil, err
		}
		if u.Begun {
			return &u, left, nil
		}
		left = append(left, u.Close)
	}
	return followedRun(ctx, c, id, follows, left)
}

// followedRun returns the run follows if it changed something, otherwise the run that
// it followed itself. It adds the runs that changed nothing to left.
func followedRun(ctx context.Context, c Temporal, id, follows string, left []CloseInput) (*Unreported, []CloseInput, error) {
	for follows != "" {
		u, err := readUnreported(ctx, c, id, follows)
		if err != nil || u.Begun || u.PredecessorRun == "" {
			return &u, left, err
		}
		left, follows = append(left, u.Close), u.PredecessorRun
	}
	return nil, left, nil
}

// changedSince returns an UnreadError: run has changed the environment since the run
// follows ended without a report.
func changedSince(ctx context.Context, c Temporal, id string, run pastRun, follows string) error {
	report, err := readReport(ctx, c, id, run.id)
	if err != nil {
		return err
	}
	u, err := readUnreported(ctx, c, id, follows)
	if unread := new(UnreadError); err != nil && !errors.As(err, &unread) {
		return err
	}
	return &UnreadError{
		Rollout: id, Run: follows, Why: "another rollout has changed the environment since",
		LaterRollout: &LaterRollout{Release: report.Release, Outcome: report.Outcome, EndOfUnreported: cmp.Or(u.Why, id+" ended without a report")},
	}
}
