package devserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"
)

const (
	queue = "devserver-test"
	// dirEnv makes this test binary run a server on that directory: see runServer.
	dirEnv = "DEVSERVER_TEST_DIR"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirEnv); dir != "" {
		os.Exit(runServer(dir))
	}
	os.Exit(m.Run())
}

func TestStart_WorkflowWithSearchAttributes(t *testing.T) {
	s := startServer(t, Options{UIOff: true, Attributes: []string{"ReleaseProject", "ReleasePhase"}})
	c := dial(t, s)
	startWorker(t, c)
	project := temporal.NewSearchAttributeKeyKeyword("ReleaseProject")
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: "one", TaskQueue: queue,
		TypedSearchAttributes: temporal.NewSearchAttributes(project.ValueSet("microbima")),
	}, greetWorkflow, "Fly")
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if err := run.Get(t.Context(), &got); err != nil || got != "hello Fly" {
		t.Fatalf("the workflow returned %q, %v", got, err)
	}
	eventually(t, "the workflow is listed by its attribute", func() bool {
		list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Query: `ReleaseProject = "microbima"`,
		})
		return err == nil && len(list.Executions) == 1
	})
}

func TestClose_TwiceAndRestart(t *testing.T) {
	for range 2 {
		s := startServer(t, Options{Dir: t.TempDir()})
		if _, err := dial(t, s).CheckHealth(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatalf("the second Close: %v", err)
		}
	}
}

func TestStart_ClosedDirectory(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, Options{Dir: dir, UIOff: true})
	c := dial(t, s)
	if _, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "kept", TaskQueue: queue}, waitForApproval); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if wal, err := os.Stat(filepath.Join(dir, "temporal.db-wal")); err == nil && wal.Size() > 0 {
		t.Errorf("a closed server left %d bytes in its write-ahead log", wal.Size())
	}
	s = startServer(t, Options{Dir: dir, UIOff: true})
	if _, err := dial(t, s).DescribeWorkflowExecution(t.Context(), "kept", ""); err != nil {
		t.Fatal(err)
	}
}

// A workflow that waits for an approval survives kills of the server, and so does the
// acknowledged approval.
func TestStart_AfterKillLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "50% of it? #1") // characters that are special in a URL
	first := startProcess(t, dir)
	c := dial(t, first)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "waiting", TaskQueue: queue}, waitForApproval)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "temporal.db-wal")); err != nil {
		t.Fatalf("the file is not written in WAL mode: %v", err)
	}
	first.kill()

	second := startProcess(t, dir)
	c = dial(t, second)
	if err := c.SignalWorkflow(t.Context(), run.GetID(), run.GetRunID(), "approve", "ann"); err != nil {
		t.Fatalf("signal after the restart: %v", err)
	}
	second.kill() // the acknowledged signal must be stored

	c = dial(t, startProcess(t, dir))
	startWorker(t, c)
	var by string
	if err := c.GetWorkflow(t.Context(), run.GetID(), run.GetRunID()).Get(t.Context(), &by); err != nil || by != "ann" {
		t.Fatalf("approved by %q, %v; want ann", by, err)
	}
}

// Listing 500 releases takes less than a second, also repeatedly: Temporal has a rate
// limit for its own database.
func TestStart_ListsManyWorkflowsQuickly(t *testing.T) {
	const many, times, most = 500, 4, 2 * time.Second
	s := startServer(t, Options{UIOff: true, Attributes: []string{"ReleaseProject", "ReleasePhase"}})
	c := dial(t, s)
	var g errgroup.Group
	g.SetLimit(8)
	for range many {
		g.Go(func() error {
			_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
				TaskQueue: queue, TypedSearchAttributes: temporal.NewSearchAttributes(
					temporal.NewSearchAttributeKeyKeyword("ReleaseProject").ValueSet("shop"),
					temporal.NewSearchAttributeKeyKeyword("ReleasePhase").ValueSet("awaiting approval"),
				),
			}, waitForApproval)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	list := func() int {
		page, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "ReleaseProject = 'shop'", PageSize: many})
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Executions)
	}
	eventually(t, "all are listed", func() bool { return list() == many })
	begin := time.Now()
	for range times {
		list()
	}
	if took := time.Since(begin); took > most {
		t.Errorf("to list %d workflows %d times took %s", many, times, took)
	}
}

func TestStart_AddsAttributesToOldNamespace(t *testing.T) {
	dir := t.TempDir()
	for _, names := range [][]string{{"ReleaseProject"}, {"ReleaseProject", "ReleaseOutcome"}, {"ReleaseProject", "ReleaseOutcome"}} {
		s := startServer(t, Options{Dir: dir, UIOff: true, Attributes: names})
		c := dial(t, s)
		var attributes []temporal.SearchAttributeUpdate
		for _, name := range names {
			attributes = append(attributes, temporal.NewSearchAttributeKeyKeyword(name).ValueSet("x"))
		}
		_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
			TaskQueue: queue, TypedSearchAttributes: temporal.NewSearchAttributes(attributes...),
		}, waitForApproval)
		if err != nil {
			t.Fatalf("starting with %v: %v", names, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStart_RetentionIsAYear(t *testing.T) {
	s := startServer(t, Options{UIOff: true, Namespace: "releases"})
	ns, err := dial(t, s).WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "releases"})
	if err != nil {
		t.Fatal(err)
	}
	if got := ns.Config.WorkflowExecutionRetentionTtl.AsDuration(); got != retention {
		t.Errorf("closed workflows are kept for %s, want %s", got, retention)
	}
}

func TestStart_HealthyServerLogsNothing(t *testing.T) {
	var logged strings.Builder
	s := startServer(t, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	c := dial(t, s)
	startWorker(t, c)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: queue}, greetWorkflow, "Fly")
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if logged.Len() > 0 {
		t.Errorf("it logged:\n%s", logged.String())
	}
}

func TestStart_ListensOnLoopbackOnly(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("TestNothingListensBeyondLoopback needs /proc/net/tcp")
	}
	startServer(t, Options{Dir: t.TempDir()})
	own := map[string]bool{}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
	}
	seen := 0
	for inode, address := range listeningSockets("/proc/self/net", 0) {
		if !own[inode] {
			continue
		}
		seen++
		if address != "0100007F" {
			t.Errorf("something listens on %s (hex), want 127.0.0.1", address)
		}
	}
	if seen < 5 { // four services and the UI
		t.Errorf("found only %d listeners of this process", seen)
	}
}

func TestStart_CancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Start(ctx, Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled start: %v", err)
	}
	startServer(t, Options{Dir: dir, UIOff: true}) // the cancelled start left no lock
}

// waitForApproval is a workflow that waits for an approval.
func waitForApproval(ctx workflow.Context) (by string, err error) {
	workflow.GetSignalChannel(ctx, "approve").Receive(ctx, &by)
	return by, nil
}

func greetWorkflow(ctx workflow.Context, name string) (out string, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	err = workflow.ExecuteActivity(ctx, greetActivity, name).Get(ctx, &out)
	return out, err
}

func greetActivity(ctx context.Context, name string) (string, error) {
	activity.RecordHeartbeat(ctx)
	return "hello " + name, nil
}

func startServer(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type temporalServer interface {
	Address() string
	Namespace() string
}

func dial(t testing.TB, s temporalServer) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{
		HostPort: s.Address(), Namespace: s.Namespace(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func startWorker(t testing.TB, c client.Client) {
	t.Helper()
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(waitForApproval)
	w.RegisterWorkflow(greetWorkflow)
	w.RegisterActivity(greetActivity)
	w.RegisterWorkflow(activityTime)
	w.RegisterActivity(currentTime)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not true after 20 s: %s", what)
		}
	}
}

// A serverProcess is a server in a separate process, which can be killed.
type serverProcess struct {
	address string
	cmd     *exec.Cmd
}

func (p *serverProcess) Address() string   { return p.address }
func (p *serverProcess) Namespace() string { return "default" }

func (p *serverProcess) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func startProcess(t *testing.T, dir string) *serverProcess {
	t.Helper()
	p := &serverProcess{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), dirEnv+"="+dir)
	p.cmd.Stderr = os.Stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.cmd.StdinPipe(); err != nil { // the process ends when this pipe closes
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the server process ended before it was up: %v", err)
	}
	p.address = strings.TrimSpace(line)
	return p
}

func runServer(dir string) int {
	s, err := Start(context.Background(), Options{Dir: dir, UIOff: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.Address())
	io.Copy(io.Discard, os.Stdin)
	s.Close()
	return 0
}
