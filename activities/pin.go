package activities

import (
	"context"
	"errors"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"

	"github.com/microbima/release/release"
)

// An EnvironmentRef names an environment.
type EnvironmentRef struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
}

// FindPin returns the pin of an environment, or nil. If its memo cannot be read, the
// author is "unknown".
func FindPin(ctx context.Context, c Temporal, in EnvironmentRef) (*release.Pin, error) {
	d, err := c.DescribeWorkflow(ctx, release.PinID(in.Project, in.Environment), "")
	var unknown *serviceerror.NotFound
	if errors.As(err, &unknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if d.WorkflowExecutionMetadata.WorkflowCloseTime != nil {
		return nil, nil
	}
	pin := release.Pin{Project: in.Project, Environment: in.Environment, By: "unknown", Since: d.WorkflowStartTime}
	if p, ok := d.Memo.GetFields()[release.MemoPin]; ok {
		known := pin
		if converter.GetDefaultDataConverter().FromPayload(p, &known) == nil {
			pin = known
		}
	}
	return &pin, nil
}
