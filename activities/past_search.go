package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/microbima/release/release"
)

// A pastSearch walks back through the rollouts of an environment, newest first.
type pastSearch struct {
	c       Temporal
	in      BaselineInput
	rollout string          // workflow ID
	settled map[string]bool // runs whose baseline a later rollout has restored or taken over
	// until is the state that a rollback restored: the rollouts after it are rolled
	// back already.
	until *release.StateRef
}

// visitRun returns the state to restore if this run determines it, otherwise nil.
func (s *pastSearch) visitRun(ctx context.Context, run pastRun) (*PastState, error) {
	wanted := s.in.Rollback.To != ""
	if s.until != nil && !wanted {
		if run.id != s.until.Run {
			return nil, nil
		}
		if s.until.After { // that state was the result of this run, so this run counts
			s.until = nil
		}
	}
	if !run.reported {
		return s.visitUnreported(ctx, run)
	}
	if outcome, err := run.readOutcome(ctx, s.c, s.rollout); err != nil || outcome.ChangedNothing() {
		return nil, err
	}
	report, err := readReport(ctx, s.c, s.rollout, run.id)
	if err != nil {
		return nil, err
	}
	if report.BaselineRun != "" {
		s.settled[report.BaselineRun] = true
	}
	if s.until != nil && !wanted {
		s.until = nil
		return nil, nil
	}
	return s.fromReport(report, run)
}

// fromReport returns the state to restore if the run with that report determines it,
// otherwise nil.
func (s *pastSearch) fromReport(report release.Report, run pastRun) (*PastState, error) {
	wanted := s.in.Rollback.To != ""
	done := report.Outcome == release.Promoted || report.Outcome == release.Restored
	past := PastState{Origin: release.StateRef{Run: run.id}, Closed: run.closed}
	switch {
	case wanted && done && report.Release == s.in.Rollback.To && len(report.After) > 0:
		past.Origin.After, past.Baselines, past.Head = true, report.After, report.Head
		past.Text = fmt.Sprintf("as %s left it on %s", report.Release, formatTime(run.closed))
	case wanted:
		return nil, nil
	case report.Outcome == release.Restored:
		s.until = report.Restores
		return nil, nil
	case report.Restores != nil, report.Outcome == release.RolledBack:
		return nil, nil // the state to restore is from before an earlier run
	default:
		past.Baselines, past.Head = report.Before, report.PreviousHead
		past.Text = fmt.Sprintf("as it was before %s, on %s", report.Release, formatTime(run.closed))
	}
	if len(past.Baselines) == 0 {
		return nil, s.unreadableError(report.Release, run.closed, "it could not record what ran")
	}
	return &past, nil
}

// visitUnreported is visitRun for a rollout that ended without a report.
func (s *pastSearch) visitUnreported(ctx context.Context, run pastRun) (*PastState, error) {
	skip := s.until != nil || s.settled[run.id] || s.in.Rollback.To != ""
	s.until = nil
	if skip {
		return nil, nil
	}
	u, err := readUnreported(ctx, s.c, s.rollout, run.id)
	if unread := new(UnreadError); errors.As(err, &unread) {
		return nil, s.unreadableError(s.rollout, run.closed, unread.Why)
	}
	switch {
	case err != nil:
		return nil, err
	case !u.Begun, u.Restores != nil:
		return nil, nil
	case len(u.Baselines) == 0:
		return nil, s.unreadableError(u.Release, run.closed, "its history does not tell what ran before it")
	}
	return &PastState{
		Origin: release.StateRef{Run: run.id}, Closed: run.closed, Baselines: u.Baselines, Head: u.Head,
		Text:  fmt.Sprintf("as it was before %s, on %s", u.Release, formatTime(run.closed)),
		Notes: []string{u.Why},
	}, nil
}

// unreadableError returns the error of a run whose baseline is not known.
func (s *pastSearch) unreadableError(who string, when time.Time, why string) error {
	return noPastState("%s changed %s last (on %s), and what ran before it is not known: %s; --to RELEASE goes back to what an earlier release left there",
		who, s.in.Rollback.Environment, formatTime(when), why)
}

func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
