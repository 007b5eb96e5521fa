package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// recordRepository writes the repository of the project into the memo, where later
// releases read it.
func (r *releaseRun) recordRepository(ctx workflow.Context, repository release.Repository) {
	if r.req.Moved != "" {
		r.addNote(ctx, "the project moved to %s, as %s stated: %s", repository, r.req.By, r.req.Moved)
	}
	if err := workflow.UpsertMemo(ctx, map[string]any{release.MemoRepository: repository}); err != nil {
		workflow.GetLogger(ctx).Warn("memo not set", "release", r.status().ID, "error", err)
	}
}
