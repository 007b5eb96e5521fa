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
	// Canceled: it was canceled before it began, so it has no report.
	Canceled bool `json:"canceled,omitempty"`
	// Error is how a run without a report ended, and Kind the type of the error, if
	// it is one of this program.
	Error string `json:"error,omitempty"`
	Kind  string `json:"kind,omitempty"`
}

// ReadRolloutEnd returns whether a run of a rollout is open, and else how it ended.
// A run that Temporal no longer keeps has ended without a report. It changes nothing.
func (a *Activities) ReadRolloutEnd(ctx context.Context, in RolloutRun) (RolloutEnd, error) {
	defer startHeartbeat(ctx)()
	c := a.temporal(ctx)
	d, err := c.DescribeWorkflow(ctx, in.ID, in.Run)
	if missing := new(serviceerror.NotFound); errors.As(err, &missing) {
		return RolloutEnd{Error: "Temporal no longer keeps it"}, nil
	}
	if err != nil {
		return RolloutEnd{}, classifyError(ctx, err)
	}
	if d.WorkflowCloseTime == nil {
		return RolloutEnd{Open: true}, nil
	}
	switch d.Status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return RolloutEnd{Canceled: true}, nil
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return RolloutEnd{Error: "terminated"}, nil
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return RolloutEnd{Error: "timed out"}, nil
	}
	report, err := readReport(ctx, c, in.ID, in.Run)
	if failed := new(temporal.ApplicationError); errors.As(err, &failed) {
		return RolloutEnd{Error: failed.Message(), Kind: failed.Type()}, nil
	}
	if err != nil {
		return RolloutEnd{}, classifyError(ctx, err)
	}
	return RolloutEnd{Report: &report}, nil
}
