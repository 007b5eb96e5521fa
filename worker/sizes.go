package worker

import (
	"context"
	"fmt"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
)

// sizeLimiter is an interceptor that refuses inputs and results larger than Temporal's limit.
// Without it an activity with a larger result would be retried forever, and a workflow with
// a larger input would fail its workflow task forever. With it the call fails with
// KindTooLarge, which is not retried: a rollout in progress is then held.
//
// Plans are measured before the first change, so that this affects only values that grew
// since.
type sizeLimiter struct {
	interceptor.WorkerInterceptorBase
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (*sizeLimiter) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &activityLimiter{}
	in.Next = next
	return in
}

type activityLimiter struct {
	interceptor.ActivityInboundInterceptorBase
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor.
func (a *activityLimiter) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	result, err := a.Next.ExecuteActivity(ctx, in)
	if err != nil {
		return result, err
	}
	if result == nil {
		return nil, nil
	}
	encoded, err := encodeLimited(result, "the result of "+activity.GetInfo(ctx).ActivityType.Name)
	if err != nil {
		return nil, err
	}
	return encoded, nil
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (*sizeLimiter) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	in := &workflowLimiter{}
	in.Next = next
	return in
}

type workflowLimiter struct {
	interceptor.WorkflowInboundInterceptorBase
}

// Init implements interceptor.WorkflowInboundInterceptor.
func (w *workflowLimiter) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	out := &callLimiter{}
	out.Next = outbound
	return w.Next.Init(out)
}

type callLimiter struct {
	interceptor.WorkflowOutboundInterceptorBase
}

// ExecuteActivity implements interceptor.WorkflowOutboundInterceptor.
func (c *callLimiter) ExecuteActivity(ctx workflow.Context, activityType string, args ...any) workflow.Future {
	encoded, err := encodeAllLimited(args, "the input of "+activityType)
	if err != nil {
		return newFailedFuture(ctx, err)
	}
	return c.Next.ExecuteActivity(ctx, activityType, encoded...)
}

// ExecuteChildWorkflow implements interceptor.WorkflowOutboundInterceptor.
func (c *callLimiter) ExecuteChildWorkflow(ctx workflow.Context, childType string, args ...any) workflow.ChildWorkflowFuture {
	encoded, err := encodeAllLimited(args, "the input of "+childType)
	if err != nil {
		return failedChild{newFailedFuture(ctx, err)}
	}
	return c.Next.ExecuteChildWorkflow(ctx, childType, encoded...)
}

func newFailedFuture(ctx workflow.Context, err error) workflow.Future {
	future, set := workflow.NewFuture(ctx)
	set.SetError(err)
	return future
}

// A failedChild is the future of a child workflow that was not started.
type failedChild struct{ workflow.Future }

// GetChildWorkflowExecution implements workflow.ChildWorkflowFuture.
func (f failedChild) GetChildWorkflowExecution() workflow.Future { return f.Future }

// SignalChildWorkflow implements workflow.ChildWorkflowFuture.
func (f failedChild) SignalChildWorkflow(workflow.Context, string, any) workflow.Future {
	return f.Future
}

func encodeAllLimited(values []any, what string) ([]any, error) {
	encoded := make([]any, len(values))
	for i, v := range values {
		var err error
		if encoded[i], err = encodeLimited(v, what); err != nil {
			return nil, err
		}
	}
	return encoded, nil
}

// encodeLimited returns value in its stored form, so that it is not encoded again. It returns an
// error of type KindTooLarge if that is larger than Temporal's limit.
func encodeLimited(value any, what string) (converter.RawValue, error) {
	encoded, size, err := payload.Encode(value)
	if err != nil {
		return encoded, err
	}
	if size > payload.Limit {
		return encoded, temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("%s is too large: it takes %.1f MB, and Temporal stores at most %d MB as one value", what, float64(size)/(1<<20), payload.Limit>>20),
			release.KindTooLarge, nil)
	}
	return encoded, nil
}
