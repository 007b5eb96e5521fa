package workflows_test

import (
	"context"
	"errors"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// noHistory is a Temporal that keeps no histories: every rollout is the first.
type noHistory struct{}

func (noHistory) DescribeWorkflow(context.Context, string, string) (*client.WorkflowExecutionDescription, error) {
	return nil, serviceerror.NewNotFound("no such workflow")
}

func (noHistory) GetWorkflow(context.Context, string, string) client.WorkflowRun { return nil }

func (noHistory) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	return &workflowservice.ListWorkflowExecutionsResponse{}, nil
}

func (noHistory) GetWorkflowHistory(context.Context, string, string, bool, enumspb.HistoryEventFilterType) client.HistoryEventIterator {
	return noHistory{}
}

func (noHistory) HasNext() bool { return false }

func (noHistory) Next() (*historypb.HistoryEvent, error) { return nil, errors.New("no more events") }
