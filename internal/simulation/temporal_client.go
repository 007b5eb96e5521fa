package simulation

import (
	"context"
	"errors"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A temporalClient implements activities.Temporal from the records of the checker.
type temporalClient struct{ sim *simulation }

// DescribeWorkflow implements activities.Temporal.
func (c *temporalClient) DescribeWorkflow(ctx context.Context, id, of string) (*client.WorkflowExecutionDescription, error) {
	d := &client.WorkflowExecutionDescription{}
	if since, ok := c.sim.checker.findPin(id); ok {
		d.WorkflowStartTime = since
		return d, nil
	}
	run := c.sim.checker.findRun(ctx, id, of)
	if run == nil {
		return nil, serviceerror.NewNotFound("no such workflow")
	}
	d.WorkflowExecution.ID, d.WorkflowExecution.RunID, d.WorkflowStartTime = run.id, run.runID, run.started
	d.ParentWorkflowExecution = &workflow.Execution{ID: run.req.Release}
	if !run.ended.IsZero() {
		d.WorkflowCloseTime, d.Status = &run.ended, run.closeStatus()
	}
	return d, nil
}

// GetWorkflow implements activities.Temporal.
func (c *temporalClient) GetWorkflow(ctx context.Context, id, run string) client.WorkflowRun {
	return &workflowRun{rollout: c.sim.checker.findRun(ctx, id, run)}
}

// GetWorkflowHistory implements activities.Temporal.
func (c *temporalClient) GetWorkflowHistory(ctx context.Context, id, run string, _ bool, _ enumspb.HistoryEventFilterType) client.HistoryEventIterator {
	r := c.sim.checker.findRun(ctx, id, run)
	if r == nil {
		return &eventIterator{}
	}
	c.sim.checker.mu.Lock()
	defer c.sim.checker.mu.Unlock()
	if r.isTerminated() && c.sim.hasTrouble(historyLost) {
		return &eventIterator{lost: true}
	}
	return &eventIterator{rest: slices.Clone(r.history.events)}
}

// ListWorkflow implements activities.Temporal. It supports the queries for the
// completed and for the closed rollouts of one environment, and returns them newest
// first.
func (c *temporalClient) ListWorkflow(_ context.Context, req *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	resp := &workflowservice.ListWorkflowExecutionsResponse{}
	for _, r := range c.sim.checker.listClosed(req.GetQuery()) {
		resp.Executions = append(resp.Executions, &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: r.id, RunId: r.runID},
			StartTime: timestamppb.New(r.started), CloseTime: timestamppb.New(r.ended), Status: r.closeStatus(),
		})
	}
	return resp, nil
}

// A workflowRun implements client.WorkflowRun for a rollout.
type workflowRun struct {
	client.WorkflowRun
	rollout *rolloutRun
}

// Get implements client.WorkflowRun.
func (r *workflowRun) Get(ctx context.Context, value any) error {
	if r.rollout == nil {
		return errors.New("no such workflow")
	}
	select {
	case <-r.rollout.closed:
	case <-ctx.Done():
		return ctx.Err()
	}
	return r.rollout.decodeReport(value)
}
