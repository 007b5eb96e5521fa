package activities

import (
	"context"
	"fmt"
)

// A Holding is the rollout that holds the lock of an environment.
type Holding struct {
	Text    string `json:"text,omitempty"`    // the holder, and since when; "": the lock is free
	Release string `json:"release,omitempty"` // workflow ID of the release that holds it
}

// ReadLockHolder returns which rollout holds the lock of an environment: the open
// workflow with the ID of its rollout. The result is empty if the lock is free.
func (a *Activities) ReadLockHolder(ctx context.Context, rollout string) (Holding, error) {
	defer startHeartbeat(ctx)()
	d, err := a.temporal(ctx).DescribeWorkflow(ctx, rollout, "")
	if err != nil {
		return Holding{}, classifyError(ctx, err)
	}
	if d.WorkflowExecutionMetadata.WorkflowCloseTime != nil {
		return Holding{}, nil
	}
	summary, err := d.GetStaticSummary()
	if err != nil || summary == "" {
		summary = rollout
	}
	holding := Holding{Text: fmt.Sprintf("%s, since %s", summary, d.WorkflowStartTime.UTC().Format("15:04:05 UTC"))}
	if parent := d.ParentWorkflowExecution; parent != nil {
		holding.Release = parent.ID
	}
	return holding, nil
}
