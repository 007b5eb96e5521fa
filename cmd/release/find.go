package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/git"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// listLimit is how many workflows are looked through to find one by its name.
const listLimit = 2000

// found is the Temporal that is used, and the workflow there that a person means
// by ref.
func (e *env) found(ctx context.Context, ref string) (s *server, id string, err error) {
	if s, err = e.temporal(ctx); err != nil {
		return nil, "", err
	}
	id, err = s.find(ctx, ref)
	return s, id, err
}

// see is found, and a look at it.
func (e *env) see(ctx context.Context, ref string) (*server, sight, error) {
	s, id, err := e.found(ctx, ref)
	if err != nil {
		return nil, sight{}, err
	}
	seen, err := s.look(ctx, id, "")
	return s, seen, err
}

// find is the workflow that a person means by ref: a full workflow ID, the
// first digits of a revision, the beginning of an ID or of its last part.
func (s *server) find(ctx context.Context, ref string) (string, error) {
	project := ""
	if p := s.env.here(); p != nil {
		project = p.Name
	}
	for _, id := range exactly(ref, project) {
		_, err := s.DescribeWorkflowExecution(ctx, id, "")
		var unknown *serviceerror.NotFound
		var malformed *serviceerror.InvalidArgument
		if err == nil {
			return id, nil
		}
		if !errors.As(err, &unknown) && !errors.As(err, &malformed) {
			return "", s.said(ctx, "look for "+ref, err)
		}
	}
	id, err := s.findAmong(ctx, ref, project)
	if id != "" || err != nil {
		return id, err
	}
	if rev, ok := s.commit(ctx, ref); ok && project != "" { // HEAD, a branch, a tag
		if id, err = s.findAmong(ctx, rev.Short(), project); id != "" || err != nil {
			return id, err
		}
	}
	return "", fmt.Errorf("no release %q; `release list` shows those there are", ref)
}

// exactly are the IDs that ref may be without looking at a list, which is a
// moment behind.
func exactly(ref, project string) (ids []string) {
	if strings.HasPrefix(ref, "release/") || strings.HasPrefix(ref, "rollout/") {
		return []string{ref}
	}
	if project != "" && len(ref) >= 12 {
		return []string{release.ID(project, release.Revision{Commit: ref})}
	}
	return nil
}

func (s *server) commit(ctx context.Context, ref string) (release.Revision, bool) {
	repo, err := git.Open(ctx, s.env.dir)
	if err != nil {
		return release.Revision{}, false
	}
	rev, err := repo.Resolve(ctx, ref)
	return rev, err == nil
}

// findAmong looks through the list. None is "".
func (s *server) findAmong(ctx context.Context, ref, project string) (string, error) {
	query := fmt.Sprintf("WorkflowType IN ('%s', '%s')", release.ReleaseWorkflow, release.RolloutWorkflow)
	if ref != "" && strings.Trim(ref, "0123456789abcdef") == "" { // of a revision: found however many releases there are
		query = fmt.Sprintf("WorkflowType = '%s' AND %s STARTS_WITH '%s'", release.ReleaseWorkflow, release.AttrRevision, ref[:min(len(ref), 12)])
	}
	entries, err := s.entries(ctx, query, listLimit)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return pick(ref, project, ids)
}

// pick is the one of ids that ref means, or "". One's own project goes first;
// rollouts are only meant by their full beginning.
func pick(ref, project string, ids []string) (string, error) {
	var own, others []string
	for _, id := range ids {
		meant := strings.HasPrefix(id, ref) ||
			strings.HasPrefix(id, "release/") && ref != "" && (strings.HasPrefix(view.Ref(id), ref) || len(view.Ref(id)) == 12 && strings.HasPrefix(ref, view.Ref(id)))
		switch {
		case !meant || slices.Contains(own, id) || slices.Contains(others, id):
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
	if i := slices.Index(found, ref); i >= 0 {
		return found[i], nil
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	slices.Sort(found)
	return "", usage("%q may be any of:\n  %s\nwrite more of it", ref, strings.Join(found, "\n  "))
}

// entries are workflows, newest first, at most limit of them.
func (s *server) entries(ctx context.Context, query string, limit int) ([]view.Entry, error) {
	var entries []view.Entry
	request := &workflowservice.ListWorkflowExecutionsRequest{Namespace: s.namespace, Query: query, PageSize: int32(min(limit, 1000))}
	for {
		call, cancel := context.WithTimeout(ctx, 2*dialLimit)
		page, err := s.ListWorkflow(call, request)
		cancel()
		if err != nil {
			return nil, s.said(ctx, "list releases", err)
		}
		for _, info := range page.Executions {
			if entries = append(entries, entry(info)); len(entries) == limit {
				return entries, nil
			}
		}
		if request.NextPageToken = page.NextPageToken; len(request.NextPageToken) == 0 {
			return entries, nil
		}
	}
}

// entry is what the server itself knows of a workflow.
func entry(info *workflowpb.WorkflowExecutionInfo) view.Entry {
	attr := func(name string) (value string) {
		if p, ok := info.GetSearchAttributes().GetIndexedFields()[name]; ok {
			_ = worker.DataConverter().FromPayload(p, &value) // not text: not known
		}
		return value
	}
	request := requestOf(info)
	e := view.Entry{
		ID: info.Execution.WorkflowId, Run: info.Execution.RunId,
		Project: attr(release.AttrProject), Revision: attr(release.AttrRevision), Environment: attr(release.AttrEnvironment),
		Phase: attr(release.AttrPhase), Outcome: attr(release.AttrOutcome),
		Subject: request.Revision.Subject, By: request.By,
		Started: when(info.StartTime.AsTime()),
	}
	if request.Rollback != nil {
		e.Subject = "back to " + cmp.Or(restored(info, request).Summary(), "what "+request.Rollback.Environment+" ran before")
	}
	if info.Status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING && info.CloseTime != nil {
		e.Ended, e.CutOff = when(info.CloseTime.AsTime()), isCutOff(info.Status)
	}
	return e
}

// restored returns the revision that a rollback goes back to, as far as it is
// known.
func restored(info *workflowpb.WorkflowExecutionInfo, request release.Request) (r release.RestoredRevision) {
	if p, ok := info.GetMemo().GetFields()[release.MemoRestores]; ok {
		_ = worker.DataConverter().FromPayload(p, &r) // another program's: not known
	}
	if r.Commit == "" {
		r.Revision = request.Rollback.Revision
	}
	return r
}

// requestOf is the request that a release was started with, from its memo.
func requestOf(info *workflowpb.WorkflowExecutionInfo) (r release.Request) {
	if p, ok := info.GetMemo().GetFields()[release.MemoRequest]; ok {
		_ = worker.DataConverter().FromPayload(p, &r) // another program's: not known
	}
	return r
}

func when(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}
