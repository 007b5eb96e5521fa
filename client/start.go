package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// Started is the result of Start: a new release, or one that was already running.
type Started struct {
	ID       string
	Run      string
	Attached bool
	// Extended is set if the running release was extended to a further environment.
	Extended Delivery
}

// Start starts a release along path. If the same release is running, Start returns it,
// and extends it if path is longer. It returns an *UnderWayError if a different release
// with the same ID is running. It is safe to call twice.
func (c *Client) Start(ctx context.Context, request release.Request, path []string) (Started, error) {
	for {
		started, err := c.startOrAttach(ctx, request, path)
		if !errors.Is(err, ErrEnded) || ctx.Err() != nil {
			return started, err
		}
		_ = sleep.For(ctx, retryInterval) // it just ended, so that a new one can start
	}
}

func (c *Client) startOrAttach(ctx context.Context, request release.Request, path []string) (Started, error) {
	id := workflowID(request)
	run, err := c.startWorkflow(ctx, id, request, path)
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return c.attachToRun(ctx, id, running.RunId, request, path)
	}
	return Started{ID: id, Run: run}, c.Wrap(ctx, "start "+id, err)
}

// workflowID returns the workflow ID of a request.
func workflowID(r release.Request) string {
	if r.Rollback != nil {
		return release.RollbackID(r.Project, r.Rollback.Environment)
	}
	return release.ReleaseID(r.Project, r.Revision)
}

func (c *Client) startWorkflow(ctx context.Context, id string, request release.Request, path []string) (run string, err error) {
	keyword := temporal.NewSearchAttributeKeyKeyword
	call, cancel := context.WithTimeout(ctx, 2*DialTimeout)
	defer cancel()
	started, err := c.temporal.ExecuteWorkflow(call, client.StartWorkflowOptions{
		ID:                                       id,
		TaskQueue:                                release.TaskQueue,
		WorkflowIDConflictPolicy:                 enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		StaticSummary:                            view.Summary(view.RequestTitle(request) + " → " + strings.Join(path, " → ")),
		StaticDetails:                            view.RequestDetails(request, path),
		Memo:                                     map[string]any{release.MemoRequest: request},
		// Activities and rollouts inherit the priority. With fairness enabled on the
		// server, projects share a busy queue equally.
		Priority: temporal.Priority{PriorityKey: request.Priority(), FairnessKey: request.Project[:min(64, len(request.Project))]},
		TypedSearchAttributes: temporal.NewSearchAttributes(
			keyword(release.AttrProject).ValueSet(request.Project),
			keyword(release.AttrRevision).ValueSet(targetRevision(request).Short()),
			keyword(release.AttrEnvironment).ValueSet(path[0]),
			keyword(release.AttrPhase).ValueSet(string(release.Loading)),
		),
	}, release.ReleaseWorkflow, request)
	if err != nil {
		return "", err
	}
	return started.GetRunID(), nil
}

// targetRevision returns the revision to release or to restore.
func targetRevision(r release.Request) release.Revision {
	if r.Rollback != nil && r.Rollback.Revision.Commit != "" {
		return r.Rollback.Revision
	}
	return r.Revision
}

// attachToRun returns the running release if it matches request, and extends it if path
// is longer.
func (c *Client) attachToRun(ctx context.Context, id, run string, request release.Request, path []string) (Started, error) {
	described, err := c.temporal.DescribeWorkflowExecution(ctx, id, run)
	if err != nil {
		return Started{}, c.Wrap(ctx, "read "+id, err)
	}
	running := decodeRequest(described.WorkflowExecutionInfo)
	if err := compareRequests(request, running); err != nil {
		return Started{}, &UnderWayError{ID: id, Reason: "with another request: " + err.Error()}
	}
	started := Started{ID: id, Run: described.WorkflowExecutionInfo.Execution.RunId, Attached: true}
	if !slices.Contains(path, running.To) || running.To == request.To {
		return started, nil
	}
	started.Extended, err = c.extend(ctx, id, run, release.Extension{To: request.To, By: request.By})
	var refused *RefusedError
	switch {
	case started.Extended == "" && isEnded(err):
		err = ErrEnded
	case errors.As(err, &refused):
		err = &UnderWayError{ID: id, Reason: fmt.Sprintf("and was not extended to %s: %s", request.To, refused.Reason)}
	}
	return started, err
}

// compareRequests returns an error with the difference if running is not the requested
// release.
func compareRequests(asked, running release.Request) error {
	switch {
	case asked.Rollback == nil && running.Revision.Commit != asked.Revision.Commit:
		return fmt.Errorf("it releases %s, not %s", running.Revision.Commit, asked.Revision.Commit)
	case rollbackKey(asked) != rollbackKey(running):
		return errors.New("it is " + view.RequestTitle(running))
	case !slices.Equal(skippedNames(running), skippedNames(asked)):
		return errors.New("it skips other environments")
	case !maps.Equal(running.Images, asked.Images):
		return errors.New("it was started with other images")
	case !slices.Equal(running.Apps, asked.Apps):
		return fmt.Errorf("it releases %s, not %s", describeApps(running), describeApps(asked))
	}
	return nil
}

func rollbackKey(r release.Request) string {
	if r.Rollback == nil {
		return ""
	}
	return r.Rollback.Environment + " " + r.Rollback.To
}

func skippedNames(r release.Request) (names []string) {
	for _, s := range r.Skip {
		names = append(names, s.Environment)
	}
	return names
}

func describeApps(r release.Request) string {
	if len(r.Apps) == 0 {
		return "all apps"
	}
	return strings.Join(r.Apps, ", ")
}
