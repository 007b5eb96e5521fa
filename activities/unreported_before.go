package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// An UnreadError is a rollout without a report whose history cannot be read, or is of
// no use any more.
type UnreadError struct {
	Rollout, Run, Why string
	Since             *Since // that has changed the environment since
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("%s (run %s): %s", e.Rollout, e.Run, e.Why)
}

// unreportedBefore returns the newest closed rollout with that ID, other than the run
// self, if it changed something and ended without a report; else nil. left is what the
// runs without a report since then left on Fly. A caller that follows a
// run without a report gets that run, or the one that it followed itself, even if
// it changed nothing.
func unreportedBefore(ctx context.Context, c Temporal, id, self, follows string) (before *Unreported, left []CloseInput, err error) {
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

// followedRun returns the run follows if it changed something, else the run that it
// followed itself. left has what runs that changed nothing left on Fly.
func followedRun(ctx context.Context, c Temporal, id, follows string, left []CloseInput) (*Unreported, []CloseInput, error) {
	for follows != "" {
		u, err := readUnreported(ctx, c, id, follows)
		if err != nil || u.Begun || u.Follows == "" {
			return &u, left, err
		}
		left, follows = append(left, u.Close), u.Follows
	}
	return nil, left, nil
}

// changedSince returns as an UnreadError that run has changed the environment
// since the run follows ended without a report.
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
		Since: &Since{Release: report.Release, Outcome: report.Outcome, Lost: cmp.Or(u.Why, id+" ended without a report")},
	}
}
