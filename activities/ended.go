package activities

import (
	"context"
	"errors"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/release"
)

// A RolloutRun names one run of a rollout.
type RolloutRun struct {
	ID  string `json:"id"` // workflow ID
	Run string `json:"run"`
}

// A RolloutEnd is how a run of a rollout ended.
type RolloutEnd struct {
	Open   bool            `json:"open,omitempty"` // it has not ended
	Report *release.Report `json:"report,omitempty"`
	// Canceled: it ended before it began, so it has no report.
	Canceled bool `json:"canceled,omitempty"`
	// Said is the error of a run that has no report, and Kind the error's type, if
	// it is one of this program.
	Said string `json:"said,omitempty"`
	Kind string `json:"kind,omitempty"`
}

// ReadRolloutEnd returns whether a run of a rollout is open, and else how it ended.
// A run that Temporal no longer keeps has ended without a report. It changes nothing.
func (a *Activities) ReadRolloutEnd(ctx context.Context, in RolloutRun) (RolloutEnd, error) {
	defer beat(ctx)()
	c := a.temporal(ctx)
	d, err := c.DescribeWorkflow(ctx, in.ID, in.Run)
	if missing := new(serviceerror.NotFound); errors.As(err, &missing) {
		return RolloutEnd{Said: "Temporal no longer keeps it"}, nil
	}
	if err != nil {
		return RolloutEnd{}, classify(ctx, err)
	}
	if d.WorkflowCloseTime == nil {
		return RolloutEnd{Open: true}, nil
	}
	switch d.Status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return RolloutEnd{Canceled: true}, nil
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return RolloutEnd{Said: "terminated"}, nil
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return RolloutEnd{Said: "timed out"}, nil
	}
	report, err := reportOf(ctx, c, in.ID, in.Run)
	if failed := new(temporal.ApplicationError); errors.As(err, &failed) {
		return RolloutEnd{Said: failed.Message(), Kind: failed.Type()}, nil
	}
	if err != nil {
		return RolloutEnd{}, classify(ctx, err)
	}
	return RolloutEnd{Report: &report}, nil
}
