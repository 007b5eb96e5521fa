package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// bind records the repository that the project is bound to, for the releases
// that follow.
func (r *releaser) bind(ctx workflow.Context, repository release.Repository) {
	if r.req.Moved != "" {
		r.note("the project is at %s now, as %s says: %s", repository, r.req.By, r.req.Moved)
	}
	if err := workflow.UpsertMemo(ctx, map[string]any{release.MemoRepository: repository}); err != nil {
		workflow.GetLogger(ctx).Warn("memo not set", "release", r.status.ID, "error", err)
	}
}
