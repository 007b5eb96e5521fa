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

// BaselineInput names the rollback whose state FindBaseline finds.
type BaselineInput struct {
	Project  string           `json:"project"`
	Rollback release.Rollback `json:"rollback"`
	// Targets are the project's targets in the environment. A rollback changes no
	// other Fly app.
	Targets []TargetRef `json:"targets"`
}

// A PastState is the state of an environment at an earlier time, as a rollout recorded
// it.
type PastState struct {
	Baselines []release.Baseline `json:"baselines"`
	Text      string             `json:"text"` // describes that time to the operator
	Origin    release.StateRef   `json:"origin"`
	// Revision is the revision of most of its machines. Its commit is "" if their
	// metadata has none.
	Revision release.Revision `json:"revision"`
	// Head is the head of the environment at that time, or nil.
	Head   *release.Head `json:"head,omitempty"`
	Closed time.Time     `json:"closed"` // when that rollout closed
	Notes  []string      `json:"notes,omitempty"`
	// Busy: a rollout is open, so the state to restore is not certain yet.
	Busy bool `json:"busy,omitempty"`
}

// FindBaseline reads from the histories of earlier rollouts the state before the newest
// one, or after the named one. It fails with KindPermanent if there is no such state.
func (a *Activities) FindBaseline(ctx context.Context, in BaselineInput) (PastState, error) {
	defer startHeartbeat(ctx)()
	past, err := FindPastState(ctx, a.temporal(ctx), in)
	if nothing := new(NoPastStateError); errors.As(err, &nothing) {
		return past, permanentError(release.KindPermanent, err)
	}
	return past, classifyError(ctx, err)
}

// A NoPastStateError is the reason why a rollback is refused, and what to do next.
type NoPastStateError struct{ Why string }

func (e *NoPastStateError) Error() string { return e.Why }

func noPastState(format string, args ...any) error {
	return &NoPastStateError{fmt.Sprintf(format, args...)}
}

// FindPastState returns the state that in.Rollback restores. It returns a
// *NoPastStateError if no such state exists or is known.
func FindPastState(ctx context.Context, c Temporal, in BaselineInput) (PastState, error) {
	id := release.RolloutID(in.Project, in.Rollback.Environment)
	newest, err := newestRun(ctx, c, id)
	if err != nil {
		return PastState{}, err
	}
	if newest != nil && newest.WorkflowCloseTime == nil {
		return PastState{Busy: true}, nil
	}
	runs, err := closedRuns(ctx, c, id)
	if err != nil {
		return PastState{}, err
	}
	s := pastSearch{c: c, in: in, rollout: id, settled: map[string]bool{}}
	for _, run := range runs {
		past, err := s.visitRun(ctx, run)
		if err != nil {
			return PastState{}, err
		}
		if past != nil {
			return in.checkPastState(ctx, c, *past)
		}
	}
	switch env := in.Rollback.Environment; {
	case in.Rollback.To != "":
		return PastState{}, noPastState("no history tells what %s left in %s; `release list` shows what there is", in.Rollback.To, env)
	case len(runs) > 0:
		return PastState{}, noPastState("histories do not go back further than what %s runs now: there is nothing to go back to", env)
	}
	return PastState{}, noPastState("no release has changed %s yet, as far as histories go back: there is nothing to go back to", in.Rollback.Environment)
}

// checkPastState returns p without targets that had no machines, and with its revision.
// It returns a *NoPastStateError if p has no machines, has Fly apps of other projects,
// or is not the state that the operator was shown.
func (in BaselineInput) checkPastState(ctx context.Context, c Temporal, p PastState) (PastState, error) {
	var empty, foreign []string
	kept := p.Baselines[:0:0]
	for _, b := range p.Baselines {
		own := slices.ContainsFunc(in.Targets, func(t TargetRef) bool { return t.FlyApp == b.State.FlyApp })
		switch {
		case len(b.State.Machines) == 0:
			empty = append(empty, b.State.Target.App)
		case !own:
			foreign = append(foreign, b.State.FlyApp)
		default:
			kept = append(kept, b)
		}
	}
	env := in.Rollback.Environment
	switch {
	case len(foreign) > 0:
		return PastState{}, noPastState("%s, %s: Fly apps %s are not among those that the files of %s name for %[2]s, so they are not changed; start the rollback at a revision that has them",
			env, p.Text, strings.Join(foreign, ", "), in.Project)
	case len(kept) == 0:
		return PastState{}, noPastState("%s, %s: no machine ran there, so there is nothing to go back to", env, p.Text)
	case in.Rollback.ExpectedState != nil && *in.Rollback.ExpectedState != p.Origin:
		return PastState{}, noPastState("%s has changed since the rollback was shown, and the rollback would restore another state: look at it again", env)
	}
	p.Baselines = kept
	for _, app := range empty {
		p.Notes = append(p.Notes, fmt.Sprintf("%s had no machines in %s then: it stays as it is", app, env))
	}
	p.Revision = p.findRevision(ctx, c)
	return p, nil
}

// findRevision returns the revision that most machines of p have in their metadata. If
// the release still exists, it returns the revision of its request, with the subject.
func (p PastState) findRevision(ctx context.Context, c Temporal) (rev release.Revision) {
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
		return rev // the release is no longer kept, so only the commit is known
	}
	var request release.Request
	memo, ok := d.Memo.GetFields()[release.MemoRequest]
	if ok && stored.FromPayload(memo, &request) == nil && request.Revision.Commit == rev.Commit {
		return request.Revision
	}
	return rev
}
