// Package worker registers the process and the work, and runs them.
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

// Options say which part of the work a worker does. The zero value is all of
// it, under the usual queue names.
type Options struct {
	// Only, if set, is the one task queue to work on: release.TaskQueue
	// (workflows, and everything that touches Fly) or release.BuildQueue
	// (checkouts, tests, builds). A worker that may touch production need not
	// be one that runs a repository's tests.
	Only string
	// Builds is how many tests and builds run at once; 0 is 2.
	Builds int
	// Grace is how long activities in hand may go on once the worker is told to
	// stop; 0 is 5s. They are cancelled then, and done again by another worker.
	Grace time.Duration
	// OnFatal is called when a worker can't go on: a namespace that is gone, a
	// refused key.
	OnFatal func(error)
}

// A Worker works on one or both task queues until it is stopped.
type Worker struct{ queues []worker.Worker }

// waits is how many activities on Fly a worker has at once. Nearly all of them
// wait: for a machine, for a bake to be over, for another rollout to end, which
// may take days. If those took every place, the steps that they wait for would
// have none, and nothing would ever go on.
const waits = 5000

// reads is how many histories of repositories a worker reads at once, besides
// its tests and builds.
const reads = 8

// New returns a worker that is ready to be started. It is the only place where
// anything is registered.
func New(c client.Client, a *activities.Activities, o Options) *Worker {
	var w Worker
	if o.Only == "" || o.Only == release.TaskQueue {
		q := worker.New(c, release.TaskQueue, options(o, waits))
		Register(q)
		q.RegisterActivity(a)
		w.queues = append(w.queues, q)
	}
	if o.Only == "" || o.Only == release.BuildQueue {
		builds := o.Builds
		if builds == 0 {
			builds = 2
		}
		q := worker.New(c, release.BuildQueue, options(o, builds))
		q.RegisterActivity(a)
		h := worker.New(c, release.GitQueue, options(o, reads))
		h.RegisterActivity(a)
		w.queues = append(w.queues, q, h)
	}
	return &w
}

// Register registers the workflows: for a worker, a test or a replay.
func Register(r worker.WorkflowRegistry) {
	r.RegisterWorkflow(workflows.Release)
	r.RegisterWorkflow(workflows.Rollout)
	r.RegisterWorkflow(workflows.Pin)
}

func options(o Options, atOnce int) worker.Options {
	grace := o.Grace
	if grace == 0 {
		grace = 5 * time.Second
	}
	return worker.Options{
		MaxConcurrentActivityExecutionSize: atOnce,
		OnFatalError:                       o.OnFatal,
		Interceptors:                       []interceptor.WorkerInterceptor{&sizes{}},
		// Reading a large plan may take most of a second where builds have the
		// processors; a workflow that really hangs does so for longer.
		DeadlockDetectionTimeout: 5 * time.Second,
		// Activities pace their heartbeats themselves (release.HeartbeatInterval):
		// the SDK would hold each back for 80 % of its timeout.
		MaxHeartbeatThrottleInterval: 2 * time.Second,
		// After a worker's death, its workflows wait this long for it.
		StickyScheduleToStartTimeout: time.Second,
		WorkerStopTimeout:            grace,
		// As many as there is work for: with the two that are usual, each of many
		// workflows that begin at once waits for all others.
		WorkflowTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{}),
		ActivityTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{}),
	}
}

// Start begins to work and returns.
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

// Stop finishes what is in hand, or hands it back, and returns.
func (w *Worker) Stop() {
	for _, q := range w.queues {
		q.Stop()
	}
}
