package simulation

import (
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// A workflowObserver reports the progress of all workflows to the simulation.
type workflowObserver struct {
	interceptor.WorkerInterceptorBase
	*simulation
	mu   sync.Mutex
	runs int
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (o *workflowObserver) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs++
	in := &observedWorkflow{simulation: o.simulation, runID: fmt.Sprintf("run-%d", o.runs)}
	in.Next = next
	return in
}

// An observedWorkflow reports start and end of a workflow, and executes it until it is
// terminated.
type observedWorkflow struct {
	interceptor.WorkflowInboundInterceptorBase
	*simulation
	runID string
	out   *observedOutbound
}

// Init implements interceptor.WorkflowInboundInterceptor.
func (o *observedWorkflow) Init(out interceptor.WorkflowOutboundInterceptor) error {
	own := &observedOutbound{simulation: o.simulation, runID: o.runID, queries: map[string]any{}}
	own.Next, o.out = out, own
	return o.Next.Init(own)
}

// ExecuteWorkflow implements interceptor.WorkflowInboundInterceptor.
func (o *observedWorkflow) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	info := workflow.GetInfo(ctx)
	if info.WorkflowType.Name == release.PinWorkflow {
		defer o.simulation.checker.recordPin(info.WorkflowExecution.ID)()
	}
	switch info.WorkflowType.Name {
	case "Rollout":
	case "Release":
		result, err := o.executeUntilTerminated(ctx, in)
		report, _ := result.(*release.Report)
		o.checker.recordFailedCleanup(info.WorkflowExecution.ID, o.readEvents(info.WorkflowExecution.ID, report))
		return result, err
	default:
		return o.Next.ExecuteWorkflow(ctx, in)
	}
	run := o.simulation.checker.recordRolloutStart(info.WorkflowExecution.ID, o.runID, in.Args[0].(release.RolloutRequest))
	result, err := o.executeUntilTerminated(ctx, in)
	report, _ := result.(*release.Report)
	run.events = o.readEvents(run.id, report)
	o.simulation.checker.checkRolloutEnd(run, report, err)
	return result, err
}

// readEvents returns the events of a workflow that has ended or was terminated, and
// checks them.
func (o *observedWorkflow) readEvents(id string, report *release.Report) []release.Event {
	recorded, err := readRecorded(o.out.queries)
	if err != nil {
		o.addViolation("the events of %s can't be read: %v", id, err)
		return nil
	}
	o.checker.checkEvents(id, recorded, report)
	return recorded.events
}

// An observedOutbound reports the phases and the activities of a workflow.
type observedOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	*simulation
	runID         string
	activityCount int            // activities scheduled
	queries       map[string]any // handlers by query type
}

// SetQueryHandlerWithOptions implements interceptor.WorkflowOutboundInterceptor.
func (o *observedOutbound) SetQueryHandlerWithOptions(ctx workflow.Context, query string, handler any, options workflow.QueryHandlerOptions) error {
	o.queries[query] = handler
	return o.Next.SetQueryHandlerWithOptions(ctx, query, handler, options)
}

// GetInfo implements interceptor.WorkflowOutboundInterceptor. It sets the run ID,
// because the test environment uses the same one for all runs of a workflow ID.
func (o *observedOutbound) GetInfo(ctx workflow.Context) *workflow.Info {
	info := *o.Next.GetInfo(ctx)
	info.WorkflowExecution.RunID = o.runID
	return &info
}

// workerWait is added to the timeout of each activity, because the test environment
// counts the wait for a worker too. Type workers enforces the real timeout.
const workerWait = 1000 * time.Hour

// ExecuteActivity implements interceptor.WorkflowOutboundInterceptor.
func (o *observedOutbound) ExecuteActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	options := workflow.GetActivityOptions(ctx)
	o.workers.raiseTimeout(name, options.StartToCloseTimeout)
	options.StartToCloseTimeout += workerWait
	o.activityCount++
	options.ActivityID = fmt.Sprintf("%s/%d", o.runID, o.activityCount)
	o.checker.recordScheduled(o.runID, options.ActivityID, name, args)
	return o.Next.ExecuteActivity(workflow.WithActivityOptions(ctx, options), name, args...)
}

// UpsertTypedSearchAttributes implements interceptor.WorkflowOutboundInterceptor.
func (o *observedOutbound) UpsertTypedSearchAttributes(ctx workflow.Context, updates ...temporal.SearchAttributeUpdate) error {
	set := temporal.NewSearchAttributes(updates...)
	p, _ := set.GetKeyword(temporal.NewSearchAttributeKeyKeyword(release.AttrPhase))
	env, _ := set.GetKeyword(temporal.NewSearchAttributeKeyKeyword(release.AttrEnvironment))
	o.operators.enterPhase(o.Next.GetInfo(ctx).WorkflowExecution.ID, release.Phase(p), env)
	return nil
}
