package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

var (
	loadGates    = flag.Int("gates", 30, "releases that wait at gates, in TestLoad")
	loadRollouts = flag.Int("rollouts", 5, "rollouts at once, in TestLoad")
)

const (
	// mostLoaded is the limit of a worker under any load.
	mostLoaded = 500 << 20
	// longestAnswer is the limit for the time of a command.
	longestAnswer   = time.Second
	machinesEach    = 12 // of a rollout under load
	startedAtOnce   = 16
	commandsAtLeast = 5 // of each kind
)

// TestLoad runs releases that wait at gates and releases that change machines, on one
// worker with the embedded server, each in its own process. It prints the resources used.
func TestLoad(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	l := newLoadTest(ctx, t)
	release := l.buildCommand(ctx)
	l.recordMemory("idle")

	waiting := l.rampUp(ctx)
	time.Sleep(2 * time.Second) // until the last ones are in the list
	l.recordMemory(fmt.Sprintf("%d wait at gates", *loadGates))

	changing, answers := l.rollOut(ctx, release)
	l.recordMemory(fmt.Sprintf("after %d rollouts of %d machines", *loadRollouts, machinesEach))
	if n := l.countWaiting(ctx); n != *loadGates {
		t.Errorf("%d releases wait at gates, want %d", n, *loadGates)
	}
	l.printResults(ctx, waiting, changing, answers)
}

// A loadTest is the processes under load.
type loadTest struct {
	*processEnv
	c              client.Client
	server, worker *childProcess
	memory         [][]string // rows of a table
	size           func() int64
}

func newLoadTest(ctx context.Context, t *testing.T) *loadTest {
	t.Helper()
	sim := &flysim.Sim{Latency: flysim.Latency{
		API: 5 * time.Millisecond, Change: 200 * time.Millisecond, Boot: 2 * time.Second, Check: 500 * time.Millisecond,
		Stop: 100 * time.Millisecond, Destroy: 100 * time.Millisecond,
	}}
	t.Cleanup(sim.Close)
	web := httptest.NewServer(sim)
	t.Cleanup(web.Close)
	data := t.TempDir()
	l := &loadTest{processEnv: &processEnv{t: t, sim: sim, fly: web.URL, logs: t.TempDir()}}
	l.size = func() int64 {
		return sizeOf(filepath.Join(data, "temporal.db")) + sizeOf(filepath.Join(data, "temporal.db-wal"))
	}
	port, err := freePorts(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	l.temporal = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if l.server, err = startProcess(ctx, processJob{Be: beTemporal, Dir: data, Port: port}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.server.stop)
	l.c = l.waitForServer(ctx)
	t.Cleanup(l.c.Close)
	l.worker, err = startProcess(ctx, processJob{Temporal: l.temporal, Namespace: "default", Fly: l.fly, Logs: l.logs, Poll: 250 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.worker.stop)
	return l
}

// waitForServer returns when the server accepts calls.
func (l *loadTest) waitForServer(ctx context.Context) client.Client {
	l.t.Helper()
	for {
		c, err := client.Dial(client.Options{HostPort: l.temporal, Logger: errorLogger(io.Discard), DataConverter: worker.DataConverter()})
		if err == nil {
			return c
		}
		select {
		case <-l.server.gone:
			l.t.Fatalf("the server ended: %s\n%s", l.server.cmd.ProcessState, &l.server.said)
		case <-ctx.Done():
			l.t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func sizeOf(file string) int64 {
	if info, err := os.Stat(file); err == nil {
		return info.Size()
	}
	return 0
}

// buildCommand returns the built command.
func (l *loadTest) buildCommand(ctx context.Context) func(args ...string) (time.Duration, error) {
	l.t.Helper()
	binary := filepath.Join(l.t.TempDir(), "release")
	if out, err := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", binary, "../../cmd/release").CombinedOutput(); err != nil {
		l.t.Fatalf("build the program: %v\n%s", err, out)
	}
	home := l.t.TempDir()
	return func(args ...string) (time.Duration, error) {
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Dir, cmd.Env = home, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TEMPORAL_ADDRESS=" + l.temporal}
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		took := time.Since(begin)
		if err != nil {
			return took, fmt.Errorf("release %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return took, nil
	}
}

// recordMemory records the current and maximum memory of the processes.
func (l *loadTest) recordMemory(when string) {
	row := []string{when}
	for _, h := range []*childProcess{l.worker, l.server} {
		now, _ := readMemory(h.cmd.Process.Pid, "VmRSS")
		most, _ := readPeakMemory(h.cmd.Process.Pid)
		row = append(row, fmt.Sprint(now>>20), fmt.Sprint(most>>20))
	}
	l.memory = append(l.memory, append(row, fmt.Sprintf("%.1f", float64(l.size())/(1<<20))))
}

// A loadedRelease release is one of many.
type loadedRelease struct {
	run     client.WorkflowRun
	project string
	short   string // digits of its revision
	plan    string // that waits for approval
}

// beginRelease starts a release of one app that has machines in both environments.
func (l *loadTest) beginRelease(ctx context.Context, kind string, n, machines int) (loadedRelease, error) {
	project := fmt.Sprintf("%s%d", kind, n)
	s := projectFixture{apps: []string{"api"}}
	s.createApps(l.sim, project)
	s.createMachines(l.sim, project, "staging", "v1")
	app := flyApp(project, "production", "api")
	config := fmt.Appendf(nil, `{"image":"registry.fly.io/%s@%s","env":{"LEVEL":"info"},"metadata":{"fly_platform_version":"v2","fly_process_group":"app"}}`,
		app, digestOf("api", commitOf("v1")))
	for range machines {
		l.sim.Put(app, fly.Machine{Region: "ams", Config: config})
	}
	req := request(project, fmt.Sprintf("%c%05d", kind[0], n))
	req.Apps = s.apps
	run, err := l.c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: release.ReleaseID(project, req.Revision), TaskQueue: release.TaskQueue, Memo: map[string]any{"request": req},
	}, release.ReleaseWorkflow, req)
	return loadedRelease{run: run, project: project, short: req.Revision.Short()}, err
}

// A period is the time between two moments in the histories of releases.
type period struct {
	title    string
	from, to time.Time
	releases []loadedRelease
}

// rampUp starts the releases that wait at gates after a rollout in staging.
func (l *loadTest) rampUp(ctx context.Context) period {
	l.t.Helper()
	p := period{title: fmt.Sprintf("%d releases go through staging to their gate", *loadGates), from: time.Now(), releases: make([]loadedRelease, *loadGates)}
	var g errgroup.Group
	g.SetLimit(startedAtOnce)
	for n := range p.releases {
		g.Go(func() (err error) {
			p.releases[n], err = l.beginRelease(ctx, "gate", n, 2)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		l.t.Fatal(err)
	}
	for l.countWaiting(ctx) < len(p.releases) {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-l.worker.gone:
			l.t.Fatalf("the worker ended: %s\n%s", l.worker.cmd.ProcessState, &l.worker.said)
		case <-ctx.Done():
			l.t.Fatalf("%d of %d releases wait at gates: %v", l.countWaiting(context.WithoutCancel(ctx)), len(p.releases), ctx.Err())
		}
	}
	p.to = time.Now()
	return p
}

// countWaiting returns the number of releases that wait at gates.
func (l *loadTest) countWaiting(ctx context.Context) int {
	l.t.Helper()
	count, err := l.c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = '%s' AND %s = '%s'", release.ReleaseWorkflow, release.AttrPhase, release.AwaitingApproval),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return int(count.Count)
}

// commandTimes are the times of commands, by command.
type commandTimes map[string][]time.Duration

// rollOut approves releases at the same time, and runs commands while their rollouts run.
func (l *loadTest) rollOut(ctx context.Context, command func(...string) (time.Duration, error)) (period, commandTimes) {
	l.t.Helper()
	p := period{title: fmt.Sprintf("%d rollouts of %d machines at once", *loadRollouts, machinesEach), releases: make([]loadedRelease, *loadRollouts)}
	var g errgroup.Group
	for n := range p.releases {
		g.Go(func() (err error) {
			r, err := l.beginRelease(ctx, "rollout", n, machinesEach)
			if err == nil {
				r.plan, err = waitForGate(ctx, l.c, r.run)
			}
			p.releases[n] = r
			return err
		})
	}
	if err := g.Wait(); err != nil {
		l.t.Fatal(err)
	}
	p.from = time.Now()
	for _, r := range p.releases {
		if err := l.c.SignalWorkflow(ctx, r.run.GetID(), r.run.GetRunID(), release.ApproveSignal, release.ReviewInput{By: "ben", Plan: r.plan}); err != nil {
			l.t.Fatal(err)
		}
	}
	over := make(chan error, 1)
	go func() { over <- l.checkPromoted(ctx, p.releases) }()
	said := commandTimes{}
	for n := 0; ; n++ {
		for what, args := range map[string][]string{
			"list":                         {"list"},
			"list -n 1000":                 {"list", "-n", "1000"},
			"status of one that waits":     {"status", "release/gate0/" + commitOf("g00000")[:12]},
			"status by digits":             {"status", commitOf("g00000")[:12]},
			"status of one that rolls out": {"status", p.releases[n%len(p.releases)].run.GetID()},
			"status of a rollout":          {"status", release.RolloutID(p.releases[n%len(p.releases)].project, "production")},
		} {
			took, err := command(args...)
			if err != nil {
				l.t.Fatal(err)
			}
			said[what] = append(said[what], took)
		}
		select {
		case err := <-over:
			if err != nil {
				l.t.Fatal(err)
			}
			p.to = time.Now()
			if n < commandsAtLeast {
				l.t.Logf("the rollouts were over before commands had been asked %d times", commandsAtLeast)
			}
			return p, said
		default:
		}
	}
}

func (l *loadTest) checkPromoted(ctx context.Context, all []loadedRelease) error {
	for _, r := range all {
		var report release.Report
		if err := r.run.Get(ctx, &report); err != nil || report.Outcome != release.Promoted {
			return fmt.Errorf("%s: %s, %+v, %w", r.run.GetID(), report.Outcome, report.Cause, err)
		}
	}
	return nil
}

// Kinds of tasks whose schedule-to-start latency is measured.
const (
	workflowTasks = "workflow tasks"
	releaseTasks  = "activities of " + release.TaskQueue
	buildTasks    = "activities of " + release.BuildQueue
)

// readLatencies returns the schedule-to-start latencies in a period by kind of task,
// and the number of completed activities.
func (l *loadTest) readLatencies(ctx context.Context, p period) (waited map[string][]time.Duration, done int) {
	l.t.Helper()
	waited = map[string][]time.Duration{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(8)
	for _, r := range p.releases {
		g.Go(func() error {
			histories, err := historiesOf(ctx, l.c, r.run)
			mu.Lock()
			defer mu.Unlock()
			for _, h := range histories {
				done += p.addLatencies(waited, h.events)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		l.t.Fatal(err)
	}
	for _, all := range waited {
		slices.Sort(all)
	}
	return waited, done
}

// addLatencies adds the latencies of one history and counts its activities.
func (p period) addLatencies(waited map[string][]time.Duration, events []*historypb.HistoryEvent) (done int) {
	for _, e := range events {
		at := e.EventTime.AsTime()
		if at.Before(p.from) || at.After(p.to) {
			continue
		}
		scheduled, kind := int64(0), ""
		switch e.EventType {
		case enums.EVENT_TYPE_WORKFLOW_TASK_STARTED:
			scheduled, kind = e.GetWorkflowTaskStartedEventAttributes().ScheduledEventId, workflowTasks
		case enums.EVENT_TYPE_ACTIVITY_TASK_STARTED:
			if a := e.GetActivityTaskStartedEventAttributes(); a.Attempt == 1 { // later attempts wait on purpose
				scheduled = a.ScheduledEventId
				kind = "activities of " + events[scheduled-1].GetActivityTaskScheduledEventAttributes().TaskQueue.Name
			}
		case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			done++
		}
		if kind != "" {
			waited[kind] = append(waited[kind], at.Sub(events[scheduled-1].EventTime.AsTime()))
		}
	}
	return done
}

// printResults prints the measurements and fails if a limit is exceeded.
func (l *loadTest) printResults(ctx context.Context, waiting, changing period, said commandTimes) {
	l.t.Helper()
	fmt.Printf("\nmemory, MB (%d gates, %d rollouts of %d machines, one worker, the embedded server on a file)\n", *loadGates, *loadRollouts, machinesEach)
	printTable([]string{"", "worker", "most", "server", "most", "server's file"}, l.memory...)

	var rates [][]string
	var worst time.Duration // of the 99th percentiles during rollouts
	perSecond := 0.0
	for _, p := range []period{waiting, changing} {
		waited, done := l.readLatencies(ctx, p)
		took := p.to.Sub(p.from)
		var rows [][]string
		for _, kind := range []string{workflowTasks, releaseTasks, buildTasks} {
			if all := waited[kind]; len(all) > 0 {
				rows = append(rows, []string{kind, fmt.Sprint(len(all)), formatMillis(percentile(all, 50)), formatMillis(percentile(all, 95)), formatMillis(percentile(all, 99)), formatMillis(percentile(all, 100))})
				if p.title == changing.title {
					worst = max(worst, percentile(all, 99))
				}
			}
		}
		fmt.Printf("\nfrom schedule to start, ms: %s\n", p.title)
		printTable([]string{"", "tasks", "p50", "p95", "p99", "max"}, rows...)
		perSecond = max(perSecond, float64(done)/took.Seconds())
		rates = append(rates, []string{p.title, fmt.Sprintf("%.1f", took.Seconds()), fmt.Sprint(done),
			fmt.Sprintf("%.0f", float64(done)/took.Seconds()), fmt.Sprintf("%.0f", float64(len(p.releases))/took.Minutes())})
	}
	fmt.Println("\nthroughput")
	printTable([]string{"", "seconds", "activities", "activities/s", "releases/min"}, rates...)

	var commands [][]string
	longest := map[string]time.Duration{} // medians of list and status
	for _, what := range slices.Sorted(maps.Keys(said)) {
		all := said[what]
		slices.Sort(all)
		commands = append(commands, []string{"release " + what, fmt.Sprint(len(all)), formatMillis(all[0]), formatMillis(percentile(all, 50)), formatMillis(percentile(all, 100))})
		command, _, _ := strings.Cut(what, " ")
		longest[command] = max(longest[command], percentile(all, 50))
		if percentile(all, 50) > longestAnswer {
			l.t.Errorf("release %s took %s ms, the median of %d", what, formatMillis(percentile(all, 50)), len(all))
		}
	}
	fmt.Println("\ncommands while the rollouts go on, from outside, ms")
	printTable([]string{"", "times", "min", "median", "max"}, commands...)

	worker, ok := readPeakMemory(l.worker.cmd.Process.Pid)
	server, _ := readPeakMemory(l.server.cmd.Process.Pid)
	if ok && worker > mostLoaded {
		l.t.Errorf("the worker took %d MB", worker>>20)
	}
	fmt.Printf("\ngates=%d rollouts=%d worker-mb=%d server-mb=%d schedule-to-start-p99=%.3fs list=%.2fs status=%.2fs activities-per-second=%.0f\n",
		*loadGates, *loadRollouts, worker>>20, server>>20, worst.Seconds(), longest["list"].Seconds(), longest["status"].Seconds(), perSecond)
	if !ok {
		l.t.Skip("how much memory a process took can't be read here: no /proc")
	}
}

// percentile returns a percentile of sorted durations; 100 is the maximum.
func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

func formatMillis(d time.Duration) string { return fmt.Sprintf("%.1f", toMillis(d)) }

// printTable prints a table: a line of titles, then rows with numbers aligned right.
func printTable(titles []string, rows ...[]string) {
	widest := 0
	for _, r := range rows {
		widest = max(widest, len(r[0]))
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	for _, row := range append([][]string{titles}, rows...) {
		fmt.Fprintf(w, "%-*s\t%s\t\n", widest, row[0], strings.Join(row[1:], "\t"))
	}
	w.Flush()
}
