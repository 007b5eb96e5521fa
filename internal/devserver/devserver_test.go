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
	// dirEnv makes this test binary a server on that directory: see serveForTest.
	dirEnv = "DEVSERVER_TEST_DIR"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirEnv); dir != "" {
		os.Exit(serveForTest(dir))
	}
	os.Exit(m.Run())
}

func TestWorkflowWithSearchAttributesRuns(t *testing.T) {
	s := start(t, Options{UIOff: true, Attributes: []string{"ReleaseProject", "ReleasePhase"}})
	c := dial(t, s)
	work(t, c)
	project := temporal.NewSearchAttributeKeyKeyword("ReleaseProject")
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: "one", TaskQueue: queue,
		TypedSearchAttributes: temporal.NewSearchAttributes(project.ValueSet("microbima")),
	}, greet, "Fly")
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

func TestTwoServersOneAfterAnother(t *testing.T) {
	for range 2 {
		s := start(t, Options{Dir: t.TempDir()})
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

func TestClosedDirectoryOpensAgain(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir, UIOff: true})
	c := dial(t, s)
	if _, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "kept", TaskQueue: queue}, await); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if wal, err := os.Stat(filepath.Join(dir, "temporal.db-wal")); err == nil && wal.Size() > 0 {
		t.Errorf("a closed server left %d bytes in its write-ahead log", wal.Size())
	}
	s = start(t, Options{Dir: dir, UIOff: true})
	if _, err := dial(t, s).DescribeWorkflowExecution(t.Context(), "kept", ""); err != nil {
		t.Fatal(err)
	}
}

// A release waits for an approval; the machine's power goes; it still waits,
// and the approval counts.
func TestKilledServerLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "50% of it? #1") // all that a URL could trip over
	first := spawn(t, dir)
	c := dial(t, first)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "waiting", TaskQueue: queue}, await)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "temporal.db-wal")); err != nil {
		t.Fatalf("the file is not written in WAL mode: %v", err)
	}
	first.kill()

	second := spawn(t, dir)
	c = dial(t, second)
	if err := c.SignalWorkflow(t.Context(), run.GetID(), run.GetRunID(), "approve", "ann"); err != nil {
		t.Fatalf("signal after the restart: %v", err)
	}
	second.kill() // the signal was acknowledged: it must be there, too

	c = dial(t, spawn(t, dir))
	work(t, c)
	var by string
	if err := c.GetWorkflow(t.Context(), run.GetID(), run.GetRunID()).Get(t.Context(), &by); err != nil || by != "ann" {
		t.Fatalf("approved by %q, %v; want ann", by, err)
	}
}

// A page of a team's releases is there in a moment, however often it is asked
// for: Temporal limits how often it asks its own database.
func TestManyWorkflowsAreListedSoon(t *testing.T) {
	const many, times, most = 500, 4, 2 * time.Second
	s := start(t, Options{UIOff: true, Attributes: []string{"ReleaseProject", "ReleasePhase"}})
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
			}, await)
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

func TestAttributesAreAddedToAnOldNamespace(t *testing.T) {
	dir := t.TempDir()
	for _, names := range [][]string{{"ReleaseProject"}, {"ReleaseProject", "ReleaseOutcome"}, {"ReleaseProject", "ReleaseOutcome"}} {
		s := start(t, Options{Dir: dir, UIOff: true, Attributes: names})
		c := dial(t, s)
		var attributes []temporal.SearchAttributeUpdate
		for _, name := range names {
			attributes = append(attributes, temporal.NewSearchAttributeKeyKeyword(name).ValueSet("x"))
		}
		_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
			TaskQueue: queue, TypedSearchAttributes: temporal.NewSearchAttributes(attributes...),
		}, await)
		if err != nil {
			t.Fatalf("starting with %v: %v", names, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosedReleasesStayForAYear(t *testing.T) {
	s := start(t, Options{UIOff: true, Namespace: "releases"})
	ns, err := dial(t, s).WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "releases"})
	if err != nil {
		t.Fatal(err)
	}
	if got := ns.Config.WorkflowExecutionRetentionTtl.AsDuration(); got != retention {
		t.Errorf("closed workflows are kept for %s, want %s", got, retention)
	}
}

func TestHealthyServerSaysNothing(t *testing.T) {
	var said strings.Builder
	s := start(t, Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	c := dial(t, s)
	work(t, c)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: queue}, greet, "Fly")
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if said.Len() > 0 {
		t.Errorf("it said:\n%s", said.String())
	}
}

func TestNothingListensBeyondLoopback(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("TestNothingListensBeyondLoopback needs /proc/net/tcp")
	}
	start(t, Options{Dir: t.TempDir()})
	own := map[string]bool{}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
	}
	seen := 0
	for inode, address := range listening("/proc/self/net", 0) {
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

func TestStartCanBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Start(ctx, Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled start: %v", err)
	}
	start(t, Options{Dir: dir, UIOff: true}) // and it left nothing in the way
}

// await is a release that waits for an approval.
func await(ctx workflow.Context) (by string, err error) {
	workflow.GetSignalChannel(ctx, "approve").Receive(ctx, &by)
	return by, nil
}

func greet(ctx workflow.Context, name string) (out string, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	err = workflow.ExecuteActivity(ctx, hello, name).Get(ctx, &out)
	return out, err
}

func hello(ctx context.Context, name string) (string, error) {
	activity.RecordHeartbeat(ctx)
	return "hello " + name, nil
}

func start(t testing.TB, o Options) *Server {
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

type addressed interface {
	Address() string
	Namespace() string
}

func dial(t testing.TB, s addressed) client.Client {
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

func work(t testing.TB, c client.Client) {
	t.Helper()
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(await)
	w.RegisterWorkflow(greet)
	w.RegisterActivity(hello)
	w.RegisterWorkflow(when)
	w.RegisterActivity(now)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after 20 s: %s", what)
		}
	}
}

// A process is a server of its own, so that it can be killed.
type process struct {
	address string
	cmd     *exec.Cmd
}

func (p *process) Address() string   { return p.address }
func (p *process) Namespace() string { return "default" }

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func spawn(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), dirEnv+"="+dir)
	p.cmd.Stderr = os.Stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.cmd.StdinPipe(); err != nil { // its end ends the process, should we die
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

func serveForTest(dir string) int {
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
