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
	return withAttempt(ctx, a.temporal, nil), heartbeat(ctx)
}

// beginWaiting is begin for an activity that waits: its heartbeats report for what.
func (a *Activities) beginWaiting(ctx context.Context) (context.Context, func()) {
	w, stop := newWaitReporter(ctx)
	return withAttempt(ctx, a.temporal, w.set), stop
}

// withAttempt returns a context that tells the driver of this attempt of the activity.
func withAttempt(ctx context.Context, temporal func(context.Context) Temporal, waiting func(ctx context.Context, name, reason string)) context.Context {
	info := activity.GetInfo(ctx)
	return driver.WithAttempt(ctx, driver.Attempt{
		Number: int(info.Attempt), Scheduled: info.ScheduledTime, Waiting: waiting, Log: activity.GetLogger(ctx), Aborted: isAborted,
		RunEnded: func(ctx context.Context, run string) bool { return isEarlierRunClosed(ctx, temporal(ctx), run) },
	})
}

// isAborted reports whether ctx ended because the workflow canceled the activity. If
// its worker ends, or was away for so long that Temporal gave the activity to another,
// that one continues.
func isAborted(ctx context.Context) bool { return temporal.IsCanceledError(context.Cause(ctx)) }

// isEarlierRunClosed reports whether that run of the workflow that this activity
// belongs to is another one than its own, and closed. A run that cannot be read is not.
func isEarlierRunClosed(ctx context.Context, c Temporal, run string) bool {
	self := activity.GetInfo(ctx).WorkflowExecution
	if run == self.RunID {
		return false
	}
	d, err := c.DescribeWorkflow(ctx, self.ID, run)
	return err == nil && d.WorkflowCloseTime != nil
}
