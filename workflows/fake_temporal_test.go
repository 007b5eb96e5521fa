package workflows_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// A fakeTemporal replaces the Temporal client of activities, which Temporal's test
// environment does not have. It records the rollouts and pins of scenarios. Scenarios
// may share it.
type fakeTemporal struct {
	activities.Temporal
	interceptor.WorkerInterceptorBase
	mu           sync.Mutex
	runs         []*fakeRun
	hasNoParents bool // rollouts have no parent release
	closed       bool // ends of runs are no longer recorded
	started      []activity.Info
}

type fakeRun struct {
	id, run, parent string
	begun, ended    time.Time
	in, result      any
	err             error
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (l *fakeTemporal) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	in := &workflowRecorder{fakeTemporal: l}
	in.Next = next
	return in
}

type workflowRecorder struct {
	interceptor.WorkflowInboundInterceptorBase
	*fakeTemporal
}

// ExecuteWorkflow implements interceptor.WorkflowInboundInterceptor.
func (w *workflowRecorder) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	info := workflow.GetInfo(ctx)
	if name := info.WorkflowType.Name; name != release.RolloutWorkflow && name != release.PinWorkflow {
		return w.Next.ExecuteWorkflow(ctx, in)
	}
	r := &fakeRun{id: info.WorkflowExecution.ID, begun: workflow.Now(ctx), in: in.Args[0]}
	if info.ParentWorkflowExecution != nil {
		r.parent = info.ParentWorkflowExecution.ID
	}
	w.mu.Lock()
	r.run = fmt.Sprintf("%s-%d", info.WorkflowExecution.RunID, len(w.runs))
	w.runs = append(w.runs, r)
	w.mu.Unlock()
	result, err := w.Next.ExecuteWorkflow(ctx, in)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		r.ended, r.result, r.err = workflow.Now(ctx), result, err
	}
	return result, err
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (l *fakeTemporal) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &activityRecorder{fakeTemporal: l}
	in.Next = next
	return in
}

type activityRecorder struct {
	interceptor.ActivityInboundInterceptorBase
	*fakeTemporal
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor.
func (a *activityRecorder) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	a.mu.Lock()
	a.started = append(a.started, activity.GetInfo(ctx))
	a.mu.Unlock()
	return a.Next.ExecuteActivity(ctx, in)
}

// startedActivities returns the started attempts of activities, except the test's clock.
// It replaces SetOnActivityStartedListener, which blocks its caller forever if an activity
// starts while the workflow ends.
func (l *fakeTemporal) startedActivities() []activity.Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.started), func(info activity.Info) bool { return info.ActivityType.Name == "clock" })
}

// endPins closes the pins of a scenario once its release has ended, and keeps them
// recorded as open: the test environment waits for all its workflows.
func (s *scenario) endPins() {
	var poll func()
	poll = func() {
		if s.status().Phase != release.Done {
			s.env.RegisterDelayedCallback(poll, time.Minute)
			return
		}
		s.temporal.mu.Lock()
		s.temporal.closed = true
		runs := slices.Clone(s.temporal.runs)
		s.temporal.mu.Unlock()
		for _, r := range runs {
			if _, pin := r.in.(release.Pin); pin && r.ended.IsZero() {
				if err := s.env.SignalWorkflowByID(r.id, release.UnpinSignal, release.Unpinning{By: "the scenario", Reason: "it is over"}); err != nil {
					s.t.Error(err)
				}
			}
		}
	}
	s.env.RegisterDelayedCallback(poll, time.Minute)
}

// DescribeWorkflow implements activities.Temporal.
func (l *fakeTemporal) DescribeWorkflow(_ context.Context, id, _ string) (*client.WorkflowExecutionDescription, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range slices.Backward(l.runs) {
		if r.id != id {
			continue
		}
		d := &client.WorkflowExecutionDescription{}
		d.WorkflowStartTime = r.begun
		if r.parent != "" && !l.hasNoParents {
			d.ParentWorkflowExecution = &workflow.Execution{ID: r.parent}
		}
		if !r.ended.IsZero() {
			d.WorkflowCloseTime = &r.ended
		}
		if pin, ok := r.in.(release.Pin); ok {
			p, err := converter.GetDefaultDataConverter().ToPayload(pin)
			if err != nil {
				return nil, err
			}
			d.Memo = &commonpb.Memo{Fields: map[string]*commonpb.Payload{release.MemoPin: p}}
		}
		return d, nil
	}
	return nil, serviceerror.NewNotFound("no such workflow")
}

// ListWorkflow implements activities.Temporal: the completed runs of one workflow ID.
func (l *fakeTemporal) ListWorkflow(_ context.Context, in *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := &workflowservice.ListWorkflowExecutionsResponse{}
	for _, r := range slices.Backward(l.runs) {
		if !r.ended.IsZero() && r.err == nil && strings.Contains(in.GetQuery(), "'"+r.id+"'") {
			list.Executions = append(list.Executions, &workflowpb.WorkflowExecutionInfo{
				Execution: &commonpb.WorkflowExecution{WorkflowId: r.id, RunId: r.run}, StartTime: timestamppb.New(r.begun),
				CloseTime: timestamppb.New(r.ended), Status: enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
			})
		}
	}
	return list, nil
}

// GetWorkflow implements activities.Temporal, for runs that have ended.
func (l *fakeTemporal) GetWorkflow(_ context.Context, _, run string) client.WorkflowRun {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.runs, func(r *fakeRun) bool { return r.run == run })
	return &fakeResult{run: l.runs[i]}
}

type fakeResult struct {
	client.WorkflowRun
	run *fakeRun
}

// Get implements client.WorkflowRun.
func (r *fakeResult) Get(_ context.Context, value any) error {
	doc, err := json.Marshal(r.run.result)
	if err == nil && r.run.err == nil {
		err = json.Unmarshal(doc, value)
	}
	return err
}
