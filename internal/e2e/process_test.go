package e2e_test

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
	"sync"
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

// jobEnv makes this test binary run a job: see job.
const jobEnv = "RELEASE_TEST_JOB"

func TestMain(m *testing.M) {
	if image.IsCompilerProcess() {
		os.Exit(image.RunCompiler(os.Stdin, os.Stdout))
	}
	if doc := os.Getenv(jobEnv); doc != "" {
		if err := runJob(doc); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A processJob is the configuration of a child process.
type processJob struct {
	Be    string // "": a worker
	Build string `json:"-"` // binary to run; "" is this one

	// For a worker.
	Temporal, Namespace, Fly, Logs string
	Deploy                         string // lines of [deploy] in every fly.toml
	Kinds                          bool   // its repositories are those of kinds, and all operations are slow
	// DieAfter, if set, is the number of the activity after whose effect the process
	// exits. The result of the activity is lost.
	DieAfter int64
	Poll     time.Duration // for machines; 0 is a few milliseconds
	Registry string        // if set, the registry for images built from real checkouts
	Gentle   bool          // completes running activities when stopped

	// For other processes: the listener, the state directory, and the port of their
	// database.
	Port     int
	Dir      string
	Database int
}

// runJob runs a job until stdin ends, which it does when the parent process exits.
func runJob(doc string) error {
	var j processJob
	if err := json.Unmarshal([]byte(doc), &j); err != nil {
		return err
	}
	as := map[string]func(processJob) (func() error, error){
		"": processJob.runWorker, beFly: processJob.runFly, beTemporal: processJob.runTemporal, bePostgres: processJob.runTemporalOnPostgres, beDatabase: processJob.runDatabase,
	}[j.Be]
	end, err := as(j)
	if err != nil {
		return err
	}
	if err := serveSizes(os.Stdin, os.Stdout); err != nil {
		return err
	}
	return end()
}

// runWorker runs a worker.
func (j processJob) runWorker() (end func() error, err error) {
	c, err := client.Dial(client.Options{
		HostPort: j.Temporal, Namespace: j.Namespace, Identity: "worker", Logger: errorLogger(os.Stderr), DataConverter: worker.DataConverter(),
		Interceptors: []interceptor.ClientInterceptor{&crashingWorker{dieAfter: j.DieAfter}},
	})
	if err != nil {
		return nil, err
	}
	a := newActivities(flyAt(j.Fly), linearProjects{projectFixture{deploy: j.Deploy}}, j.Logs)
	a.Poll = max(a.Poll, j.Poll)
	if j.Registry != "" {
		useRealImages(a, j.Registry)
	}
	builds := 4
	if j.Kinds {
		a.Git, a.Go, a.Poll = slowGit{kindProjects()}, slowRecipe{}, 200*time.Millisecond
		builds = 32 // a wait for a free slot would look like a late resumption
	}
	w := worker.New(c, a, worker.Options{Builds: builds, OnFatal: func(err error) {
		fmt.Fprintln(os.Stderr, "the worker can't go on:", err)
		os.Exit(1)
	}})
	return func() error {
		if j.Gentle {
			w.Stop()
		}
		return nil
	}, w.Start()
}

// errorLogger returns a logger of errors only.
func errorLogger(w io.Writer) sdklog.Logger {
	return sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError})))
}

// crashingWorker kills its process after the given number of activities.
type crashingWorker struct {
	interceptor.InterceptorBase
	dieAfter int64
	done     atomic.Int64
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (m *crashingWorker) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &crashingInbound{crashingWorker: m}
	in.Next = next
	return in
}

type crashingInbound struct {
	interceptor.ActivityInboundInterceptorBase
	*crashingWorker
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor.
func (m *crashingInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	result, err := m.Next.ExecuteActivity(ctx, in)
	if m.done.Add(1) == m.dieAfter {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			return nil, err
		}
		select {} // until the signal arrives
	}
	return result, err
}

// A childProcess is a child process.
type childProcess struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  bytes.Buffer // read it after the exit
	spoke firstWrite
	gone  chan struct{}
}

// firstWrite is a writer that signals the first write.
type firstWrite struct {
	once sync.Once
	at   chan time.Time
}

// Write implements io.Writer.
func (w *firstWrite) Write(p []byte) (int, error) {
	w.once.Do(func() { w.at <- time.Now() })
	return len(p), nil
}

func (w *processEnv) startWorker(ctx context.Context, project string, dieAfter int64) (*childProcess, error) {
	return startProcess(ctx, processJob{Temporal: w.temporal, Namespace: project, Fly: w.fly, Logs: w.logs, Deploy: w.deploy, DieAfter: dieAfter})
}

// startProcess starts a process. Its output is also written to listeners.
func startProcess(ctx context.Context, j processJob, listeners ...io.Writer) (*childProcess, error) {
	doc, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	h := &childProcess{cmd: exec.CommandContext(ctx, valueOr(j.Build, os.Args[0])), gone: make(chan struct{}), spoke: firstWrite{at: make(chan time.Time, 1)}}
	h.cmd.Env = append(os.Environ(), jobEnv+"="+string(doc))
	h.cmd.Stdout, h.cmd.Stderr = io.MultiWriter(append(listeners, &h.spoke)...), &h.said
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = h.cmd.Wait() // ProcessState has the exit status
		close(h.gone)
	}()
	return h, nil
}

func (h *childProcess) stop() {
	h.stdin.Close()
	<-h.gone
}

// kill sends SIGKILL.
func (h *childProcess) kill() error {
	err := h.cmd.Process.Kill()
	<-h.gone
	return err
}

// A processEnv is a Temporal and a Fly for workers in child processes.
type processEnv struct {
	t        *testing.T
	temporal string
	fly      string
	sim      *flysim.Sim
	logs     string
	deploy   string // lines of [deploy] in every fly.toml
}

func newProcessEnv(t *testing.T) *processEnv {
	t.Helper()
	w := &processEnv{t: t, temporal: startTemporal(t, "").Address(), sim: newFastFly(), logs: t.TempDir()}
	server := httptest.NewServer(w.sim)
	t.Cleanup(server.Close)
	t.Cleanup(w.sim.Close)
	w.fly = server.URL
	return w
}

// createNamespace creates a namespace. Its task queues are separate, so that a worker gets only
// its tasks.
func (w *processEnv) createNamespace(name string) error {
	options := client.Options{HostPort: w.temporal, Namespace: name, Logger: errorLogger(io.Discard)}
	namespaces, err := client.NewNamespaceClient(options)
	if err != nil {
		return err
	}
	defer namespaces.Close()
	err = namespaces.Register(w.t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	var known *serviceerror.NamespaceAlreadyExists
	if err != nil && !errors.As(err, &known) {
		return fmt.Errorf("register namespace %s: %w", name, err)
	}
	c, err := client.Dial(options)
	if err != nil {
		return err
	}
	defer c.Close()
	types := map[string]enums.IndexedValueType{}
	for _, a := range searchAttributes() {
		types[a] = enums.INDEXED_VALUE_TYPE_KEYWORD
	}
	_, err = c.OperatorService().AddSearchAttributes(w.t.Context(), &operatorservice.AddSearchAttributesRequest{Namespace: name, SearchAttributes: types})
	if err != nil {
		return fmt.Errorf("add search attributes to namespace %s: %w", name, err)
	}
	for query := release.AttrProject + " = 'any'"; ; time.Sleep(20 * time.Millisecond) { // Temporal finds the namespace with a delay
		_, err = c.CountWorkflow(w.t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: query})
		var unknown *serviceerror.InvalidArgument
		if !errors.As(err, &unknown) {
			return err
		}
	}
}
