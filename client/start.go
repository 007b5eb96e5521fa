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

// Started is a release that was started, or that was under way already.
type Started struct {
	ID       string
	Run      string
	Attached bool
	// Extended: the release under way continues to a further environment now.
	Extended Delivery
}

// Start starts a release along path. If the same release is under way it attaches
// to that, and extends it if path goes further. The error is an *UnderWayError if
// the one under way is another.
func (c *Client) Start(ctx context.Context, request release.Request, path []string) (Started, error) {
	for {
		started, err := c.startOrAttach(ctx, request, path)
		if !errors.Is(err, ErrEnded) || ctx.Err() != nil {
			return started, err
		}
		_ = sleep.For(ctx, retryInterval) // it ended just now: another may begin
	}
}

func (c *Client) startOrAttach(ctx context.Context, request release.Request, path []string) (Started, error) {
	id := idOf(request)
	run, err := c.execute(ctx, id, request, path)
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return c.attach(ctx, id, running.RunId, request, path)
	}
	return Started{ID: id, Run: run}, c.Wrap(ctx, "start "+id, err)
}

// idOf returns the workflow ID of a request.
func idOf(r release.Request) string {
	if r.Rollback != nil {
		return release.RollbackID(r.Project, r.Rollback.Environment)
	}
	return release.ID(r.Project, r.Revision)
}

func (c *Client) execute(ctx context.Context, id string, request release.Request, path []string) (run string, err error) {
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
		// Activities and rollouts inherit it. Where the server is fair, projects
		// share a busy queue equally.
		Priority: temporal.Priority{PriorityKey: request.Priority(), FairnessKey: request.Project[:min(64, len(request.Project))]},
		TypedSearchAttributes: temporal.NewSearchAttributes(
			keyword(release.AttrProject).ValueSet(request.Project),
			keyword(release.AttrRevision).ValueSet(subjectOf(request).Short()),
			keyword(release.AttrEnvironment).ValueSet(path[0]),
			keyword(release.AttrPhase).ValueSet(string(release.Loading)),
		),
	}, release.ReleaseWorkflow, request)
	if err != nil {
		return "", err
	}
	return started.GetRunID(), nil
}

// subjectOf returns the revision that a request is about: of a rollback the one that
// comes back.
func subjectOf(r release.Request) release.Revision {
	if r.Rollback != nil && r.Rollback.Revision.Commit != "" {
		return r.Rollback.Revision
	}
	return r.Revision
}

// attach returns the run under way if it does what request asks for, extended if
// path goes further.
func (c *Client) attach(ctx context.Context, id, run string, request release.Request, path []string) (Started, error) {
	described, err := c.temporal.DescribeWorkflowExecution(ctx, id, run)
	if err != nil {
		return Started{}, c.Wrap(ctx, "read "+id, err)
	}
	running := requestOf(described.WorkflowExecutionInfo)
	if difference := compareRequests(request, running); difference != "" {
		return Started{}, &UnderWayError{ID: id, Reason: "with another aim: " + difference}
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

// compareRequests returns how the release under way differs from the one asked for,
// or "".
func compareRequests(asked, running release.Request) string {
	switch {
	case asked.Rollback == nil && running.Revision.Commit != asked.Revision.Commit:
		return fmt.Sprintf("it releases %s, not %s", running.Revision.Commit, asked.Revision.Commit)
	case rollbackOf(asked) != rollbackOf(running):
		return "it is " + view.RequestTitle(running)
	case !slices.Equal(skippedBy(running), skippedBy(asked)):
		return "it skips other environments"
	case !maps.Equal(running.Images, asked.Images):
		return "it was started with other images"
	case !slices.Equal(running.Apps, asked.Apps):
		return fmt.Sprintf("it is about %s, not %s", appsOf(running), appsOf(asked))
	}
	return ""
}

func rollbackOf(r release.Request) string {
	if r.Rollback == nil {
		return ""
	}
	return r.Rollback.Environment + " " + r.Rollback.To
}

func skippedBy(r release.Request) (names []string) {
	for _, s := range r.Skip {
		names = append(names, s.Environment)
	}
	return names
}

func appsOf(r release.Request) string {
	if len(r.Apps) == 0 {
		return "all apps"
	}
	return strings.Join(r.Apps, ", ")
}
