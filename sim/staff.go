package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/microbima/release/activities"
)

// A staff is the workers: they may be killed between any two requests, lose the
// answer of what they did, or be cut off from Temporal and go on all the same.
type staff struct {
	interceptor.WorkerInterceptorBase
	w *world

	mu     sync.Mutex
	work   map[*attempt]bool
	away   time.Time // no worker is up until then
	losses []*loss
	limits map[string]time.Duration // of an attempt, by activity
	dead   map[string]bool          // runs that were terminated
}

// A loss makes an activity's answer go lost: of attempts of that name, the one
// after skip others.
type loss struct {
	activity    string
	skip, times int
}

// An attempt is one attempt of an activity, on one worker.
type attempt struct {
	name string
	run  string // of the workflow
	id   string // of the workflow
	in   any
	dead atomic.Bool   // its process is: it sends nothing any more
	gone chan struct{} // closed when Temporal will not hear of it again
	once sync.Once
	end  context.CancelCauseFunc
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
	in, _ := a.step()
	return a.name + string(in.Step.Verb) + in.Step.FlyApp + in.Step.Machine
}

func (a *attempt) isDead() bool { return a != nil && a.dead.Load() }

func newStaff(w *world) *staff {
	return &staff{w: w, work: map[*attempt]bool{}, limits: map[string]time.Duration{}, dead: map[string]bool{}}
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (s *staff) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &mortal{staff: s}
	in.Next = next
	return in
}

type mortal struct {
	interceptor.ActivityInboundInterceptorBase
	*staff
}

type outcome struct {
	value any
	err   error
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor. Attempts of a run
// that was terminated return when all is over: the environment would hand what they
// return to a workflow whose goroutines are ending at that moment.
func (m *mortal) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	value, err := m.attempt(ctx, in)
	if run, _, _ := strings.Cut(activity.GetInfo(ctx).ActivityID, "/"); m.isDead(run) {
		<-m.w.over
		return nil, temporal.NewCanceledError() // or it would be tried again
	}
	return value, err
}

// attempt makes one attempt of an activity.
func (m *mortal) attempt(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	name := activity.GetInfo(ctx).ActivityType.Name
	if name == clockActivity || name == timerActivity {
		return m.Next.ExecuteActivity(ctx, in)
	}
	if err := m.awaitWorker(ctx); err != nil {
		return nil, err
	}
	id := activity.GetInfo(ctx).ActivityID
	run, _, _ := strings.Cut(id, "/")
	a := &attempt{name: name, run: run, id: activity.GetInfo(ctx).WorkflowExecution.ID, gone: make(chan struct{})}
	if len(in.Args) > 0 {
		a.in = in.Args[0]
	}
	own, end := context.WithCancelCause(context.WithValue(ctx, attemptKey{}, a))
	a.end = end
	time.Sleep(m.moment(a)) // before it is counted which is the one after so many others
	if m.isDead(run) {
		end(nil)
		return nil, temporal.NewCanceledError() // its workflow was terminated before a worker got it
	}
	lose := m.begin(a)
	m.w.watch.begins(a)
	done := make(chan outcome, 1)
	go func() {
		defer m.leave(a)
		defer end(nil)
		defer func() {
			if p := recover(); p != nil {
				m.w.violate("%s panicked: %v\n%s", name, p, debug.Stack())
				done <- outcome{nil, fmt.Errorf("panic: %v", p)}
			}
		}()
		value, err := m.Next.ExecuteActivity(own, in)
		done <- outcome{value, err}
	}()
	late := time.NewTimer(m.limit(name))
	defer late.Stop()
	select {
	case <-late.C:
		end(context.DeadlineExceeded)
		m.w.watch.silent(a)
		return nil, temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	case o := <-done:
		if lose {
			m.w.tell("the answer of %s is lost", name)
			m.w.watch.silent(a)
			return nil, m.silence(a)
		}
		m.w.watch.ends(a, o.err)
		if o.err == nil {
			m.w.watch.completes(id, o.value)
		}
		return o.value, o.err
	case <-a.gone:
		m.w.watch.silent(a)
		if m.isDead(run) {
			return nil, temporal.NewCanceledError()
		}
		return nil, m.silence(a)
	}
}

// moment is some nanoseconds of a's own: where two things happen in the same one,
// chance says which comes first.
func (m *mortal) moment(a *attempt) time.Duration {
	drawn := m.w.line.draw(a.String())
	return time.Duration(binary.BigEndian.Uint32(drawn[:4])%3_000_000) * time.Nanosecond
}

// silence is how Temporal hears of an attempt that says nothing any more.
func (m *mortal) silence(a *attempt) error {
	beat := 10 * time.Second
	if a.name == "KeepLeases" {
		beat = time.Minute
	}
	time.Sleep(beat + m.moment(a))
	return temporal.NewHeartbeatTimeoutError()
}

// awaitWorker waits until a worker is up.
func (s *staff) awaitWorker(ctx context.Context) error {
	s.mu.Lock()
	until := s.away
	s.mu.Unlock()
	return wait(ctx, time.Until(until))
}

// allow says how long an attempt of an activity may take.
func (s *staff) allow(name string, long time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits[name] = max(s.limits[name], long)
}

func (s *staff) limit(name string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limits[name]
}

// errElsewhere is what a worker hears that comes back too late.
var errElsewhere = serviceerror.NewNotFound("invalid activityID or activity already timed out or invoking workflow is completed")

// begin says whether the attempt's answer will be lost.
func (s *staff) begin(a *attempt) (lose bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work[a] = true
	for _, l := range s.losses {
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

func (s *staff) leave(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.work, a)
}

// kill ends the process of all that is being done. Another is up after down.
func (s *staff) kill(down time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = time.Now().Add(down)
	for a := range s.work {
		a.dead.Store(true)
		a.once.Do(func() { close(a.gone) })
		a.end(errDead)
	}
}

// cutOff makes Temporal hear nothing of what is being done, while that goes on
// for long.
func (s *staff) cutOff(long time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.work {
		a.once.Do(func() { close(a.gone) })
		time.AfterFunc(long, func() { a.end(errElsewhere) })
	}
}

func (s *staff) lose(l loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses = append(s.losses, &l)
}

func (s *staff) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away, s.losses = time.Time{}, nil
}

// A temporalClient answers what activities ask of Temporal.
type temporalClient struct{ w *world }

// DescribeWorkflow implements activities.Temporal.
func (c *temporalClient) DescribeWorkflow(ctx context.Context, id, of string) (*client.WorkflowExecutionDescription, error) {
	d := &client.WorkflowExecutionDescription{}
	if since, ok := c.w.watch.pinned(id); ok {
		d.WorkflowStartTime = since
		return d, nil
	}
	run := c.w.watch.findRun(ctx, id, of)
	if run == nil {
		return nil, serviceerror.NewNotFound("no such workflow")
	}
	d.WorkflowExecution.ID, d.WorkflowExecution.RunID, d.WorkflowStartTime = run.id, run.run, run.begun
	d.ParentWorkflowExecution = &workflow.Execution{ID: run.req.Release}
	if !run.ended.IsZero() {
		d.WorkflowCloseTime, d.Status = &run.ended, run.status()
	}
	return d, nil
}

// GetWorkflow implements activities.Temporal.
func (c *temporalClient) GetWorkflow(ctx context.Context, id, run string) client.WorkflowRun {
	return &workflowRun{run: c.w.watch.findRun(ctx, id, run)}
}

// GetWorkflowHistory implements activities.Temporal.
func (c *temporalClient) GetWorkflowHistory(ctx context.Context, id, run string, _ bool, _ enumspb.HistoryEventFilterType) client.HistoryEventIterator {
	r := c.w.watch.findRun(ctx, id, run)
	if r == nil {
		return &eventIterator{}
	}
	c.w.watch.mu.Lock()
	defer c.w.watch.mu.Unlock()
	if r.isTerminated() && c.w.hasTrouble(historyLost) {
		return &eventIterator{lost: true}
	}
	return &eventIterator{left: slices.Clone(r.record.events)}
}

// ListWorkflow implements activities.Temporal. It is asked for the completed or the
// closed rollouts of one environment, newest first.
func (c *temporalClient) ListWorkflow(_ context.Context, req *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	resp := &workflowservice.ListWorkflowExecutionsResponse{}
	for _, r := range c.w.watch.closed(req.GetQuery()) {
		resp.Executions = append(resp.Executions, &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{WorkflowId: r.id, RunId: r.run},
			StartTime: timestamppb.New(r.begun), CloseTime: timestamppb.New(r.ended), Status: r.status(),
		})
	}
	return resp, nil
}

type workflowRun struct {
	client.WorkflowRun
	run *rolloutRun
}

// Get implements client.WorkflowRun.
func (r *workflowRun) Get(ctx context.Context, value any) error {
	if r.run == nil {
		return errors.New("no such workflow")
	}
	select {
	case <-r.run.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	return r.run.result(value)
}

// step is the step of an attempt of ApplyStep.
func (a *attempt) step() (activities.StepInput, bool) {
	if a == nil {
		return activities.StepInput{}, false
	}
	in, ok := a.in.(activities.StepInput)
	return in, ok
}
