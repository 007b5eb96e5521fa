package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// jobEnv makes this test binary a worker: see job.
const jobEnv = "RELEASE_TEST_JOB"

func TestMain(m *testing.M) {
	if doc := os.Getenv(jobEnv); doc != "" {
		if err := do(doc); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A job is what a worker in a process of its own is told.
type job struct {
	Temporal, Namespace, Fly, Logs string
	// DieAfter, if set, is the number of the activity whose effect is the last
	// thing that the process has: its answer is lost with it.
	DieAfter int64
}

// do works until stdin ends, as it does when the process that started it is
// gone.
func do(doc string) error {
	var j job
	if err := json.Unmarshal([]byte(doc), &j); err != nil {
		return err
	}
	c, err := client.Dial(client.Options{
		HostPort: j.Temporal, Namespace: j.Namespace, Identity: "worker", Logger: loud(os.Stderr),
		Interceptors: []interceptor.ClientInterceptor{&mortal{dieAfter: j.DieAfter}},
	})
	if err != nil {
		return err
	}
	if err := worker.New(c, work(flyAt(j.Fly), street{}, j.Logs), worker.Options{Builds: 4}).Start(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// loud logs errors only.
func loud(w io.Writer) sdklog.Logger {
	return sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError})))
}

// mortal ends its process, as nothing can resist, when one more activity is
// done than it may.
type mortal struct {
	interceptor.InterceptorBase
	dieAfter int64
	done     atomic.Int64
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (m *mortal) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &mortalActivity{mortal: m}
	in.Next = next
	return in
}

type mortalActivity struct {
	interceptor.ActivityInboundInterceptorBase
	*mortal
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor.
func (m *mortalActivity) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	result, err := m.Next.ExecuteActivity(ctx, in)
	if m.done.Add(1) == m.dieAfter {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			return nil, err
		}
		select {} // for as long as a signal takes
	}
	return result, err
}

// atOnce is how many releases go on at once. Most of the time they wait for a
// dead worker's heartbeat; more of them would starve each other when two
// processes of each start.
const atOnce = 12

// A worker is killed once after each activity of a release: whatever was lost
// with it, the release ends promoted, and nothing was done twice.
func TestWorkerIsKilledAfterEveryActivity(t *testing.T) {
	w := newWorld(t)
	whole := w.crash(0) // nobody is killed
	if whole.err != nil {
		t.Fatal(whole.err)
	}
	every := 1
	if testing.Short() {
		every = 3
	}
	var kills []int64
	for n := 1; n <= whole.activities; n += every {
		kills = append(kills, int64(n))
	}
	for _, n := range kills {
		if err := w.namespace(name(n)); err != nil {
			t.Fatal(err)
		}
	}
	deaths := make([]death, len(kills))
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i, n := range kills {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			deaths[i] = w.crash(n)
		})
	}
	wg.Wait()
	var back []time.Duration
	for i, d := range deaths {
		if d.err != nil {
			t.Errorf("killed after activity %d of %d: %v", kills[i], whole.activities, d.err)
			continue
		}
		back = append(back, d.back)
	}
	if slices.Sort(back); len(back) > 0 {
		t.Logf("%d kills of a worker in releases of %d activities; the lost activity began again after %.1fs / %.1fs / %.1fs (min / median / max)",
			len(kills), whole.activities, back[0].Seconds(), back[len(back)/2].Seconds(), back[len(back)-1].Seconds())
	}
}

// A world is a Temporal and a Fly, for workers in processes of their own.
type world struct {
	t        *testing.T
	temporal string
	fly      string
	sim      *flysim.Sim
	logs     string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, temporal: temporal(t).Address(), sim: quick(), logs: t.TempDir()}
	server := httptest.NewServer(w.sim)
	t.Cleanup(server.Close)
	t.Cleanup(w.sim.Close)
	w.fly = server.URL
	return w
}

// name is the project, and the namespace, of the release whose worker dies
// after n activities.
func name(n int64) string {
	if n == 0 {
		return "default"
	}
	return fmt.Sprintf("shop%d", n)
}

// namespace makes a namespace. Task queues are its own, so a worker in it gets
// nothing of other releases.
func (w *world) namespace(name string) error {
	options := client.Options{HostPort: w.temporal, Namespace: name, Logger: loud(io.Discard)}
	namespaces, err := client.NewNamespaceClient(options)
	if err != nil {
		return err
	}
	defer namespaces.Close()
	err = namespaces.Register(w.t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if err != nil {
		return fmt.Errorf("register namespace %s: %w", name, err)
	}
	c, err := client.Dial(options)
	if err != nil {
		return err
	}
	defer c.Close()
	types := map[string]enums.IndexedValueType{}
	for _, a := range attributes() {
		types[a] = enums.INDEXED_VALUE_TYPE_KEYWORD
	}
	_, err = c.OperatorService().AddSearchAttributes(w.t.Context(), &operatorservice.AddSearchAttributesRequest{Namespace: name, SearchAttributes: types})
	if err != nil {
		return fmt.Errorf("add search attributes to namespace %s: %w", name, err)
	}
	return nil
}

// A death is how a release ended whose worker was killed.
type death struct {
	activities int           // that it had
	back       time.Duration // from the kill until the lost activity began again
	err        error         // what a user would have lost
}

// crash releases v2 with a worker that is killed after its n-th activity, and
// with a fresh one after that. Staging has no machines yet, so there they are
// created; in production v1 runs, and they are updated.
func (w *world) crash(n int64) (d death) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	project := name(n)
	shop{}.open(w.sim, project)
	shop{}.runs(w.sim, project, "production", "v1")
	c, err := client.Dial(client.Options{HostPort: w.temporal, Namespace: project, Logger: loud(io.Discard)})
	if err != nil {
		return death{err: err}
	}
	defer c.Close()
	req := request(project, "v2")
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: release.ID(project, req.Revision), TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	if err != nil {
		return death{err: err}
	}
	asked := make(chan error, 1)
	go func() { asked <- approve(ctx, c, run) }()

	killed, err := w.workers(ctx, project, n, func() error {
		var report release.Report
		if err := run.Get(ctx, &report); err != nil {
			return err
		}
		if report.Outcome != release.Promoted {
			return fmt.Errorf("%s: %+v", report.Outcome, report.Cause)
		}
		return nil
	})
	if err := errors.Join(err, <-asked); err != nil {
		return death{err: err}
	}
	histories, err := historiesOf(ctx, c, project, run)
	d.activities, d.back = lost(histories, killed)
	if n > 0 && d.back == 0 {
		err = errors.Join(err, errors.New("no activity was lost"))
	}
	d.err = errors.Join(err, w.intact(project))
	return d
}

// workers runs one that dies, if n says so, and a fresh one after it, until the
// release has ended. It returns when the first had died.
func (w *world) workers(ctx context.Context, project string, n int64, ended func() error) (killed time.Time, err error) {
	over := make(chan error, 1)
	go func() { over <- ended() }()
	if n > 0 {
		first, err := w.hire(ctx, project, n)
		if err != nil {
			return killed, err
		}
		select {
		case <-first.gone:
			killed = time.Now()
		case err := <-over:
			first.dismiss()
			return killed, fmt.Errorf("the release ended before its worker was killed: %v", err)
		}
		if state := first.cmd.ProcessState; state.Exited() {
			return killed, fmt.Errorf("the worker was not killed, it ended: %s\n%s", state, &first.said)
		}
	}
	fresh, err := w.hire(ctx, project, 0)
	if err != nil {
		return killed, err
	}
	defer fresh.dismiss()
	select {
	case err := <-over:
		return killed, err
	case <-fresh.gone:
		return killed, fmt.Errorf("the fresh worker ended: %s\n%s", fresh.cmd.ProcessState, &fresh.said)
	}
}

// A hand is a worker in a process of its own.
type hand struct {
	cmd   *exec.Cmd
	stdin io.Closer
	said  bytes.Buffer // read it once gone
	gone  chan struct{}
}

func (w *world) hire(ctx context.Context, project string, dieAfter int64) (*hand, error) {
	doc, err := json.Marshal(job{Temporal: w.temporal, Namespace: project, Fly: w.fly, Logs: w.logs, DieAfter: dieAfter})
	if err != nil {
		return nil, err
	}
	h := &hand{cmd: exec.CommandContext(ctx, os.Args[0]), gone: make(chan struct{})}
	h.cmd.Env = append(os.Environ(), jobEnv+"="+string(doc))
	h.cmd.Stderr = &h.said
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = h.cmd.Wait() // ProcessState says how it ended
		close(h.gone)
	}()
	return h, nil
}

func (h *hand) dismiss() {
	h.stdin.Close()
	<-h.gone
}

// approve says yes when the release asks. A signal needs no worker.
func approve(ctx context.Context, c client.Client, run client.WorkflowRun) error {
	plan, err := askedPlan(ctx, c, run)
	if err != nil {
		return err
	}
	return c.SignalWorkflow(ctx, run.GetID(), run.GetRunID(), release.ApproveSignal, release.Decision{By: "ben", Plan: plan})
}

// askedPlan waits until the release waits for a person, and says for which
// plan. Its gate's timer is the only one that a release has.
func askedPlan(ctx context.Context, c client.Client, run client.WorkflowRun) (string, error) {
	events := c.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), true, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return "", fmt.Errorf("wait until it asks: %w", err)
		}
		if e.EventType == enums.EVENT_TYPE_TIMER_STARTED {
			return plan(ctx, c, run)
		}
	}
	return "", errors.New("it never asked")
}

// plan asks the release until a worker answers.
func plan(ctx context.Context, c client.Client, run client.WorkflowRun) (string, error) {
	for {
		var s release.Status
		v, err := c.QueryWorkflow(ctx, run.GetID(), run.GetRunID(), release.StatusQuery)
		if err == nil {
			err = v.Get(&s)
		}
		if err == nil && s.Gate != nil {
			return s.Gate.Plan, nil
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("ask for the plan: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// historiesOf are those of a release and of its rollouts.
func historiesOf(ctx context.Context, c client.Client, project string, run client.WorkflowRun) (all [][]*historypb.HistoryEvent, err error) {
	ids := []string{run.GetID()}
	for _, env := range (shop{}).environments() {
		ids = append(ids, release.RolloutID(project, env))
	}
	for _, id := range ids {
		var events []*historypb.HistoryEvent
		for it := c.GetWorkflowHistory(ctx, id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
			e, err := it.Next()
			if err != nil {
				return all, fmt.Errorf("history of %s: %w", id, err)
			}
			events = append(events, e)
		}
		all = append(all, events)
	}
	return all, nil
}

// lost counts activities, and says how long after the kill the first that was
// lost began again.
func lost(histories [][]*historypb.HistoryEvent, killed time.Time) (activities int, back time.Duration) {
	for _, events := range histories {
		for _, e := range events {
			if e.EventType != enums.EVENT_TYPE_ACTIVITY_TASK_STARTED {
				continue
			}
			activities++
			took := e.EventTime.AsTime().Sub(killed)
			again := e.GetActivityTaskStartedEventAttributes().Attempt > 1 && took > 0
			if again && (back == 0 || took < back) {
				back = took
			}
		}
	}
	return activities, back
}

// intact is what a user would have lost.
func (w *world) intact(project string) error {
	var wrong []error
	wrongIf := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	made, updated := map[string]int{}, map[string]int{}
	for _, r := range w.sim.Requests() {
		switch {
		case r.Status >= 300:
		case r.Route == "POST /v1/apps/{app}/machines":
			made[r.App]++
		case r.Route == "POST /v1/apps/{app}/machines/{id}":
			updated[r.App+" "+r.Machine]++
		}
	}
	for _, environment := range (shop{}).environments() {
		for _, app := range (shop{}).names() {
			place := flyApp(project, environment, app)
			machines := w.sim.Machines(place)
			wrongIf(len(machines) != 2, "%s has %d machines, want 2", place, len(machines))
			creates, updates := 2, 0
			if environment == "production" {
				creates, updates = 0, 1
			}
			wrongIf(made[place] != creates, "%s: %d creates were sent, want %d", place, made[place], creates)
			for _, m := range machines {
				got, want := m.ImageRef.Digest, digestOf(app, commitOf("v2"))
				wrongIf(got != want, "machine %s of %s runs %s, want %s", m.ID, place, got, want)
				wrongIf(!activities.Seen(m).Healthy() || m.Cordoned, "machine %s of %s is not well: %s %v", m.ID, place, m.State, m.Checks)
				n := updated[place+" "+m.ID]
				wrongIf(n != updates, "machine %s of %s was updated %d times, want %d", m.ID, place, n, updates)
			}
			wrongIf(!w.unleased(place), "%s: leases are left: %v", place, w.sim.Leases(place))
		}
	}
	return errors.Join(wrong...)
}

// unleased waits until no lease is left. One whose holder was killed runs out
// by itself, within the seconds that it was taken for.
func (w *world) unleased(place string) bool {
	for end := time.Now().Add(15 * time.Second); len(w.sim.Leases(place)) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
