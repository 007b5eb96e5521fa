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
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// jobEnv makes this test binary a worker: see job.
const jobEnv = "RELEASE_TEST_JOB"

func TestMain(m *testing.M) {
	if image.Apart() {
		os.Exit(image.Compile(os.Stdin, os.Stdout))
	}
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
	Deploy                         string // lines of [deploy] in every fly.toml
	// DieAfter, if set, is the number of the activity whose effect is the last
	// thing that the process has: its answer is lost with it.
	DieAfter int64
	Poll     time.Duration // of machines; 0 is a few milliseconds
	// Registry, if set, is where images go that are built from real checkouts.
	Registry string
	// Serve, if set, makes it a Temporal instead, whose data is in this folder.
	Serve string
}

// do works until stdin ends, as it does when the process that started it is
// gone.
func do(doc string) error {
	var j job
	if err := json.Unmarshal([]byte(doc), &j); err != nil {
		return err
	}
	if j.Serve != "" {
		return serve(j.Serve)
	}
	c, err := client.Dial(client.Options{
		HostPort: j.Temporal, Namespace: j.Namespace, Identity: "worker", Logger: loud(os.Stderr), DataConverter: worker.DataConverter(),
		Interceptors: []interceptor.ClientInterceptor{&mortal{dieAfter: j.DieAfter}},
	})
	if err != nil {
		return err
	}
	a := work(flyAt(j.Fly), chain{shop{deploy: j.Deploy}}, j.Logs)
	a.Poll = max(a.Poll, j.Poll)
	if j.Registry != "" {
		inEarnest(a, j.Registry)
	}
	w := worker.New(c, a, worker.Options{Builds: 4})
	if err := w.Start(); err != nil {
		return err
	}
	err = tellSizes(os.Stdin, os.Stdout)
	w.Stop()
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

// A hand is a worker in a process of its own.
type hand struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	said   bytes.Buffer // read it once gone
	gone   chan struct{}
}

func (w *world) hire(ctx context.Context, project string, dieAfter int64) (*hand, error) {
	return begin(ctx, or(w.build, os.Args[0]), job{
		Temporal: w.temporal, Namespace: project, Fly: w.fly, Logs: w.logs, Deploy: w.deploy, DieAfter: dieAfter, Poll: w.poll, Registry: w.registry,
	})
}

// begin starts a process of a build of this test.
func begin(ctx context.Context, build string, j job) (*hand, error) {
	doc, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	h := &hand{cmd: exec.CommandContext(ctx, build), gone: make(chan struct{})}
	h.cmd.Env = append(os.Environ(), jobEnv+"="+string(doc))
	h.cmd.Stderr = &h.said
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if h.stdout, err = h.cmd.StdoutPipe(); err != nil {
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

// A world is a Temporal and a Fly, for workers in processes of their own.
type world struct {
	t        *testing.T
	temporal string
	fly      string
	sim      *flysim.Sim
	logs     string
	deploy   string // lines of [deploy] in every fly.toml
	build    string // the file that workers are; "" is this one
	poll     time.Duration
	registry string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, temporal: temporal(t, "").Address(), sim: quick(), logs: t.TempDir()}
	server := httptest.NewServer(w.sim)
	t.Cleanup(server.Close)
	t.Cleanup(w.sim.Close)
	w.fly = server.URL
	return w
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
	for query := release.AttrProject + " = 'any'"; ; time.Sleep(20 * time.Millisecond) { // Temporal notices a moment later
		_, err = c.CountWorkflow(w.t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: query})
		var unknown *serviceerror.InvalidArgument
		if !errors.As(err, &unknown) {
			return err
		}
	}
}
