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

// A ledger answers what activities ask of Temporal about the rollouts and pins
// of a scenario, which Temporal's test environment does not: it looks on while
// they begin and end. It may be shared by scenarios, as a Temporal is.
type ledger struct {
	activities.Temporal
	interceptor.WorkerInterceptorBase
	mu      sync.Mutex
	runs    []*ledgerRun
	orphans bool // rollouts do not say to which release they belong
	closed  bool // nothing is noted any more
	started []activity.Info
}

type ledgerRun struct {
	id, run, parent string
	begun, ended    time.Time
	in, result      any
	err             error
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (l *ledger) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	in := &ledgerWorkflow{ledger: l}
	in.Next = next
	return in
}

type ledgerWorkflow struct {
	interceptor.WorkflowInboundInterceptorBase
	*ledger
}

// ExecuteWorkflow implements interceptor.WorkflowInboundInterceptor.
func (w *ledgerWorkflow) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	info := workflow.GetInfo(ctx)
	if name := info.WorkflowType.Name; name != release.RolloutWorkflow && name != release.PinWorkflow {
		return w.Next.ExecuteWorkflow(ctx, in)
	}
	r := &ledgerRun{id: info.WorkflowExecution.ID, begun: workflow.Now(ctx), in: in.Args[0]}
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
func (l *ledger) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &ledgerActivity{ledger: l}
	in.Next = next
	return in
}

type ledgerActivity struct {
	interceptor.ActivityInboundInterceptorBase
	*ledger
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor.
func (a *ledgerActivity) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	a.mu.Lock()
	a.started = append(a.started, activity.GetInfo(ctx))
	a.mu.Unlock()
	return a.Next.ExecuteActivity(ctx, in)
}

// startedActivities returns the started attempts of activities, except the test's clock.
// It replaces SetOnActivityStartedListener, which blocks its caller forever if an activity
// starts while the workflow ends.
func (l *ledger) startedActivities() []activity.Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.started), func(info activity.Info) bool { return info.ActivityType.Name == "clock" })
}

// endPins ends the pins that a scenario leaves, once its release is over, and
// remembers them as open: the test environment waits for all its workflows.
func (s *scenario) endPins() {
	var look func()
	look = func() {
		if s.status().Phase != release.Done {
			s.env.RegisterDelayedCallback(look, time.Minute)
			return
		}
		s.ledger.mu.Lock()
		s.ledger.closed = true
		runs := slices.Clone(s.ledger.runs)
		s.ledger.mu.Unlock()
		for _, r := range runs {
			if _, pin := r.in.(release.Pin); pin && r.ended.IsZero() {
				if err := s.env.SignalWorkflowByID(r.id, release.UnpinSignal, release.Unpinning{By: "the scenario", Reason: "it is over"}); err != nil {
					s.t.Error(err)
				}
			}
		}
	}
	s.env.RegisterDelayedCallback(look, time.Minute)
}

// DescribeWorkflow implements activities.Temporal.
func (l *ledger) DescribeWorkflow(_ context.Context, id, _ string) (*client.WorkflowExecutionDescription, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range slices.Backward(l.runs) {
		if r.id != id {
			continue
		}
		d := &client.WorkflowExecutionDescription{}
		d.WorkflowStartTime = r.begun
		if r.parent != "" && !l.orphans {
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
func (l *ledger) ListWorkflow(_ context.Context, in *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
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
func (l *ledger) GetWorkflow(_ context.Context, _, run string) client.WorkflowRun {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.runs, func(r *ledgerRun) bool { return r.run == run })
	return &ledgerResult{run: l.runs[i]}
}

type ledgerResult struct {
	client.WorkflowRun
	run *ledgerRun
}

// Get implements client.WorkflowRun.
func (r *ledgerResult) Get(_ context.Context, value any) error {
	doc, err := json.Marshal(r.run.result)
	if err == nil && r.run.err == nil {
		err = json.Unmarshal(doc, value)
	}
	return err
}
