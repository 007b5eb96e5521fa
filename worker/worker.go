// Package worker registers the workflows and activities and runs workers.
package worker

import (
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
	"github.com/microbima/release/workflows"
)

// Options configure a worker. The zero value works on all queues.
type Options struct {
	// Only, if set, is the only task queue to work on: release.TaskQueue (workflows and
	// activities on Fly) or release.BuildQueue (checkouts, tests, builds). With separate
	// workers, tests of a repository do not run next to a token for production.
	Only string
	// Builds is the number of concurrent tests and builds; 0 is 2.
	Builds int
	// Grace is the time that running activities get when the worker stops; 0 is 5s. After
	// it they are cancelled and run again on another worker.
	Grace time.Duration
	// OnFatal is called when a worker cannot continue, for example without its namespace
	// or with an invalid key.
	OnFatal func(error)
}

// A Worker works on one or both task queues until it is stopped.
type Worker struct{ queues []worker.Worker }

// maxFlyActivities is the number of concurrent activities on Fly per worker. Most of them wait for
// machines, bakes or other rollouts, for up to days. With a small limit, waiting activities
// could block the steps that they wait for.
const maxFlyActivities = 5000

// maxGitActivities is the number of concurrent reads of git histories per worker, besides tests and
// builds.
const maxGitActivities = 8

// New returns a worker to start. It registers all workflows and activities.
func New(c client.Client, a *activities.Activities, o Options) *Worker {
	var w Worker
	if o.Only == "" || o.Only == release.TaskQueue {
		q := worker.New(c, release.TaskQueue, sdkOptions(o, maxFlyActivities))
		Register(q)
		q.RegisterActivity(a)
		w.queues = append(w.queues, q)
	}
	if o.Only == "" || o.Only == release.BuildQueue {
		builds := o.Builds
		if builds == 0 {
			builds = 2
		}
		q := worker.New(c, release.BuildQueue, sdkOptions(o, builds))
		q.RegisterActivity(a)
		h := worker.New(c, release.GitQueue, sdkOptions(o, maxGitActivities))
		h.RegisterActivity(a)
		w.queues = append(w.queues, q, h)
	}
	return &w
}

// Register registers the workflows for a worker, a test or a replay.
func Register(r worker.WorkflowRegistry) {
	r.RegisterWorkflow(workflows.Release)
	r.RegisterWorkflow(workflows.Rollout)
	r.RegisterWorkflow(workflows.Pin)
}

func sdkOptions(o Options, atOnce int) worker.Options {
	grace := o.Grace
	if grace == 0 {
		grace = 5 * time.Second
	}
	return worker.Options{
		MaxConcurrentActivityExecutionSize: atOnce,
		OnFatalError:                       o.OnFatal,
		Interceptors:                       []interceptor.WorkerInterceptor{&sizeLimiter{}},
		// Reading a large plan may take most of a second on a loaded machine. A workflow
		// that hangs takes longer than this.
		DeadlockDetectionTimeout: 5 * time.Second,
		// Activities limit their heartbeats (release.HeartbeatInterval). The SDK would
		// delay each by 80 % of its timeout.
		MaxHeartbeatThrottleInterval: 2 * time.Second,
		// After the death of a worker, its workflows are delayed by this time.
		StickyScheduleToStartTimeout: time.Second,
		WorkerStopTimeout:            grace,
		// The number of pollers follows the load. With the default of two, workflows that
		// start at once would wait for each other.
		WorkflowTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{}),
		ActivityTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{}),
	}
}

// Start starts the worker. It returns an error if Temporal refuses it.
func (w *Worker) Start() error {
	for i, q := range w.queues {
		if err := q.Start(); err != nil {
			for _, started := range w.queues[:i] {
				started.Stop()
			}
			return err
		}
	}
	return nil
}

// Stop waits for running activities up to Options.Grace, cancels the others, and returns.
func (w *Worker) Stop() {
	for _, q := range w.queues {
		q.Stop()
	}
}
