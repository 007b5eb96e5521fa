package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/release"
)

// lineageAttempts is the number of reads of the repository before the lineage is
// unknown; lineageLimit is the timeout of each.
const (
	lineageAttempts = 5
	lineageLimit    = time.Minute
)

// LineageInput is a revision, and the environment that it is compared with.
type LineageInput struct {
	Source
	EnvironmentRef
	Running []string `json:"running,omitempty"` // commits in the metadata of machines
}

// A Descent is a lineage, and the head of the environment that it was computed with.
type Descent struct {
	Lineage release.Lineage `json:"lineage"`
	Head    *release.Head   `json:"head,omitempty"`
}

// Lineage returns how the revision relates to the running revisions, by ancestry. If
// the repository stays unreachable, the lineage is unknown.
func (a *Activities) Lineage(ctx context.Context, in LineageInput) (descent Descent, err error) {
	defer startHeartbeat(ctx)()
	last, err := lastReport(ctx, a.temporal(ctx), in.EnvironmentRef)
	if err != nil {
		return descent, classifyError(ctx, err)
	}
	if last != nil {
		descent.Head = last.Head
	}
	descent.Lineage, err = readLineage(ctx, a.Git, in.Source, descent.Head.CommitsToCompare(in.Running))
	descent.Lineage.Running = in.Running
	return descent, err
}

// readLineage returns how the revision of source relates to the running commits. After
// lineageAttempts failures, or a permanent one, the lineage is unknown.
func readLineage(ctx context.Context, g Git, source Source, running []string) (release.Lineage, error) {
	if len(running) == 0 {
		return release.Lineage{Relation: release.Forward}, nil
	}
	limited, cancel := context.WithTimeout(ctx, lineageLimit)
	defer cancel()
	lineage, err := g.Lineage(limited, source.Repository, source.Revision.Commit, running)
	if err == nil {
		return lineage, nil
	}
	var failed *temporal.ApplicationError
	err = classifyError(ctx, err)
	isFinal := errors.As(err, &failed) && failed.NonRetryable()
	if ctx.Err() != nil || !isFinal && activity.GetInfo(ctx).Attempt < lineageAttempts {
		return release.Lineage{}, err
	}
	return release.Lineage{
		Relation: release.UnknownRelation,
		Why:      fmt.Sprintf("the repository could not be read: %s", failed.Message()),
	}, nil
}
