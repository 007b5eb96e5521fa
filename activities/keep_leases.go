package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/fly/driver"
)

// KeepLeases refreshes leases until it is canceled, with driver.KeepLeases. It fails
// with KindConflict if one is lost. It sends one heartbeat per refresh, because a
// rollout may be held for days. The details are the time of the last refresh, which
// another attempt needs.
func (a *Activities) KeepLeases(ctx context.Context, in LeaseInput) error {
	last := activity.GetInfo(ctx).ScheduledTime.Unix()
	if unix := int64(0); activity.HasHeartbeatDetails(ctx) && activity.GetHeartbeatDetails(ctx, &unix) == nil {
		last = unix
	}
	return classifyError(ctx, a.driver().KeepLeases(withAttempt(ctx, a.temporal, nil), driver.Keeping{
		Holder: in.Holder, Machines: in.Machines, Last: time.Unix(last, 0),
		IsOver: func(ctx context.Context) bool { return hasWorkflowEnded(ctx, a.temporal) },
		Begin: func(last time.Time) (end func()) {
			activity.RecordHeartbeat(ctx, last.Unix())
			return startHeartbeatWith(ctx, func() []any { return []any{last.Unix()} })
		},
	}))
}

// hasWorkflowEnded reports whether ctx ended because Temporal does not know this
// attempt, and the workflow has ended. Otherwise another attempt continues.
func hasWorkflowEnded(ctx context.Context, temporal func(context.Context) Temporal) bool {
	if unknown := new(serviceerror.NotFound); !errors.As(context.Cause(ctx), &unknown) {
		return false
	}
	run := activity.GetInfo(ctx).WorkflowExecution
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	d, err := temporal(ctx).DescribeWorkflow(ctx, run.ID, run.RunID)
	return err == nil && d.WorkflowExecutionMetadata.WorkflowCloseTime != nil
}
