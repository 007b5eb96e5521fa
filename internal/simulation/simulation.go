package simulation

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/internal/virtualtime"
	"github.com/microbima/release/workflows"
)

// A simulation executes one Case.
type simulation struct {
	Case
	fly        *flysim.Sim
	network    *network
	activities *activities.Activities
	temporal   *testsuite.TestWorkflowEnvironment
	started    time.Time
	done       chan struct{}
	workers    *workers
	checker    *checker
	operators  *operators

	mu          sync.Mutex
	result      Result
	pending     []pendingTrouble // trouble that begins with a phase
	troubleOver bool             // no more trouble begins
}

// newSimulation returns the simulation of a case. It must be called in a bubble of
// virtual time.
func newSimulation(c Case) *simulation {
	s := &simulation{Case: c, started: time.Now(), done: make(chan struct{}), result: newResult()}
	s.fly = &flysim.Sim{
		Latency: flysim.Latency{
			Change: 200 * time.Millisecond, Boot: 2 * time.Second, Check: time.Second, Stop: time.Second,
			Destroy: 300 * time.Millisecond, Command: 15 * time.Second,
		},
		Limits: c.Limits,
	}
	s.network = newNetwork(c.Seed, s.fly.Transport())
	s.checker = newChecker(s)
	s.network.checker = s.checker
	s.workers, s.operators = newWorkers(s), newOperators(s)
	s.activities = &activities.Activities{
		Fly:      s.newFlyClient(s.network),
		Temporal: &temporalClient{s},
		Git:      memoryGit{c},
		Go:       memoryBuilder{c},
		Registry: "registry.fly.io",
		Edge:     &http.Client{Transport: edgeTransport{s.fly}},
		Poll:     time.Duration(c.Poll),
	}
	suite := new(testsuite.WorkflowTestSuite)
	suite.SetLogger(discardLogger{})
	s.temporal = suite.NewTestWorkflowEnvironment()
	s.temporal.RegisterWorkflowWithOptions(s.runReleases, workflow.RegisterOptions{Name: "releases"})
	s.temporal.RegisterWorkflow(workflows.Release)
	s.temporal.RegisterWorkflow(workflows.Rollout)
	s.temporal.RegisterWorkflow(workflows.Pin)
	s.temporal.RegisterActivity(s.activities)
	virtualtime.KeepTime(s.temporal, s.done, &workflowObserver{simulation: s}, s.workers)
	return s
}

// A discardLogger discards all messages.
type discardLogger struct{}

func (discardLogger) Debug(string, ...any)        {}
func (discardLogger) Info(string, ...any)         {}
func (discardLogger) Warn(string, ...any)         {}
func (discardLogger) Error(string, ...any)        {}
func (s discardLogger) With(...any) sdklog.Logger { return s }

// newFlyClient returns a client of Fly that sends its requests by the given transport.
func (s *simulation) newFlyClient(transport http.RoundTripper) *fly.Client {
	return &fly.Client{
		FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly",
		HTTP: &http.Client{Transport: timeoutTransport{transport}}, Unlimited: !s.Limits,
	}
}

// addViolation records a broken guarantee.
func (s *simulation) addViolation(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Violations = append(s.result.Violations, fmt.Sprintf("%s after %s", fmt.Sprintf(format, args...), time.Since(s.started).Round(time.Millisecond)))
}

// logEvent adds a line to the timeline.
func (s *simulation) logEvent(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Timeline = append(s.result.Timeline, fmt.Sprintf("%10s  %s", time.Since(s.started).Round(time.Millisecond), fmt.Sprintf(format, args...)))
}

// isHealthy reports whether m is started and all its checks pass. A machine whose checks
// have no result yet is not healthy. It does not use the code under test.
func isHealthy(m fly.Machine) bool {
	return m.State == "started" && m.HostStatus != "unreachable" && (len(m.Checks) > 0 || !hasChecks(m)) &&
		!slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" })
}

// hasChecks reports whether the config of m has a check.
func hasChecks(m fly.Machine) bool { return bytes.Contains(machineConfig(m), []byte(`"interval":`)) }
