package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// Three kinds of activity, three budgets. An activity that fits none of them
// has the wrong shape. All heartbeat: that is how an abort reaches them, and
// how the death of a worker is noticed in seconds.
const (
	heartbeat = 10 * time.Second
	// stepHeartbeat is for steps on machines: what a killed worker had in hand
	// begins again within 5 seconds of another worker's start.
	stepHeartbeat = 4 * time.Second
	// watchHeartbeat is for what only watches for long: each heartbeat is paid
	// for, and an attempt after a worker's death may be half a minute late.
	watchHeartbeat = 30 * time.Second
	// patience is how long Fly, or git, may be away before a step is given up.
	patience = 2 * time.Hour
)

// calling: a few requests, seconds.
func calling(ctx workflow.Context, summary string) workflow.Context {
	return budget(ctx, release.TaskQueue, summary, 5*time.Minute, patience)
}

// waiting: an effect and its confirmation, for as long as that may take.
func waiting(ctx workflow.Context, summary string, long time.Duration) workflow.Context {
	return budget(ctx, release.TaskQueue, summary, long+10*time.Minute, long+patience)
}

// stepping: as waiting, for a step on a machine.
func stepping(ctx workflow.Context, summary string, long time.Duration) workflow.Context {
	ctx = waiting(ctx, summary, long)
	options := workflow.GetActivityOptions(ctx)
	options.HeartbeatTimeout, options.RetryPolicy.InitialInterval = stepHeartbeat, 500*time.Millisecond
	return workflow.WithActivityOptions(ctx, options)
}

// watching: as waiting, for what changes nothing and lasts long. An abort does
// not wait until the activity has heard of it.
func watching(ctx workflow.Context, summary string, long time.Duration) workflow.Context {
	ctx = waiting(ctx, summary, long)
	options := workflow.GetActivityOptions(ctx)
	options.WaitForCancellation, options.HeartbeatTimeout = false, watchHeartbeat
	return workflow.WithActivityOptions(ctx, options)
}

// building: a checkout, and a test or a build on it. What fails for a reason of
// the machine or of the network is tried for some five minutes: nothing was
// changed yet, so stopping then costs nobody anything.
func building(ctx workflow.Context, summary string, long time.Duration) workflow.Context {
	ctx = budget(ctx, release.BuildQueue, summary, long+10*time.Minute, 2*long+patience)
	options := workflow.GetActivityOptions(ctx)
	options.RetryPolicy.MaximumAttempts = 10
	return workflow.WithActivityOptions(ctx, options)
}

// reading: the history of a repository. It takes no place of a test or a build.
func reading(ctx workflow.Context, summary string) workflow.Context {
	return budget(ctx, release.GitQueue, summary, 5*time.Minute, patience)
}

func budget(ctx workflow.Context, queue, summary string, attempt, whole time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		StartToCloseTimeout:    attempt,
		ScheduleToCloseTimeout: whole,
		HeartbeatTimeout:       heartbeat,
		WaitForCancellation:    true,
		Summary:                view.Summary(summary),
		// This is for workers that died: what they had in hand begins again
		// within seconds. Activities that fail say by themselves how much later
		// they may be tried again. A result that the server has no room for does
		// not get smaller (payloadSizeError is what the SDK calls it).
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 1, NonRetryableErrorTypes: []string{"payloadSizeError"},
		},
	})
}
