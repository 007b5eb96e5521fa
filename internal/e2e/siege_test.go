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
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// Processes that a siege kills.
const (
	theWorker = "worker"
	theServer = "server" // Temporal
	theFly    = "fly"
)

// A siege is an environment whose processes are killed repeatedly.
type siege struct {
	*world
	*tally
	seed    uint64
	flyDir  string
	jobs    map[string]job
	hands   map[string]*hand
	c       client.Client
	mu      sync.Mutex
	running map[string]client.WorkflowRun // by project
	over    bool                          // no new release begins
}

// newSiege starts a Temporal of that kind, a Fly and a worker.
func newSiege(t *testing.T, temporal string, seed uint64, sum *tally) *siege {
	t.Helper()
	s := &siege{world: &world{t: t, logs: t.TempDir()}, tally: sum, seed: seed, flyDir: t.TempDir(),
		hands: map[string]*hand{}, running: map[string]client.WorkflowRun{}}
	if err := errors.Join(s.settle(), s.prepare(temporal)); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{theServer, theFly} {
		if err := s.start(who); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.end)
	var err error
	s.c, err = client.NewLazyClient(client.Options{HostPort: s.temporal, Identity: "people", Logger: loud(os.Stderr), DataConverter: worker.DataConverter()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = s.until(ctx, s.serves)
	if err == nil && temporal == bePostgres {
		// As infra/compose/scripts/namespace.sh does: parts of the server find a new
		// namespace with a delay.
		err = s.until(ctx, func(context.Context) error { return s.namespace("default") })
	}
	if err := errors.Join(err, s.start(theWorker)); err != nil {
		t.Fatal(err)
	}
	return s
}

// settle creates the initial state: v1 runs everywhere.
func (s *siege) settle() error {
	sim := &flysim.Sim{Journal: journalIn(s.flyDir)}
	defer sim.Close()
	for _, k := range kinds() {
		k.shop.open(sim, k.name)
		k.shop.runs(sim, k.name, "production", "v1") // the first release creates those of staging
	}
	return sim.Save(sim.Journal)
}

// prepare chooses fixed addresses for all processes.
func (s *siege) prepare(temporal string) error {
	port, err := freePorts(s.t.Context(), 8)
	if err != nil {
		return err
	}
	flyPort, err := freePorts(s.t.Context(), 1)
	if err != nil {
		return err
	}
	server := job{Be: temporal, Port: port, Dir: s.t.TempDir()}
	if temporal == bePostgres {
		if server.Database, err = s.startDatabase(); err != nil {
			return err
		}
	}
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	s.temporal, s.fly = at(port), "http://"+at(flyPort)
	s.jobs = map[string]job{
		theServer: server,
		theFly:    {Be: beFly, Port: flyPort, Dir: s.flyDir},
		theWorker: {Temporal: s.temporal, Namespace: "default", Fly: s.fly, Logs: s.logs, Kinds: true},
	}
	return nil
}

// startDatabase starts a PostgreSQL until the end of the test, and returns its port.
func (s *siege) startDatabase() (port int, err error) {
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
	h, err := start(context.Background(), job{Be: beDatabase, Port: port, Dir: dir})
	if err != nil {
		return 0, err
	}
	s.t.Cleanup(h.dismiss)
	select {
	case <-h.spoke.at:
		return port, nil
	case <-h.gone:
		return 0, fmt.Errorf("PostgreSQL ended: %s\n%s", h.cmd.ProcessState, &h.said)
	case <-time.After(time.Minute):
		return 0, errors.New("PostgreSQL was not ready within a minute")
	}
}

// start starts one process at its address.
func (s *siege) start(who string) (err error) {
	s.hands[who], err = start(context.Background(), s.jobs[who])
	return err
}

// end stops all processes.
func (s *siege) end() {
	for _, who := range []string{theWorker, theServer, theFly} {
		if h := s.hands[who]; h != nil {
			h.dismiss()
		}
	}
}

// serves returns an error if Temporal does not accept calls.
func (s *siege) serves(ctx context.Context) error {
	_, err := s.c.CheckHealth(ctx, nil)
	return err
}

// until retries try until it succeeds.
func (s *siege) until(ctx context.Context, try func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := try(once)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if wait(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

// releases releases the versions of k one after another until the siege is over, and
// sometimes repeats one.
func (s *siege) releases(ctx context.Context, k kind) {
	h := fnv.New64()
	h.Write([]byte(k.name))
	chance := rand.New(rand.NewPCG(s.seed, h.Sum64()))
	for v := 2; !s.isOver(); v++ {
		version := fmt.Sprintf("v%d", v)
		s.judged(k.outcome, s.release(ctx, k, version, k.outcome, chance))
		if k.outcome == release.Promoted && v%2 == 0 {
			s.judged(release.Unchanged, s.release(ctx, k, version, release.Unchanged, chance))
		}
	}
}

// finish prevents new releases.
func (s *siege) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

func (s *siege) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// release runs one release and returns an error with all that a user would have lost.
func (s *siege) release(ctx context.Context, k kind, version string, outcome release.Outcome, chance *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, 6*time.Minute)
	defer cancel()
	before, err := readLedger(journalIn(s.flyDir))
	if err != nil {
		return err
	}
	req := request(k.name, version)
	run, err := s.begin(ctx, req)
	if err != nil {
		return fmt.Errorf("%s %s could not be started: %w", k.name, version, err)
	}
	s.runs(k.name, run)
	defer s.runs(k.name, nil)
	asked, asks := context.WithCancel(ctx)
	answered := make(chan struct{})
	go func() { defer close(answered); s.answer(asked, k, run, chance) }()
	var report release.Report
	var failed *sdktemporal.WorkflowExecutionError
	ended := s.until(ctx, func(ctx context.Context) error {
		if err = run.Get(ctx, &report); errors.As(err, &failed) {
			return nil
		}
		return err
	})
	asks()
	<-answered
	if err := errors.Join(ended, err); err != nil {
		return fmt.Errorf("%s %s did not end as it should (%s): %w", k.name, version, s.where(k, run), err)
	}
	if report.Outcome != outcome {
		return fmt.Errorf("%s %s ended %s, %+v, %v; want %s", k.name, version, report.Outcome, report.Cause, report.Notes, outcome)
	}
	return s.judge(ctx, k, run, before, version, outcome)
}

// judge compares the current state with the expected state.
func (s *siege) judge(ctx context.Context, k kind, run client.WorkflowRun, before ledger, version string, outcome release.Outcome) error {
	var places []string
	for _, env := range k.shop.environments() {
		for _, app := range k.shop.names() {
			places = append(places, flyApp(k.name, env, app))
		}
	}
	var after ledger
	// The lease of a killed worker expires, and Fly destroys machines with a delay.
	within, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	err := s.until(within, func(context.Context) (err error) {
		if after, err = readLedger(journalIn(s.flyDir)); err == nil && after.unsettled(places) {
			err = errors.New("not settled yet")
		}
		return err
	})
	if within.Err() == nil && err != nil {
		return err
	}
	err = k.intact(before, after, run.GetID(), version, outcome)
	var all told
	history := s.until(ctx, func(ctx context.Context) (err error) {
		all, err = historyOf(ctx, s.c, run.GetID(), run.GetRunID())
		return err
	})
	if err := errors.Join(err, history, gated(all, "production")); err != nil {
		return fmt.Errorf("%s %s, %s: %w", k.name, version, outcome, err)
	}
	return nil
}

// begin starts a release and retries until the start is acknowledged.
func (s *siege) begin(ctx context.Context, req release.Request) (run client.WorkflowRun, err error) {
	err = s.until(ctx, func(ctx context.Context) error {
		run, err = s.c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: release.ID(req.Project, req.Revision), TaskQueue: release.TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
		}, release.ReleaseWorkflow, req)
		var is *serviceerror.WorkflowExecutionAlreadyStarted
		if errors.As(err, &is) { // by a call whose response was lost
			run, err = s.c.GetWorkflow(ctx, release.ID(req.Project, req.Revision), is.RunId), nil
		}
		return err
	})
	return run, err
}

// runs records the running release of a project.
func (s *siege) runs(project string, run client.WorkflowRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[project] = run; run == nil {
		delete(s.running, project)
	}
}

// answer reviews and resolves until the release has ended.
func (s *siege) answer(ctx context.Context, k kind, run client.WorkflowRun, chance *rand.Rand) {
	answered := map[string]bool{}
	for wait(ctx, time.Second) == nil {
		status, err := s.status(ctx, run.GetID(), run.GetRunID())
		if err != nil || status.Gate == nil || answered[status.Gate.Plan] {
			continue
		}
		answered[status.Gate.Plan] = true
		if wait(ctx, time.Duration(chance.Int64N(int64(4*time.Second)))) != nil {
			return
		}
		if err := s.until(ctx, func(ctx context.Context) error { return s.decide(ctx, k, run, status.Gate.Plan) }); err != nil && ctx.Err() == nil {
			s.t.Errorf("%s: no decision: %v", run.GetID(), err)
		}
	}
}

func (s *siege) status(ctx context.Context, id, run string) (status release.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v, err := s.c.QueryWorkflow(ctx, id, run, release.StatusQuery)
	if err == nil {
		err = v.Get(&status)
	}
	return status, err
}

// decide reviews a plan and returns nil once the review is acknowledged.
func (s *siege) decide(ctx context.Context, k kind, run client.WorkflowRun, plan string) error {
	d := release.Review{By: "ben", Reason: "because", Plan: plan}
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

// where describes the state of a release that does not end.
func (s *siege) where(k kind, run client.WorkflowRun) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	status, err := s.status(ctx, run.GetID(), run.GetRunID())
	said := fmt.Sprintf("%s, %v", status.Phase, err)
	for _, env := range k.shop.environments() {
		if in, err := s.status(ctx, release.RolloutID(k.name, env), ""); err == nil {
			said += fmt.Sprintf("; rollout of %s: %s, held %+v", env, in.Phase, in.Held)
		}
	}
	return said
}
