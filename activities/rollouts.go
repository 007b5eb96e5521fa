package activities

import (
	"context"
	"fmt"

	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/release"
)

// Holder says in a sentence for whom the lock of an environment is taken, or ""
// when it is free.
func (a *Activities) Holder(ctx context.Context, rollout string) (string, error) {
	defer beat(ctx)()
	d, err := a.temporal(ctx).DescribeWorkflow(ctx, rollout, "")
	if err != nil {
		return "", classify(ctx, err)
	}
	if d.WorkflowExecutionMetadata.WorkflowCloseTime != nil {
		return "", nil
	}
	summary, err := d.GetStaticSummary()
	if err != nil || summary == "" {
		summary = rollout
	}
	return fmt.Sprintf("%s, since %s", summary, d.WorkflowStartTime.UTC().Format("15:04:05 UTC")), nil
}

// AwaitRollout returns when no rollout of that ID is open any more.
func (a *Activities) AwaitRollout(ctx context.Context, rollout string) error {
	defer beat(ctx)()
	// The run's own result is not ours to judge: closed is all that counts.
	run := a.temporal(ctx).GetWorkflow(ctx, rollout, "")
	if err := run.Get(ctx, nil); ctx.Err() != nil {
		return context.Cause(ctx)
	} else if err != nil {
		activity.GetLogger(ctx).Info("the rollout waited for ended", "phase", release.Queued, "error", err)
	}
	return nil
}
