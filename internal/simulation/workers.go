package simulation

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/internal/virtualtime"
)

// The workers execute activities. They can be killed between any two requests, lose
// the result of an activity, or lose the connection to Temporal and continue.
type workers struct {
	interceptor.WorkerInterceptorBase
	sim *simulation

	mu             sync.Mutex
	running        map[*attempt]bool
	downUntil      time.Time // until then no worker is up
	losses         []*lostResult
	timeouts       map[string]time.Duration // of one attempt, by activity
	terminatedRuns map[string]bool          // by run ID
}

// A lostResult makes the results of an activity get lost: it skips some attempts and
// then drops the results of the next ones.
type lostResult struct {
	activity    string
	skip, times int
}

// An attempt is one attempt of an activity on one worker.
type attempt struct {
	name        string
	runID       string // of the workflow that scheduled it
	workflowID  string
	input       any
	killed      atomic.Bool   // its process was killed, so it sends nothing more
	abandoned   chan struct{} // closed when Temporal no longer accepts its result
	abandonOnce sync.Once
	cancel      context.CancelCauseFunc
}

type attemptKey struct{}

// attemptOf returns the attempt that ctx belongs to, or nil.
func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// String returns a key of the attempt for random draws: activity, verb, Fly app and
// machine.
func (a *attempt) String() string {
	if a == nil {
		return ""
	}
	in, _ := a.stepInput()
	return a.name + string(in.Step.Verb) + in.Step.FlyApp + in.Step.Machine
}

func (a *attempt) isKilled() bool { return a != nil && a.killed.Load() }

func newWorkers(s *simulation) *workers {
	return &workers{sim: s, running: map[*attempt]bool{}, timeouts: map[string]time.Duration{}, terminatedRuns: map[string]bool{}}
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (w *workers) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &workerInterceptor{workers: w}
	in.Next = next
	return in
}

// A workerInterceptor executes activities on the workers.
type workerInterceptor struct {
	interceptor.ActivityInboundInterceptorBase
	*workers
}

// An activityResult is the result of one attempt.
type activityResult struct {
	value any
	err   error
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor. Attempts of a
// terminated run return at the end of the simulation. Otherwise the test environment
// would pass their results to a workflow whose goroutines are exiting.
func (w *workerInterceptor) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	value, err := w.runAttempt(ctx, in)
	if run, _, _ := strings.Cut(activity.GetInfo(ctx).ActivityID, "/"); w.isRunTerminated(run) {
		<-w.sim.done
		return nil, temporal.NewCanceledError() // prevents a retry
	}
	return value, err
}

// runAttempt executes one attempt of an activity on a worker.
func (w *workerInterceptor) runAttempt(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	name := activity.GetInfo(ctx).ActivityType.Name
	if virtualtime.IsOwn(name) {
		return w.Next.ExecuteActivity(ctx, in)
	}
	if err := w.waitForWorker(ctx); err != nil {
		return nil, err
	}
	a := newAttempt(activity.GetInfo(ctx), in.Args)
	own, cancel := context.WithCancelCause(context.WithValue(ctx, attemptKey{}, a))
	a.cancel = cancel
	time.Sleep(w.drawDelay(a)) // before startAttempt, which depends on the order of attempts
	if w.isRunTerminated(a.runID) {
		cancel(nil)
		return nil, temporal.NewCanceledError() // its workflow was terminated before a worker received it
	}
	lose := w.startAttempt(a)
	w.sim.checker.addAttempt(a)
	done := make(chan activityResult, 1)
	go w.executeAttempt(own, in, a, done)
	late := time.NewTimer(w.timeoutOf(a.name))
	defer late.Stop()
	select {
	case <-late.C:
		cancel(context.DeadlineExceeded)
		w.sim.checker.dropAttempt(a)
		return nil, temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	case result := <-done:
		if lose {
			w.sim.logEvent("the result of %s is lost", a.name)
			w.sim.checker.dropAttempt(a)
			return nil, w.waitForHeartbeatTimeout(a)
		}
		w.sim.checker.finishAttempt(a, result.err)
		if result.err == nil {
			w.sim.checker.recordCompleted(activity.GetInfo(ctx).ActivityID, result.value)
		}
		return result.value, result.err
	case <-a.abandoned:
		w.sim.checker.dropAttempt(a)
		if w.isRunTerminated(a.runID) {
			return nil, temporal.NewCanceledError()
		}
		return nil, w.waitForHeartbeatTimeout(a)
	}
}

// newAttempt returns the attempt of an activity with the given arguments.
func newAttempt(info activity.Info, args []any) *attempt {
	run, _, _ := strings.Cut(info.ActivityID, "/")
	a := &attempt{name: info.ActivityType.Name, runID: run, workflowID: info.WorkflowExecution.ID, abandoned: make(chan struct{})}
	if len(args) > 0 {
		a.input = args[0]
	}
	return a
}

// executeAttempt executes the activity and sends its result to done. It reports a
// panic as a violation.
func (w *workerInterceptor) executeAttempt(ctx context.Context, in *interceptor.ExecuteActivityInput, a *attempt, done chan<- activityResult) {
	defer w.removeAttempt(a)
	defer a.cancel(nil)
	defer func() {
		if p := recover(); p != nil {
			w.sim.addViolation("%s panicked: %v\n%s", a.name, p, debug.Stack())
			done <- activityResult{nil, fmt.Errorf("panic: %v", p)}
		}
	}()
	value, err := w.Next.ExecuteActivity(ctx, in)
	done <- activityResult{value, err}
}

// drawDelay returns a delay of less than 3 ms, so that no two attempts start in the
// same nanosecond.
func (w *workerInterceptor) drawDelay(a *attempt) time.Duration {
	drawn := w.sim.network.drawHash(a.String())
	return time.Duration(binary.BigEndian.Uint32(drawn[:4])%3_000_000) * time.Nanosecond
}

// waitForHeartbeatTimeout waits until Temporal notices that an attempt is gone, and
// returns the heartbeat timeout error.
func (w *workerInterceptor) waitForHeartbeatTimeout(a *attempt) error {
	beat := 10 * time.Second
	if a.name == "KeepLeases" {
		beat = time.Minute
	}
	time.Sleep(beat + w.drawDelay(a))
	return temporal.NewHeartbeatTimeoutError()
}

// waitForWorker waits until a worker is up.
func (w *workers) waitForWorker(ctx context.Context) error {
	w.mu.Lock()
	until := w.downUntil
	w.mu.Unlock()
	return sleep.For(ctx, time.Until(until))
}

// raiseTimeout sets the timeout of an activity's attempts, unless a longer one is set.
func (w *workers) raiseTimeout(name string, long time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timeouts[name] = max(w.timeouts[name], long)
}

// timeoutOf returns the timeout of an activity's attempts.
func (w *workers) timeoutOf(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.timeouts[name]
}

// errActivityGone is the error of a worker that returns to an activity too late.
var errActivityGone = serviceerror.NewNotFound("invalid activityID or activity already timed out or invoking workflow is completed")

// startAttempt records the start of a and reports whether its result will be lost.
func (w *workers) startAttempt(a *attempt) (lose bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[a] = true
	for _, l := range w.losses {
		if l.activity != a.name || l.times == 0 {
			continue
		}
		if l.skip--; l.skip < 0 {
			l.times--
			return true
		}
	}
	return false
}

func (w *workers) removeAttempt(a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, a)
}

// killAll kills all running attempts. The next worker is up after down.
func (w *workers) killAll(down time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.downUntil = time.Now().Add(down)
	for a := range w.running {
		a.killed.Store(true)
		a.abandonOnce.Do(func() { close(a.abandoned) })
		a.cancel(errProcessKilled)
	}
}

// disconnectAll makes Temporal lose all running attempts. They continue for the given
// time.
func (w *workers) disconnectAll(long time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a := range w.running {
		a.abandonOnce.Do(func() { close(a.abandoned) })
		time.AfterFunc(long, func() { a.cancel(errActivityGone) })
	}
}

func (w *workers) addLostResult(l lostResult) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.losses = append(w.losses, &l)
}

// endTroubles starts a worker if none is up, and ends the loss of results.
func (w *workers) endTroubles() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.downUntil, w.losses = time.Time{}, nil
}

// stepInput returns the input of ApplyStep, and whether a is an attempt of it.
func (a *attempt) stepInput() (activities.StepInput, bool) {
	if a == nil {
		return activities.StepInput{}, false
	}
	in, ok := a.input.(activities.StepInput)
	return in, ok
}
