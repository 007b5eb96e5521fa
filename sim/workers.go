package sim

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
)

// A staff is the workers: they may be killed between any two requests, lose the
// answer of what they did, or be cut off from Temporal and go on all the same.
type workers struct {
	interceptor.WorkerInterceptorBase
	sim *simulation

	mu             sync.Mutex
	running        map[*attempt]bool
	downUntil      time.Time // no worker is up until then
	losses         []*lostResult
	timeouts       map[string]time.Duration // of an attempt, by activity
	terminatedRuns map[string]bool          // runs that were terminated
}

// A loss makes an activity's answer go lost: of attempts of that name, the one
// after skip others.
type lostResult struct {
	activity    string
	skip, times int
}

// An attempt is one attempt of an activity, on one worker.
type attempt struct {
	name        string
	runID       string // of the workflow
	workflowID  string // of the workflow
	input       any
	killed      atomic.Bool   // its process is: it sends nothing any more
	abandoned   chan struct{} // closed when Temporal will not hear of it again
	abandonOnce sync.Once
	cancel      context.CancelCauseFunc
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// String is what sets a apart from those that begin with it.
func (a *attempt) String() string {
	if a == nil {
		return ""
	}
	in, _ := a.stepInput()
	return a.name + string(in.Step.Verb) + in.Step.FlyApp + in.Step.Machine
}

func (a *attempt) isKilled() bool { return a != nil && a.killed.Load() }

func newStaff(s *simulation) *workers {
	return &workers{sim: s, running: map[*attempt]bool{}, timeouts: map[string]time.Duration{}, terminatedRuns: map[string]bool{}}
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (w *workers) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &workerInterceptor{workers: w}
	in.Next = next
	return in
}

type workerInterceptor struct {
	interceptor.ActivityInboundInterceptorBase
	*workers
}

type activityResult struct {
	value any
	err   error
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor. Attempts of a run
// that was terminated return when all is over: the environment would hand what they
// return to a workflow whose goroutines are ending at that moment.
func (m *workerInterceptor) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	value, err := m.runAttempt(ctx, in)
	if run, _, _ := strings.Cut(activity.GetInfo(ctx).ActivityID, "/"); m.isRunTerminated(run) {
		<-m.sim.done
		return nil, temporal.NewCanceledError() // or it would be tried again
	}
	return value, err
}

// attempt makes one attempt of an activity.
func (m *workerInterceptor) runAttempt(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	name := activity.GetInfo(ctx).ActivityType.Name
	if name == clockActivity || name == timerActivity {
		return m.Next.ExecuteActivity(ctx, in)
	}
	if err := m.waitForWorker(ctx); err != nil {
		return nil, err
	}
	id := activity.GetInfo(ctx).ActivityID
	run, _, _ := strings.Cut(id, "/")
	a := &attempt{name: name, runID: run, workflowID: activity.GetInfo(ctx).WorkflowExecution.ID, abandoned: make(chan struct{})}
	if len(in.Args) > 0 {
		a.input = in.Args[0]
	}
	own, end := context.WithCancelCause(context.WithValue(ctx, attemptKey{}, a))
	a.cancel = end
	time.Sleep(m.drawDelay(a)) // before it is counted which is the one after so many others
	if m.isRunTerminated(run) {
		end(nil)
		return nil, temporal.NewCanceledError() // its workflow was terminated before a worker got it
	}
	lose := m.startAttempt(a)
	m.sim.checker.addAttempt(a)
	done := make(chan activityResult, 1)
	go func() {
		defer m.removeAttempt(a)
		defer end(nil)
		defer func() {
			if p := recover(); p != nil {
				m.sim.addViolation("%s panicked: %v\n%s", name, p, debug.Stack())
				done <- activityResult{nil, fmt.Errorf("panic: %v", p)}
			}
		}()
		value, err := m.Next.ExecuteActivity(own, in)
		done <- activityResult{value, err}
	}()
	late := time.NewTimer(m.timeoutOf(name))
	defer late.Stop()
	select {
	case <-late.C:
		end(context.DeadlineExceeded)
		m.sim.checker.dropAttempt(a)
		return nil, temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	case o := <-done:
		if lose {
			m.sim.logEvent("the answer of %s is lost", name)
			m.sim.checker.dropAttempt(a)
			return nil, m.waitForHeartbeatTimeout(a)
		}
		m.sim.checker.finishAttempt(a, o.err)
		if o.err == nil {
			m.sim.checker.recordCompleted(id, o.value)
		}
		return o.value, o.err
	case <-a.abandoned:
		m.sim.checker.dropAttempt(a)
		if m.isRunTerminated(run) {
			return nil, temporal.NewCanceledError()
		}
		return nil, m.waitForHeartbeatTimeout(a)
	}
}

// moment is some nanoseconds of a's own: where two things happen in the same one,
// chance says which comes first.
func (m *workerInterceptor) drawDelay(a *attempt) time.Duration {
	drawn := m.sim.network.drawHash(a.String())
	return time.Duration(binary.BigEndian.Uint32(drawn[:4])%3_000_000) * time.Nanosecond
}

// silence is how Temporal hears of an attempt that says nothing any more.
func (m *workerInterceptor) waitForHeartbeatTimeout(a *attempt) error {
	beat := 10 * time.Second
	if a.name == "KeepLeases" {
		beat = time.Minute
	}
	time.Sleep(beat + m.drawDelay(a))
	return temporal.NewHeartbeatTimeoutError()
}

// awaitWorker waits until a worker is up.
func (w *workers) waitForWorker(ctx context.Context) error {
	w.mu.Lock()
	until := w.downUntil
	w.mu.Unlock()
	return sleep(ctx, time.Until(until))
}

// allow says how long an attempt of an activity may take.
func (w *workers) raiseTimeout(name string, long time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timeouts[name] = max(w.timeouts[name], long)
}

func (w *workers) timeoutOf(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.timeouts[name]
}

// errElsewhere is what a worker hears that comes back too late.
var errActivityGone = serviceerror.NewNotFound("invalid activityID or activity already timed out or invoking workflow is completed")

// begin says whether the attempt's answer will be lost.
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

// kill ends the process of all that is being done. Another is up after down.
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

// cutOff makes Temporal hear nothing of what is being done, while that goes on
// for long.
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

func (w *workers) endTroubles() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.downUntil, w.losses = time.Time{}, nil
}

// step is the step of an attempt of ApplyStep.
func (a *attempt) stepInput() (activities.StepInput, bool) {
	if a == nil {
		return activities.StepInput{}, false
	}
	in, ok := a.input.(activities.StepInput)
	return in, ok
}
