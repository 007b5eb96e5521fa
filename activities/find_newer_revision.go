package activities

import (
	"context"

	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/release"
)

// NewerRevisionInput is a waiting revision, and the revisions that wait behind it.
type NewerRevisionInput struct {
	Source
	Others []release.Revision `json:"others"`
}

// FindNewerRevision returns the first of the others that descends from the revision, or
// nil. It returns nil for revisions whose lineage cannot be read.
func (a *Activities) FindNewerRevision(ctx context.Context, in NewerRevisionInput) (*release.Revision, error) {
	defer startHeartbeat(ctx)()
	for _, other := range in.Others {
		if other.Commit == in.Revision.Commit {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, lineageLimit)
		lineage, err := a.Git.Lineage(limited, in.Repository, in.Revision.Commit, []string{other.Commit})
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
