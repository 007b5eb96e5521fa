package activities

import (
	"context"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly/driver"
)

// beginAttempt sends heartbeats until the returned function is called. The returned
// context describes this attempt of the activity to the driver.
func (a *Activities) beginAttempt(ctx context.Context) (context.Context, func()) {
	return withAttempt(ctx, a.temporal, nil), startHeartbeat(ctx)
}

// beginWaitingAttempt is beginAttempt for an activity that waits: its heartbeats
// contain the reasons of the driver.
func (a *Activities) beginWaitingAttempt(ctx context.Context) (context.Context, func()) {
	w, stop := newWaitReporter(ctx)
	return withAttempt(ctx, a.temporal, w.setReason), stop
}

// withAttempt returns a context that describes this attempt of the activity to the
// driver.
func withAttempt(ctx context.Context, temporal func(context.Context) Temporal, waiting func(ctx context.Context, name, reason string)) context.Context {
	info := activity.GetInfo(ctx)
	return driver.WithAttempt(ctx, driver.Attempt{
		Number: int(info.Attempt), Scheduled: info.ScheduledTime, Waiting: waiting, Log: activity.GetLogger(ctx), Aborted: isAborted,
		RunEnded: func(ctx context.Context, run string) bool { return isEarlierRunClosed(ctx, temporal(ctx), run) },
	})
}

// isAborted reports whether ctx ended because the workflow canceled the activity. It
// returns false if the worker stops, or if Temporal gave the activity to another
// worker, which then continues it.
func isAborted(ctx context.Context) bool { return temporal.IsCanceledError(context.Cause(ctx)) }

// isEarlierRunClosed reports whether run is a closed run of this activity's workflow,
// other than its own. It returns false if the run cannot be read.
func isEarlierRunClosed(ctx context.Context, c Temporal, run string) bool {
	self := activity.GetInfo(ctx).WorkflowExecution
	if run == self.RunID {
		return false
	}
	d, err := c.DescribeWorkflow(ctx, self.ID, run)
	return err == nil && d.WorkflowCloseTime != nil
}
