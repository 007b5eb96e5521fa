package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// Processes that a chaos test kills.
const (
	theWorker = "worker"
	theServer = "server" // Temporal
	theFly    = "fly"
)

// A chaosTest is an environment whose processes are killed repeatedly.
type chaosTest struct {
	*processEnv
	*chaosResults
	seed    uint64
	flyDir  string
	jobs    map[string]processJob
	hands   map[string]*childProcess
	c       client.Client
	mu      sync.Mutex
	running map[string]client.WorkflowRun // by project
	over    bool                          // no new release begins
}

// newChaosTest starts a Temporal of that kind, a Fly and a worker.
func newChaosTest(t *testing.T, temporal string, seed uint64, sum *chaosResults) *chaosTest {
	t.Helper()
	s := &chaosTest{processEnv: &processEnv{t: t, logs: t.TempDir()}, chaosResults: sum, seed: seed, flyDir: t.TempDir(),
		hands: map[string]*childProcess{}, running: map[string]client.WorkflowRun{}}
	if err := errors.Join(s.createInitialState(), s.chooseAddresses(temporal)); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{theServer, theFly} {
		if err := s.startRole(who); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.stopAll)
	var err error
	s.c, err = client.NewLazyClient(client.Options{HostPort: s.temporal, Identity: "people", Logger: errorLogger(os.Stderr), DataConverter: worker.DataConverter()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = s.retry(ctx, s.checkServer)
	if err == nil && temporal == bePostgres {
		// As infra/compose/scripts/namespace.sh does: parts of the server find a new
		// namespace with a delay.
		err = s.retry(ctx, func(context.Context) error { return s.createNamespace("default") })
	}
	if err := errors.Join(err, s.startRole(theWorker)); err != nil {
		t.Fatal(err)
	}
	return s
}

// createInitialState creates the initial state: v1 runs everywhere.
func (s *chaosTest) createInitialState() error {
	sim := &flysim.Sim{Journal: journalIn(s.flyDir)}
	defer sim.Close()
	for _, k := range listKinds() {
		k.shop.createApps(sim, k.name)
		k.shop.createMachines(sim, k.name, "production", "v1") // the first release creates those of staging
	}
	return sim.Save(sim.Journal)
}

// chooseAddresses chooses fixed addresses for all processes.
func (s *chaosTest) chooseAddresses(temporal string) error {
	port, err := freePorts(s.t.Context(), 8)
	if err != nil {
		return err
	}
	flyPort, err := freePorts(s.t.Context(), 1)
	if err != nil {
		return err
	}
	server := processJob{Be: temporal, Port: port, Dir: s.t.TempDir()}
	if temporal == bePostgres {
		if server.Database, err = s.startDatabase(); err != nil {
			return err
		}
	}
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	s.temporal, s.fly = at(port), "http://"+at(flyPort)
	s.jobs = map[string]processJob{
		theServer: server,
		theFly:    {Be: beFly, Port: flyPort, Dir: s.flyDir},
		theWorker: {Temporal: s.temporal, Namespace: "default", Fly: s.fly, Logs: s.logs, Kinds: true},
	}
	return nil
}

// startDatabase starts a PostgreSQL until the end of the test, and returns its port.
func (s *chaosTest) startDatabase() (port int, err error) {
	// Not the folder of the test, which only the user of the test can read.
	dir, err := os.MkdirTemp("", "release-postgresql")
	if err != nil {
		return 0, err
	}
	s.t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			s.t.Error(err)
		}
	})
	if port, err = freePorts(s.t.Context(), 1); err != nil {
		return 0, err
	}
	h, err := startProcess(context.Background(), processJob{Be: beDatabase, Port: port, Dir: dir})
	if err != nil {
		return 0, err
	}
	s.t.Cleanup(h.stop)
	select {
	case <-h.spoke.at:
		return port, nil
	case <-h.gone:
		return 0, fmt.Errorf("PostgreSQL ended: %s\n%s", h.cmd.ProcessState, &h.said)
	case <-time.After(time.Minute):
		return 0, errors.New("PostgreSQL was not ready within a minute")
	}
}

// startRole starts one process at its address.
func (s *chaosTest) startRole(who string) (err error) {
	s.hands[who], err = startProcess(context.Background(), s.jobs[who])
	return err
}

// stopAll stops all processes.
func (s *chaosTest) stopAll() {
	for _, who := range []string{theWorker, theServer, theFly} {
		if h := s.hands[who]; h != nil {
			h.stop()
		}
	}
}

// checkServer returns an error if Temporal does not accept calls.
func (s *chaosTest) checkServer(ctx context.Context) error {
	_, err := s.c.CheckHealth(ctx, nil)
	return err
}

// retry retries try until it succeeds.
func (s *chaosTest) retry(ctx context.Context, try func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := try(once)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if sleep.For(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

// releaseVersions releases the versions of k one after another until the chaos test is over,
// and sometimes repeats one.
func (s *chaosTest) releaseVersions(ctx context.Context, k releaseKind) {
	h := fnv.New64()
	h.Write([]byte(k.name))
	chance := rand.New(rand.NewPCG(s.seed, h.Sum64()))
	for v := 2; !s.isOver(); v++ {
		version := fmt.Sprintf("v%d", v)
		s.recordRelease(k.outcome, s.runRelease(ctx, k, version, k.outcome, chance))
		if k.outcome == release.Promoted && v%2 == 0 {
			s.recordRelease(release.Unchanged, s.runRelease(ctx, k, version, release.Unchanged, chance))
		}
	}
}

// stopNewReleases prevents new releases.
func (s *chaosTest) stopNewReleases() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

func (s *chaosTest) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// runRelease runs one release and returns an error with all that a user would have lost.
func (s *chaosTest) runRelease(ctx context.Context, k releaseKind, version string, outcome release.Outcome, chance *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Minute)
	defer cancel()
	before, err := readJournal(journalIn(s.flyDir))
	if err != nil {
		return err
	}
	req := request(k.name, version)
	run, err := s.startRelease(ctx, req)
	if err != nil {
		return fmt.Errorf("%s %s could not be started: %w", k.name, version, err)
	}
	s.recordRun(k.name, run)
	defer s.recordRun(k.name, nil)
	asked, asks := context.WithCancel(ctx)
	answered := make(chan struct{})
	go func() { defer close(answered); s.driveRelease(asked, k, run, chance) }()
	var report release.Report
	var failed *sdktemporal.WorkflowExecutionError
	ended := s.retry(ctx, func(ctx context.Context) error {
		if err = run.Get(ctx, &report); errors.As(err, &failed) {
			return nil
		}
		return err
	})
	asks()
	<-answered
	if err := errors.Join(ended, err); err != nil {
		return fmt.Errorf("%s %s did not end as it should (%s): %w", k.name, version, s.describeProgress(k, run), err)
	}
	if report.Outcome != outcome {
		return fmt.Errorf("%s %s ended %s, %+v, %v; want %s", k.name, version, report.Outcome, report.Cause, report.Notes, outcome)
	}
	return s.checkState(ctx, k, run, before, version, outcome)
}

// checkState compares the current state with the expected state.
func (s *chaosTest) checkState(ctx context.Context, k releaseKind, run client.WorkflowRun, before flyJournal, version string, outcome release.Outcome) error {
	var places []string
	for _, env := range k.shop.environments() {
		for _, app := range k.shop.names() {
			places = append(places, flyApp(k.name, env, app))
		}
	}
	var after flyJournal
	// The lease of a killed worker expires, and Fly destroys machines with a delay.
	within, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	err := s.retry(within, func(context.Context) (err error) {
		if after, err = readJournal(journalIn(s.flyDir)); err == nil && after.isUnsettled(places) {
			err = errors.New("not settled yet")
		}
		return err
	})
	if within.Err() == nil && err != nil {
		return err
	}
	err = k.checkIntact(before, after, run.GetID(), version, outcome)
	var all eventHistory
	history := s.retry(ctx, func(ctx context.Context) (err error) {
		all, err = historyOf(ctx, s.c, run.GetID(), run.GetRunID())
		return err
	})
	if err := errors.Join(err, history, checkGate(all, "production")); err != nil {
		return fmt.Errorf("%s %s, %s: %w", k.name, version, outcome, err)
	}
	return nil
}

// startRelease starts a release and retries until the start is acknowledged.
func (s *chaosTest) startRelease(ctx context.Context, req release.Request) (run client.WorkflowRun, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		run, err = s.c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: release.ReleaseID(req.Project, req.Revision), TaskQueue: release.TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
		}, release.ReleaseWorkflow, req)
		var is *serviceerror.WorkflowExecutionAlreadyStarted
		if errors.As(err, &is) { // by a call whose response was lost
			run, err = s.c.GetWorkflow(ctx, release.ReleaseID(req.Project, req.Revision), is.RunId), nil
		}
		return err
	})
	return run, err
}

// recordRun records the running release of a project.
func (s *chaosTest) recordRun(project string, run client.WorkflowRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[project] = run; run == nil {
		delete(s.running, project)
	}
}

// driveRelease reviews and resolves until the release has ended.
func (s *chaosTest) driveRelease(ctx context.Context, k releaseKind, run client.WorkflowRun, chance *rand.Rand) {
	answered := map[string]bool{}
	for sleep.For(ctx, time.Second) == nil {
		status, err := s.queryStatus(ctx, run.GetID(), run.GetRunID())
		if err != nil || status.Gate == nil || answered[status.Gate.Plan] {
			continue
		}
		answered[status.Gate.Plan] = true
		if sleep.For(ctx, time.Duration(chance.Int64N(int64(4*time.Second)))) != nil {
			return
		}
		if err := s.retry(ctx, func(ctx context.Context) error { return s.reviewPlan(ctx, k, run, status.Gate.Plan) }); err != nil && ctx.Err() == nil {
			s.t.Errorf("%s: no review: %v", run.GetID(), err)
		}
	}
}

func (s *chaosTest) queryStatus(ctx context.Context, id, run string) (status release.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v, err := s.c.QueryWorkflow(ctx, id, run, release.StatusQuery)
	if err == nil {
		err = v.Get(&status)
	}
	return status, err
}

// reviewPlan reviews a plan and returns nil once the review is acknowledged.
func (s *chaosTest) reviewPlan(ctx context.Context, k releaseKind, run client.WorkflowRun, plan string) error {
	d := release.ReviewInput{By: "ben", Reason: "because", Plan: plan}
	if k.signal {
		return s.c.SignalWorkflow(ctx, run.GetID(), run.GetRunID(), release.ApproveSignal, d)
	}
	u, err := s.c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: run.GetID(), RunID: run.GetRunID(), UpdateName: release.ReviewName(!k.reject), UpdateID: plan, WaitForStage: client.WorkflowUpdateStageCompleted, Args: []any{d},
	})
	if err != nil {
		return err
	}
	return u.Get(ctx, nil)
}

// describeProgress describes the state of a release that does not end.
func (s *chaosTest) describeProgress(k releaseKind, run client.WorkflowRun) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	status, err := s.queryStatus(ctx, run.GetID(), run.GetRunID())
	said := fmt.Sprintf("%s, %v", status.Phase, err)
	for _, env := range k.shop.environments() {
		if in, err := s.queryStatus(ctx, release.RolloutID(k.name, env), ""); err == nil {
			said += fmt.Sprintf("; rollout of %s: %s, held %+v", env, in.Phase, in.Held)
		}
	}
	return said
}
