package activities

import (
	"context"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly/driver"
)

// begin sends heartbeats until the returned function is called. The returned context
// tells the driver of this attempt of the activity.
func (a *Activities) begin(ctx context.Context) (context.Context, func()) {
	return a.withAttempt(ctx, nil), heartbeat(ctx)
}

// beginWaiting is begin for an activity that waits: its heartbeats report for what.
func (a *Activities) beginWaiting(ctx context.Context) (context.Context, func()) {
	w, stop := newWaitReporter(ctx)
	return a.withAttempt(ctx, w.set), stop
}

func (a *Activities) withAttempt(ctx context.Context, waiting func(ctx context.Context, name, reason string)) context.Context {
	info := activity.GetInfo(ctx)
	return driver.WithAttempt(ctx, driver.Attempt{
		Number: int(info.Attempt), Scheduled: info.ScheduledTime, Waiting: waiting, Log: activity.GetLogger(ctx), Aborted: isAborted,
		RunEnded: func(ctx context.Context, run string) bool { return a.isEarlierRunClosed(ctx, run) },
	})
}

// isAborted reports whether ctx ended because the workflow canceled the activity. If
// its worker ends, or was away for so long that Temporal gave the activity to another,
// that one continues.
func isAborted(ctx context.Context) bool { return temporal.IsCanceledError(context.Cause(ctx)) }

// isEarlierRunClosed reports whether that run of the workflow that this activity
// belongs to is another one than its own, and closed. A run that cannot be read is not.
func (a *Activities) isEarlierRunClosed(ctx context.Context, run string) bool {
	self := activity.GetInfo(ctx).WorkflowExecution
	if run == self.RunID {
		return false
	}
	d, err := a.temporal(ctx).DescribeWorkflow(ctx, self.ID, run)
	return err == nil && d.WorkflowCloseTime != nil
}
