package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// Heartbeat timeouts and the retry budget. Every activity sends heartbeats: they
// deliver an abort to the activity, and a missing one reveals the death of a worker
// within seconds.
const (
	heartbeat = 10 * time.Second
	// stepHeartbeat is the timeout for steps on machines: after a worker was killed,
	// another worker continues its steps within 5 seconds of its start.
	stepHeartbeat = 4 * time.Second
	// watchHeartbeat is the timeout for long verifications. Each heartbeat costs money,
	// and another attempt may start half a minute late.
	watchHeartbeat = 30 * time.Second
	// outageBudget is how long Fly or git may be unavailable before an activity fails.
	outageBudget = 2 * time.Hour
)

// withCallOptions returns ctx with the options of an activity that takes a few
// requests.
func withCallOptions(ctx workflow.Context, summary string) workflow.Context {
	return withBudget(ctx, release.TaskQueue, summary, 5*time.Minute, outageBudget)
}

// withWaitOptions returns ctx with the options of an activity that changes something
// and waits up to limit for the confirmation.
func withWaitOptions(ctx workflow.Context, summary string, limit time.Duration) workflow.Context {
	return withBudget(ctx, release.TaskQueue, summary, limit+10*time.Minute, limit+outageBudget)
}

// withStepOptions is withWaitOptions for a step on a machine.
func withStepOptions(ctx workflow.Context, summary string, limit time.Duration) workflow.Context {
	ctx = withWaitOptions(ctx, summary, limit)
	options := workflow.GetActivityOptions(ctx)
	options.HeartbeatTimeout, options.RetryPolicy.InitialInterval = stepHeartbeat, 500*time.Millisecond
	return workflow.WithActivityOptions(ctx, options)
}

// withWatchOptions is withWaitOptions for a long activity that changes nothing. An
// abort does not wait for the activity to end.
func withWatchOptions(ctx workflow.Context, summary string, limit time.Duration) workflow.Context {
	ctx = withWaitOptions(ctx, summary, limit)
	options := workflow.GetActivityOptions(ctx)
	options.WaitForCancellation, options.HeartbeatTimeout = false, watchHeartbeat
	return workflow.WithActivityOptions(ctx, options)
}

// withBuildOptions returns ctx with the options of a test or a build on a checkout.
// Failures of the machine or the network are retried for about five minutes: nothing
// was changed yet, so a stop is cheap.
func withBuildOptions(ctx workflow.Context, summary string, limit time.Duration) workflow.Context {
	ctx = withBudget(ctx, release.BuildQueue, summary, limit+10*time.Minute, 2*limit+outageBudget)
	options := workflow.GetActivityOptions(ctx)
	options.RetryPolicy.MaximumAttempts = 10
	return workflow.WithActivityOptions(ctx, options)
}

// withGitOptions returns ctx with the options of an activity that reads the history of
// a repository. Its queue is separate from that of tests and builds.
func withGitOptions(ctx workflow.Context, summary string) workflow.Context {
	return withBudget(ctx, release.GitQueue, summary, 5*time.Minute, outageBudget)
}

// withBudget returns ctx with the options that all activities share: attempt limits one
// attempt, whole limits all attempts.
func withBudget(ctx workflow.Context, queue, summary string, attempt, whole time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		StartToCloseTimeout:    attempt,
		ScheduleToCloseTimeout: whole,
		HeartbeatTimeout:       heartbeat,
		WaitForCancellation:    true,
		Summary:                view.Summary(summary),
		// The policy is for workers that died: their activities start again within
		// seconds. An activity that fails sets its own, longer delay. payloadSizeError
		// is the SDK's error for a result that is too large, which a retry does not
		// change.
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 1, NonRetryableErrorTypes: []string{"payloadSizeError"},
		},
	})
}
