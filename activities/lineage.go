package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/release"
)

// lineageAttempts is how often the repository is asked before the lineage is
// unknown; each time for at most lineageLimit.
const (
	lineageAttempts = 5
	lineageLimit    = time.Minute
)

// LineageInput is a revision, and what an environment runs.
type LineageInput struct {
	Source
	StandingInput
	Running []string `json:"running,omitempty"` // commits that machines name
}

// A Descent is a lineage, and the head of the environment that it was found with.
type Descent struct {
	Lineage release.Lineage `json:"lineage"`
	Head    *release.Head   `json:"head,omitempty"`
}

// Lineage returns how the revision relates to what the environment runs, by
// ancestry. A repository that stays unreachable makes it unknown.
func (a *Activities) Lineage(ctx context.Context, in LineageInput) (descent Descent, err error) {
	defer beat(ctx)()
	last, err := a.lastReport(ctx, in.StandingInput)
	if err != nil {
		return descent, err
	}
	if last != nil {
		descent.Head = last.Head
	}
	descent.Lineage, err = a.lineage(ctx, in.Source, descent.Head.Compared(in.Running))
	descent.Lineage.Running = in.Running
	return descent, err
}

func (a *Activities) lineage(ctx context.Context, source Source, running []string) (release.Lineage, error) {
	if len(running) == 0 {
		return release.Lineage{Relation: release.Forward}, nil
	}
	asking, cancel := context.WithTimeout(ctx, lineageLimit)
	defer cancel()
	lineage, err := a.Git.Lineage(asking, source.Repository, source.Revision.Commit, running)
	if err == nil {
		return lineage, nil
	}
	var failed *temporal.ApplicationError
	err = classify(ctx, err)
	permanent := errors.As(err, &failed) && failed.NonRetryable()
	if ctx.Err() != nil || !permanent && activity.GetInfo(ctx).Attempt < lineageAttempts {
		return release.Lineage{}, err
	}
	return release.Lineage{
		Relation: release.UnknownRelation,
		Why:      fmt.Sprintf("the repository could not be read: %s", failed.Message()),
	}, nil
}

// OvertakenInput is a revision that waits for an environment, and the revisions
// that wait behind it.
type OvertakenInput struct {
	Source
	Others []release.Revision `json:"others"`
}

// Overtaken returns the first of the others that descends from the revision, or
// nil. A repository that cannot be read overtakes nothing.
func (a *Activities) Overtaken(ctx context.Context, in OvertakenInput) (*release.Revision, error) {
	defer beat(ctx)()
	for _, other := range in.Others {
		if other.Commit == in.Revision.Commit {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, lineageLimit)
		lineage, err := a.Git.Lineage(asking, in.Repository, in.Revision.Commit, []string{other.Commit})
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			activity.GetLogger(ctx).Warn("lineage of a waiting release not known", "revision", other.Commit, "error", err)
			continue
		}
		if lineage.Relation == release.Backward {
			return &other, nil
		}
	}
	return nil, nil
}

// StandingInput names an environment.
type StandingInput struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
}

// GateInput is a plan that may have to be approved.
type GateInput struct {
	StandingInput
	Gate          *release.Gate     `json:"gate,omitempty"` // of the environment, at the revision
	Lineage       release.Lineage   `json:"lineage"`
	Skipped       []release.Skipped `json:"skipped,omitempty"`
	AllowDiverged bool              `json:"allow_diverged,omitempty"`
	Rollback      bool              `json:"rollback,omitempty"`
	Emergency     bool              `json:"emergency,omitempty"` // a rollback that passes the gate
	// Follows is the run ID of a rollout of the same release without a report.
	Follows string `json:"follows,omitempty"`
}

// A Standing is what binds a release to an environment.
type Standing struct {
	Pin *release.Pin `json:"pin,omitempty"`
	// Gate is what the plan has to pass; nil: nobody is asked.
	Gate *release.Gate `json:"gate,omitempty"`
	// Because says why that is more than the environment's own gate.
	Because []string `json:"because,omitempty"`
	// Then is the gate that the environment has once the plan is carried out.
	Then *release.Gate `json:"then,omitempty"`
	// Unread says which rollout ended without a report that can be read.
	Unread string `json:"unread,omitempty"`
}

// Standing reads the pin of an environment and the gate that it had until now,
// and returns which gate the plan has to pass.
func (a *Activities) Standing(ctx context.Context, in GateInput) (standing Standing, err error) {
	defer beat(ctx)()
	if standing.Pin, err = a.readPin(ctx, in.StandingInput); err != nil {
		return standing, err
	}
	last, err := a.lastReport(ctx, in.StandingInput)
	if err != nil {
		return standing, err
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
	if !in.Rollback { // a rollback goes back to what a person has named
		if standing.Unread, err = a.unreadBefore(ctx, in); err != nil {
			return standing, err
		}
	}
	standing.Gate, standing.Because = release.GateOf(release.Asking{
		Gate: in.Gate, Before: before, Lineage: in.Lineage, Skipped: in.Skipped, AllowDiverged: in.AllowDiverged, Unread: standing.Unread,
	})
	return standing, nil
}

// unreadBefore returns which rollout before the next one ended without a report that
// can be read, and why not, or "".
func (a *Activities) unreadBefore(ctx context.Context, in GateInput) (string, error) {
	_, _, err := unreportedBefore(ctx, a.temporal(ctx), release.RolloutID(in.Project, in.Environment), "", in.Follows)
	unread := new(UnreadError)
	switch {
	case !errors.As(err, &unread):
		return "", classify(ctx, err)
	case unread.Since != nil: // that one has settled it
		return "", nil
	}
	return unread.Error(), nil
}

func (a *Activities) readPin(ctx context.Context, in StandingInput) (*release.Pin, error) {
	pin, err := FindPin(ctx, a.temporal(ctx), in)
	return pin, classify(ctx, err)
}

// FindPin returns the pin of an environment, or nil. A pin whose memo cannot be
// read names nobody.
func FindPin(ctx context.Context, c Temporal, in StandingInput) (*release.Pin, error) {
	d, err := c.DescribeWorkflow(ctx, release.PinID(in.Project, in.Environment), "")
	var unknown *serviceerror.NotFound
	if errors.As(err, &unknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if d.WorkflowExecutionMetadata.WorkflowCloseTime != nil {
		return nil, nil
	}
	pin := release.Pin{Project: in.Project, Environment: in.Environment, By: "unknown", Since: d.WorkflowStartTime}
	if p, ok := d.Memo.GetFields()[release.MemoPin]; ok {
		known := pin
		if converter.GetDefaultDataConverter().FromPayload(p, &known) == nil {
			pin = known
		}
	}
	return &pin, nil
}

// lastReport returns the report of the newest rollout that says what its environment
// runs (one that was promoted, restored or found unchanged), or nil.
func (a *Activities) lastReport(ctx context.Context, in StandingInput) (*release.Report, error) {
	c, id := a.temporal(ctx), release.RolloutID(in.Project, in.Environment)
	runs, err := closedRuns(ctx, c, id)
	if err != nil {
		return nil, classify(ctx, err)
	}
	for _, run := range runs {
		if !run.reported {
			continue
		}
		outcome, err := run.readOutcome(ctx, c, id)
		if err == nil && !tellsHead(outcome) {
			continue
		}
		var report release.Report
		if err == nil {
			report, err = reportOf(ctx, c, id, run.id)
		}
		if err != nil {
			return nil, classify(ctx, err)
		}
		return &report, nil
	}
	return nil, nil
}

// tellsHead reports whether a rollout that ended so left its environment as its
// report says.
func tellsHead(o release.Outcome) bool {
	return o == release.Promoted || o == release.Restored || o == release.Unchanged
}
