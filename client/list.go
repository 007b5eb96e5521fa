package client

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
)

// List returns releases, newest first: at most limit of them, of one project unless
// that is "".
func (c *Client) List(ctx context.Context, project string, limit int) ([]release.Entry, error) {
	query := fmt.Sprintf("WorkflowType = '%s'", release.ReleaseWorkflow)
	if project != "" {
		query += fmt.Sprintf(" AND %s = '%s'", release.AttrProject, strings.ReplaceAll(project, "'", ""))
	}
	entries, err := c.entries(ctx, query, limit)
	for i := range entries {
		if entries[i].CutOff {
			c.correctOutcome(ctx, &entries[i])
		}
	}
	return entries, err
}

// entries returns the workflows that match a query, newest first, at most limit.
func (c *Client) entries(ctx context.Context, query string, limit int) ([]release.Entry, error) {
	var entries []release.Entry
	request := &workflowservice.ListWorkflowExecutionsRequest{Namespace: c.namespace, Query: query, PageSize: int32(min(limit, 1000))}
	for {
		call, cancel := context.WithTimeout(ctx, 2*DialTimeout)
		page, err := c.temporal.ListWorkflow(call, request)
		cancel()
		if err != nil {
			return nil, c.Wrap(ctx, "list releases", err)
		}
		for _, info := range page.Executions {
			if entries = append(entries, entryOf(info)); len(entries) == limit {
				return entries, nil
			}
		}
		if request.NextPageToken = page.NextPageToken; len(request.NextPageToken) == 0 {
			return entries, nil
		}
	}
}

// entryOf returns what the server itself has of a workflow.
func entryOf(info *workflowpb.WorkflowExecutionInfo) release.Entry {
	attr := func(name string) (value string) {
		if p, ok := info.GetSearchAttributes().GetIndexedFields()[name]; ok {
			_ = payload.NewConverter().FromPayload(p, &value) // not text: not known
		}
		return value
	}
	request := requestOf(info)
	e := release.Entry{
		ID: info.Execution.WorkflowId, Run: info.Execution.RunId,
		Project: attr(release.AttrProject), Revision: attr(release.AttrRevision), Environment: attr(release.AttrEnvironment),
		Phase: attr(release.AttrPhase), Outcome: attr(release.AttrOutcome),
		Subject: request.Revision.Subject, By: request.By,
		Started: timeOrZero(info.StartTime.AsTime()),
	}
	if request.Rollback != nil {
		e.Subject = "back to " + cmp.Or(restoredRevision(info, request).Summary(), "what "+request.Rollback.Environment+" ran before")
	}
	if info.Status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING && info.CloseTime != nil {
		e.Ended, e.CutOff = timeOrZero(info.CloseTime.AsTime()), isCutOff(info.Status)
	}
	return e
}

// restoredRevision returns the revision that a rollback goes back to, as far as it
// is known.
func restoredRevision(info *workflowpb.WorkflowExecutionInfo, request release.Request) (r release.RestoredRevision) {
	if p, ok := info.GetMemo().GetFields()[release.MemoRestores]; ok {
		_ = payload.NewConverter().FromPayload(p, &r) // of another program: not known
	}
	if r.Commit == "" {
		r.Revision = request.Rollback.Revision
	}
	return r
}

// requestOf returns the request that a release was started with, from its memo.
func requestOf(info *workflowpb.WorkflowExecutionInfo) (r release.Request) {
	if p, ok := info.GetMemo().GetFields()[release.MemoRequest]; ok {
		_ = payload.NewConverter().FromPayload(p, &r) // of another program: not known
	}
	return r
}

// timeOrZero returns t, or the zero time for the zero of a protobuf timestamp.
func timeOrZero(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}
