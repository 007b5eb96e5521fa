package client

import (
	"context"
	"fmt"
	"strings"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/release"
)

// List returns at most limit releases, newest first. If project is "", it returns releases
// of all projects.
func (c *Client) List(ctx context.Context, project string, limit int) ([]release.Entry, error) {
	query := fmt.Sprintf("WorkflowType = '%s'", release.ReleaseWorkflow)
	if project != "" {
		query += fmt.Sprintf(" AND %s = '%s'", release.AttrProject, strings.ReplaceAll(project, "'", ""))
	}
	entries, err := c.listEntries(ctx, query, limit)
	for i := range entries {
		if entries[i].CutOff {
			c.correctOutcome(ctx, &entries[i])
		}
	}
	return entries, err
}

// listEntries returns at most limit workflows that match a query, newest first.
func (c *Client) listEntries(ctx context.Context, query string, limit int) ([]release.Entry, error) {
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
			if entries = append(entries, newEntry(info)); len(entries) == limit {
				return entries, nil
			}
		}
		if request.NextPageToken = page.NextPageToken; len(request.NextPageToken) == 0 {
			return entries, nil
		}
	}
}
