// Package virtualtime keeps Temporal's test environment on the clock of a synctest
// bubble, so that a workflow and a simulated Fly share one virtual time.
package virtualtime

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/internal/sleep"
)

// KeepTime keeps a test environment on the clock of a synctest bubble, and makes it
// behave more like a Temporal server. The environment skips workflow timers and the
// pauses between two attempts of an activity; the simulated Fly in the bubble would
// not age meanwhile. It does not skip while an activity runs, so KeepTime keeps one
// running until over is closed. The interceptors in more are placed nearer to the
// activities.
func KeepTime(env *testsuite.TestWorkflowEnvironment, over <-chan struct{}, more ...interceptor.WorkerInterceptor) {
	env.SetTestTimeout(100000 * time.Hour)
	env.RegisterActivityWithOptions(func() error { <-over; return nil }, activity.RegisterOptions{Name: clockActivity})
	env.RegisterActivityWithOptions(func(ctx context.Context, d time.Duration) error {
		ctx, end := context.WithCancel(ctx)
		defer end()
		go func() {
			defer end()
			select {
			case <-over:
			case <-ctx.Done():
			}
		}()
		return sleep.For(ctx, d)
	}, activity.RegisterOptions{Name: timerActivity})
	flights := newActivityTracker()
	env.SetOnActivityCanceledListener(func(a *activity.Info) { flights.cancel(a.ActivityID) })
	env.SetWorkerOptions(sdkworker.Options{
		DeadlockDetectionTimeout:     1000 * time.Hour,
		MaxHeartbeatThrottleInterval: 2 * time.Second,
		Interceptors:                 append([]interceptor.WorkerInterceptor{&clockInterceptor{activityTracker: flights}}, more...),
	})
}

// Names of the activities that KeepTime adds.
const (
	clockActivity = "clock"
	timerActivity = "timer"
)

// IsOwn reports whether an activity is one of those that KeepTime adds, by its name.
func IsOwn(activity string) bool { return activity == clockActivity || activity == timerActivity }

// A clockInterceptor adds the interceptors of KeepTime to workflows and activities.
type clockInterceptor struct {
	interceptor.WorkerInterceptorBase
	*activityTracker
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (c *clockInterceptor) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	in := &clockWorkflow{activityTracker: c.activityTracker}
	in.Next = next
	return in
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (c *clockInterceptor) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &cancelInterceptor{activityTracker: c.activityTracker}
	in.Next = next
	return in
}

// An activityTracker tracks the running activities, by ID. It makes cancellation work
// as with a server: the activity is cancelled at its next heartbeat, is not retried,
// and the workflow can wait for it. The test environment would let the activity run
// for another minute, and even retry it.
type activityTracker struct {
	mu       sync.Mutex
	lastID   int
	running  map[string]context.CancelCauseFunc
	canceled map[string]bool
}

func newActivityTracker() *activityTracker {
	return &activityTracker{running: map[string]context.CancelCauseFunc{}, canceled: map[string]bool{}}
}

// newID returns a new activity ID.
func (t *activityTracker) newID() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastID++
	return fmt.Sprint("flight-", t.lastID)
}

// start records the start of an attempt. It returns false if the activity was
// cancelled.
func (t *activityTracker) start(id string, cancel context.CancelCauseFunc) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running[id] = cancel
	return !t.canceled[id]
}

func (t *activityTracker) end(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, id)
}

// cancel cancels an activity. Its context ends a second later, as after a heartbeat.
func (t *activityTracker) cancel(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.canceled[id] = true
	if cancel := t.running[id]; cancel != nil {
		time.AfterFunc(time.Second, func() { cancel(temporal.NewCanceledError()) })
	}
}

func (t *activityTracker) isRunning(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[id] != nil
}

// A cancelInterceptor cancels activities as a server would.
type cancelInterceptor struct {
	interceptor.ActivityInboundInterceptorBase
	*activityTracker
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor.
func (a *cancelInterceptor) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	id := activity.GetInfo(ctx).ActivityID
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer a.end(id)
	if !a.start(id, cancel) {
		return nil, temporal.NewCanceledError()
	}
	result, err := a.Next.ExecuteActivity(ctx, in)
	if ctx.Err() != nil && err != nil {
		return nil, temporal.NewCanceledError()
	}
	return result, err
}

// A clockWorkflow starts the clock activity in the root workflow.
type clockWorkflow struct {
	interceptor.WorkflowInboundInterceptorBase
	*activityTracker
}

// Init implements interceptor.WorkflowInboundInterceptor.
func (w *clockWorkflow) Init(out interceptor.WorkflowOutboundInterceptor) error {
	patient := &serverLikeOutbound{activityTracker: w.activityTracker}
	patient.Next = out
	return w.Next.Init(patient)
}

// ExecuteWorkflow implements interceptor.WorkflowInboundInterceptor.
func (w *clockWorkflow) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	if workflow.GetInfo(ctx).ParentWorkflowExecution == nil {
		apart, _ := workflow.NewDisconnectedContext(ctx)
		workflow.ExecuteActivity(workflow.WithActivityOptions(apart, workflow.ActivityOptions{StartToCloseTimeout: 100000 * time.Hour}), clockActivity)
	}
	return w.Next.ExecuteWorkflow(ctx, in)
}

// A serverLikeOutbound removes three differences from a server. The test environment
// counts the pause between two attempts as missing heartbeats. It makes at most 10
// attempts if no limit is set. Its timers fire early when another one, set long
// before, fires.
type serverLikeOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	*activityTracker
}

// ExecuteActivity implements interceptor.WorkflowOutboundInterceptor.
func (w *serverLikeOutbound) ExecuteActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	options := workflow.GetActivityOptions(ctx)
	if policy := options.RetryPolicy; policy != nil && policy.MaximumAttempts == 0 {
		patient := *policy
		patient.MaximumAttempts = 1_000_000
		options.RetryPolicy = &patient
	}
	options.ActivityID, options.HeartbeatTimeout = cmp.Or(options.ActivityID, w.newID()), 1000*time.Hour
	flight := w.Next.ExecuteActivity(workflow.WithActivityOptions(ctx, options), name, args...)
	if !options.WaitForCancellation {
		return flight
	}
	return &awaitedFuture{flight, func() bool { return w.isRunning(options.ActivityID) }}
}

// NewTimer implements interceptor.WorkflowOutboundInterceptor.
func (w *serverLikeOutbound) NewTimer(ctx workflow.Context, d time.Duration) workflow.Future {
	return w.NewTimerWithOptions(ctx, d, workflow.TimerOptions{})
}

// NewTimerWithOptions implements interceptor.WorkflowOutboundInterceptor.
func (w *serverLikeOutbound) NewTimerWithOptions(ctx workflow.Context, d time.Duration, options workflow.TimerOptions) workflow.Future {
	if d < time.Second {
		return w.Next.NewTimerWithOptions(ctx, d, options)
	}
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: d + time.Hour, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	}), timerActivity, d)
}

// Sleep implements interceptor.WorkflowOutboundInterceptor.
func (w *serverLikeOutbound) Sleep(ctx workflow.Context, d time.Duration) error {
	return w.NewTimer(ctx, d).Get(ctx, nil)
}

// An awaitedFuture is the future of an activity. It is ready when the activity has
// returned.
type awaitedFuture struct {
	workflow.Future
	isRunning func() bool
}

// Get implements workflow.Future.
func (f *awaitedFuture) Get(ctx workflow.Context, value any) error {
	err := f.Future.Get(ctx, value)
	apart, _ := workflow.NewDisconnectedContext(ctx)
	for f.isRunning() && workflow.Sleep(apart, 99_700*time.Microsecond) == nil {
	}
	return err
}

// IsReady implements workflow.Future.
func (f *awaitedFuture) IsReady() bool { return f.Future.IsReady() && !f.isRunning() }
