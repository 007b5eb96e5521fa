package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/api/serviceerror"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// findLimit is the maximum number of workflows that Find searches.
const findLimit = 2000

// FindOptions configure Find.
type FindOptions struct {
	Project string // its releases are preferred; "" for none
	// Resolve, if set, returns the revision of HEAD, a branch or a tag.
	Resolve func(ctx context.Context, ref string) (release.Revision, error)
}

// Find returns the ID of the workflow that matches a reference: a full workflow ID, the
// first digits of a revision, a prefix of an ID or of its last part, or a reference for
// o.Resolve. It returns a *NoReleaseError or an *AmbiguousError if none or several match.
func (c *Client) Find(ctx context.Context, ref string, o FindOptions) (string, error) {
	for _, id := range exactIDs(ref, o.Project) {
		_, err := c.temporal.DescribeWorkflowExecution(ctx, id, "")
		var malformed *serviceerror.InvalidArgument
		if err == nil {
			return id, nil
		}
		if !isNotFound(err) && !errors.As(err, &malformed) {
			return "", c.Wrap(ctx, "find "+ref, err)
		}
	}
	id, err := c.findListed(ctx, ref, o.Project)
	if id != "" || err != nil {
		return id, err
	}
	if o.Resolve != nil && o.Project != "" {
		if rev, err := o.Resolve(ctx, ref); err == nil {
			if id, err = c.findListed(ctx, rev.Short(), o.Project); id != "" || err != nil {
				return id, err
			}
		}
	}
	return "", &NoReleaseError{Ref: ref}
}

// exactIDs returns the full IDs that ref may be. They are looked up directly, because the
// list of workflows is updated with a delay.
func exactIDs(ref, project string) (ids []string) {
	if strings.HasPrefix(ref, "release/") || strings.HasPrefix(ref, "rollout/") {
		return []string{ref}
	}
	if project != "" && len(ref) >= 12 {
		return []string{release.ReleaseID(project, release.Revision{Commit: ref})}
	}
	return nil
}

// findListed searches the list of workflows. It returns "" if none matches.
func (c *Client) findListed(ctx context.Context, ref, project string) (string, error) {
	query := fmt.Sprintf("WorkflowType IN ('%s', '%s')", release.ReleaseWorkflow, release.RolloutWorkflow)
	if ref != "" && strings.Trim(ref, "0123456789abcdef") == "" { // digits of a revision: no search limit
		query = fmt.Sprintf("WorkflowType = '%s' AND %s STARTS_WITH '%s'", release.ReleaseWorkflow, release.AttrRevision, ref[:min(len(ref), 12)])
	}
	entries, err := c.listEntries(ctx, query, findLimit)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return pickID(ref, project, ids)
}

// pickID returns the one of ids that ref matches, or "" if none does. IDs of project have
// precedence. Rollouts match only by a prefix of the full ID.
func pickID(ref, project string, ids []string) (string, error) {
	var own, others []string
	for _, id := range ids {
		switch {
		case !isMatch(ref, id) || slices.Contains(own, id) || slices.Contains(others, id):
		case project != "" && strings.HasPrefix(id, "release/"+project+"/"), project != "" && strings.HasPrefix(id, "rollout/"+project+"/"):
			own = append(own, id)
		default:
			others = append(others, id)
		}
	}
	found := own
	if len(own) == 0 {
		found = others
	}
	switch {
	case slices.Contains(found, ref):
		return ref, nil
	case len(found) == 0:
		return "", nil
	case len(found) == 1:
		return found[0], nil
	}
	slices.Sort(found)
	return "", &AmbiguousError{Ref: ref, IDs: found}
}

// isMatch reports whether ref matches a workflow ID.
func isMatch(ref, id string) bool {
	if strings.HasPrefix(id, ref) {
		return true
	}
	short := view.Ref(id)
	isRevision := len(short) == 12 && strings.HasPrefix(ref, short) // ref is a full commit
	return strings.HasPrefix(id, "release/") && ref != "" && (strings.HasPrefix(short, ref) || isRevision)
}
