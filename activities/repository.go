package activities

import (
	"context"
	"fmt"
	"strings"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/release"
)

// checkRepository returns the identity of the repository of in.Source. It fails with
// KindPermanent if the project belongs to another repository, unless an operator declared
// that it moved.
func checkRepository(ctx context.Context, g Git, c Temporal, project string, in LoadInput) (release.Repository, error) {
	own, err := g.Identity(ctx, in.Repository, in.Revision.Commit)
	if err != nil {
		return own, classifyError(ctx, err)
	}
	bound, err := boundRepository(ctx, c, project)
	if err != nil {
		return own, classifyError(ctx, err)
	}
	if bound == nil || bound.IsSame(own) || in.Moved != "" {
		return own, nil
	}
	return own, permanentError(release.KindPermanent, fmt.Errorf(
		"project %q is that of the repository %s, as its releases say; this is %s: give it another name in release.toml, or, if the repository moved, use --moved-repository REASON",
		project, bound, own))
}

// boundRepository returns the repository in the newest release of a project that
// recorded one, or nil.
func boundRepository(ctx context.Context, c Temporal, project string) (*release.Repository, error) {
	in := &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = '%s' AND %s = '%s'", release.ReleaseWorkflow, release.AttrProject, strings.ReplaceAll(project, "'", "")), PageSize: 100,
	}
	for {
		page, err := c.ListWorkflow(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, e := range page.GetExecutions() {
			var bound release.Repository
			if p, ok := e.GetMemo().GetFields()[release.MemoRepository]; ok && stored.FromPayload(p, &bound) == nil && bound.Address != "" {
				return &bound, nil
			}
		}
		if in.NextPageToken = page.GetNextPageToken(); len(in.NextPageToken) == 0 {
			return nil, nil
		}
	}
}
