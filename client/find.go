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

// findLimit is how many workflows are searched for one that a reference matches.
const findLimit = 2000

// FindOptions say where a reference was given.
type FindOptions struct {
	Project string // whose releases come first; "" is none
	// Resolve, if set, returns the revision of HEAD, a branch or a tag.
	Resolve func(ctx context.Context, ref string) (release.Revision, error)
}

// Find returns the ID of the workflow that a reference means: a full workflow ID,
// the first digits of a revision, the beginning of an ID or of its last part, or
// what o.Resolve resolves. The error is a *NoReleaseError or an *AmbiguousError if
// none or several match.
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

// exactIDs returns the IDs that ref may be in full. They are found without the list,
// which is a moment behind.
func exactIDs(ref, project string) (ids []string) {
	if strings.HasPrefix(ref, "release/") || strings.HasPrefix(ref, "rollout/") {
		return []string{ref}
	}
	if project != "" && len(ref) >= 12 {
		return []string{release.ID(project, release.Revision{Commit: ref})}
	}
	return nil
}

// findListed searches the list of workflows. It returns "" if none matches.
func (c *Client) findListed(ctx context.Context, ref, project string) (string, error) {
	query := fmt.Sprintf("WorkflowType IN ('%s', '%s')", release.ReleaseWorkflow, release.RolloutWorkflow)
	if ref != "" && strings.Trim(ref, "0123456789abcdef") == "" { // of a revision: found however many releases there are
		query = fmt.Sprintf("WorkflowType = '%s' AND %s STARTS_WITH '%s'", release.ReleaseWorkflow, release.AttrRevision, ref[:min(len(ref), 12)])
	}
	entries, err := c.entries(ctx, query, findLimit)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return pickID(ref, project, ids)
}

// pickID returns the one of ids that ref means, or "" if none does. Those of project
// go first; rollouts match only by their full beginning.
func pickID(ref, project string, ids []string) (string, error) {
	var own, others []string
	for _, id := range ids {
		switch {
		case !matches(ref, id) || slices.Contains(own, id) || slices.Contains(others, id):
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

// matches reports whether ref may mean the workflow with this ID.
func matches(ref, id string) bool {
	if strings.HasPrefix(id, ref) {
		return true
	}
	short := view.Ref(id)
	isRevision := len(short) == 12 && strings.HasPrefix(ref, short) // ref is a full commit
	return strings.HasPrefix(id, "release/") && ref != "" && (strings.HasPrefix(short, ref) || isRevision)
}
