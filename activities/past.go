package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// BaselineInput asks for the State that a rollback goes back to.
type BaselineInput struct {
	Project  string           `json:"project"`
	Rollback release.Rollback `json:"rollback"`
	// Places are the project's targets in the environment. A rollback changes no
	// other Fly app.
	Places []Place `json:"places"`
}

// A Past is what an environment ran at some time, as a rollout recorded it.
type Past struct {
	Baselines []release.Baseline `json:"baselines"`
	Said      string             `json:"said"` // which time that was, for people
	Origin    release.Origin     `json:"origin"`
	// Revision is the revision that most of its machines run. Its commit is ""
	// where they do not say.
	Revision release.Revision `json:"revision"`
	// Head is the revision that the environment ran as a whole then, if it did.
	Head   *release.Head `json:"head,omitempty"`
	Closed time.Time     `json:"closed"` // when that rollout closed
	Notes  []string      `json:"notes,omitempty"`
	// Busy: a rollout is open. What there is to go back to is not certain before
	// it is closed.
	Busy bool `json:"busy,omitempty"`
}

// FindBaseline reads, from the histories of earlier rollouts, what the
// environment ran before the newest one, or after the one that is named. It
// fails with KindRefused when there is nothing to go back to, or when no
// history tells.
func (a *Activities) FindBaseline(ctx context.Context, in BaselineInput) (Past, error) {
	defer beat(ctx)()
	past, err := FindPast(ctx, a.temporal(ctx), in)
	if nothing := new(NoPastError); errors.As(err, &nothing) {
		return past, refused(release.KindRefused, err)
	}
	return past, classify(ctx, err)
}

// NoPastError says why a rollback is refused, and what to do next.
type NoPastError struct{ Why string }

func (e *NoPastError) Error() string { return e.Why }

func noPast(format string, args ...any) error { return &NoPastError{fmt.Sprintf(format, args...)} }

// FindPast returns what in.Rollback goes back to. The error is a *NoPastError
// where that is nothing or is not known.
func FindPast(ctx context.Context, c Temporal, in BaselineInput) (Past, error) {
	id := release.RolloutID(in.Project, in.Rollback.Environment)
	newest, err := newestRun(ctx, c, id)
	if err != nil {
		return Past{}, err
	}
	if newest != nil && newest.WorkflowCloseTime == nil {
		return Past{Busy: true}, nil
	}
	runs, err := closedRuns(ctx, c, id)
	if err != nil {
		return Past{}, err
	}
	s := search{c: c, in: in, rollout: id, settled: map[string]bool{}}
	for _, run := range runs {
		past, err := s.visit(ctx, run)
		if err != nil {
			return Past{}, err
		}
		if past != nil {
			return in.checked(ctx, c, *past)
		}
	}
	switch env := in.Rollback.Environment; {
	case in.Rollback.To != "":
		return Past{}, noPast("no history tells what %s left in %s; `release list` shows what there is", in.Rollback.To, env)
	case len(runs) > 0:
		return Past{}, noPast("histories do not go back further than what %s runs now: there is nothing to go back to", env)
	}
	return Past{}, noPast("no release has changed %s yet, as far as histories go back: there is nothing to go back to", in.Rollback.Environment)
}

// A search walks back through the rollouts of an environment, newest first.
type search struct {
	c       Temporal
	in      BaselineInput
	rollout string          // workflow ID
	settled map[string]bool // runs whose baseline a later rollout has brought back or taken over
	// until is what a rollback went back to: what lies between the two is taken
	// back already.
	until *release.Origin
}

// visit returns what the rollback goes back to if this rollout decides it, else
// nil.
func (s *search) visit(ctx context.Context, run pastRun) (*Past, error) {
	wanted := s.in.Rollback.To != ""
	if s.until != nil && !wanted {
		if run.id != s.until.Run {
			return nil, nil
		}
		if s.until.After { // that State was its result: before it is one further back
			s.until = nil
		}
	}
	if !run.reported {
		return s.visitUnreported(ctx, run)
	}
	if outcome, err := run.readOutcome(ctx, s.c, s.rollout); err != nil || outcome.ChangedNothing() {
		return nil, err
	}
	report, err := reportOf(ctx, s.c, s.rollout, run.id)
	if err != nil {
		return nil, err
	}
	if report.Settles != "" {
		s.settled[report.Settles] = true
	}
	if s.until != nil && !wanted {
		s.until = nil
		return nil, nil
	}
	done := report.Outcome == release.Promoted || report.Outcome == release.Restored
	past := Past{Origin: release.Origin{Run: run.id}, Closed: run.closed}
	switch {
	case wanted && done && report.Release == s.in.Rollback.To && len(report.After) > 0:
		past.Origin.After, past.Baselines, past.Head = true, report.After, report.Head
		past.Said = fmt.Sprintf("as %s left it on %s", report.Release, at(run.closed))
	case wanted:
		return nil, nil
	case report.Outcome == release.Restored:
		s.until = report.Restores
		return nil, nil
	case report.Restores != nil, report.Outcome == release.RolledBack:
		return nil, nil // the rollback asked for now aims at the same
	default:
		past.Baselines, past.Head = report.Before, report.HeadBefore
		past.Said = fmt.Sprintf("as it was before %s, on %s", report.Release, at(run.closed))
	}
	if len(past.Baselines) == 0 {
		return nil, s.unreadable(report.Release, run.closed, "it could not record what ran")
	}
	return &past, nil
}

// visitUnreported is visit for a rollout that ended without a report.
func (s *search) visitUnreported(ctx context.Context, run pastRun) (*Past, error) {
	skip := s.until != nil || s.settled[run.id] || s.in.Rollback.To != ""
	s.until = nil
	if skip {
		return nil, nil
	}
	u, err := readUnreported(ctx, s.c, s.rollout, run.id)
	if unread := new(UnreadError); errors.As(err, &unread) {
		return nil, s.unreadable(s.rollout, run.closed, unread.Why)
	}
	switch {
	case err != nil:
		return nil, err
	case !u.Begun, u.Restores != nil:
		return nil, nil
	case len(u.Baselines) == 0:
		return nil, s.unreadable(u.Release, run.closed, "its history does not tell what ran before it")
	}
	return &Past{
		Origin: release.Origin{Run: run.id}, Closed: run.closed, Baselines: u.Baselines, Head: u.Head,
		Said:  fmt.Sprintf("as it was before %s, on %s", u.Release, at(run.closed)),
		Notes: []string{u.Why},
	}, nil
}

func (s *search) unreadable(who string, when time.Time, why string) error {
	return noPast("%s changed %s last (on %s), and what ran before it is not known: %s; --to RELEASE goes back to what an earlier release left there",
		who, s.in.Rollback.Environment, at(when), why)
}

func at(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// checked returns p without targets that had no machines, and with its
// revision. It refuses a State that has no machines, that is about Fly apps of
// somebody else, or that is not what the person was shown.
func (in BaselineInput) checked(ctx context.Context, c Temporal, p Past) (Past, error) {
	var with, foreign []string
	kept := p.Baselines[:0:0]
	for _, b := range p.Baselines {
		own := slices.ContainsFunc(in.Places, func(place Place) bool { return place.FlyApp == b.State.FlyApp })
		switch {
		case len(b.State.Machines) == 0:
			with = append(with, b.State.Target.App)
		case !own:
			foreign = append(foreign, b.State.FlyApp)
		default:
			kept = append(kept, b)
		}
	}
	env := in.Rollback.Environment
	switch {
	case len(foreign) > 0:
		return Past{}, noPast("%s, %s: Fly apps %s are not among those that the files of %s name for %[2]s, so they are not changed; start the rollback at a revision that has them",
			env, p.Said, strings.Join(foreign, ", "), in.Project)
	case len(kept) == 0:
		return Past{}, noPast("%s, %s: no machine ran there, so there is nothing to go back to", env, p.Said)
	case in.Rollback.Shown != nil && *in.Rollback.Shown != p.Origin:
		return Past{}, noPast("%s was changed by somebody else meanwhile, and would go back to something else than what was shown: look at it again", env)
	}
	p.Baselines = kept
	for _, app := range with {
		p.Notes = append(p.Notes, fmt.Sprintf("%s had no machines in %s then: it stays as it is", app, env))
	}
	p.Revision = p.revision(ctx, c)
	return p, nil
}

// revision returns the revision that most machines of p name in their metadata,
// as the release that put it there tells of it.
func (p Past) revision(ctx context.Context, c Temporal) (rev release.Revision) {
	count := map[string]int{}
	by := map[string]string{}
	for _, b := range p.Baselines {
		for _, m := range b.State.Machines {
			count[m.Revision]++
			by[m.Revision] = m.Release
			if m.Revision != "" && count[m.Revision] > count[rev.Commit] {
				rev.Commit = m.Revision
			}
		}
	}
	if by[rev.Commit] == "" {
		return rev
	}
	d, err := c.DescribeWorkflow(ctx, by[rev.Commit], "")
	if err != nil {
		return rev // no longer kept: the commit has to do
	}
	var request release.Request
	memo, ok := d.Memo.GetFields()[release.MemoRequest]
	if ok && stored.FromPayload(memo, &request) == nil && request.Revision.Commit == rev.Commit {
		return request.Revision
	}
	return rev
}
