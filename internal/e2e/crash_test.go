package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// atOnce is the number of concurrent releases. They mostly wait for the heartbeat timeout
// of a dead worker. More of them would delay each other when two processes of each start.
const atOnce = 12

// A worker is killed after each activity of a release in turn. The release is promoted
// nevertheless, and nothing is done twice.
func TestRelease_WorkerKilledAfterEachActivity(t *testing.T) {
	w := newProcessEnv(t)
	w.deploy = "release_command = \"migrate\"\n"
	whole := w.runCrash(0) // no kill
	if whole.err != nil {
		t.Fatal(whole.err)
	}
	every := 1
	if testing.Short() {
		every = 3
	}
	var kills []int64
	for n := 1; n <= whole.activities; n += every {
		kills = append(kills, int64(n))
	}
	for _, n := range kills {
		if err := w.createNamespace(crashProject(n)); err != nil {
			t.Fatal(err)
		}
	}
	deaths := make([]crashResult, len(kills))
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i, n := range kills {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			deaths[i] = w.runCrash(n)
		})
	}
	wg.Wait()
	var back []time.Duration
	for i, d := range deaths {
		if d.err != nil {
			t.Errorf("killed after activity %d of %d: %v", kills[i], whole.activities, d.err)
			continue
		}
		back = append(back, d.back)
	}
	if slices.Sort(back); len(back) > 0 {
		t.Logf("%d kills of a worker in releases of %d activities; what was lost began again after %.1fs / %.1fs / %.1fs (min / median / max)",
			len(kills), whole.activities, back[0].Seconds(), back[len(back)/2].Seconds(), back[len(back)-1].Seconds())
	}
}

// crashProject returns the project and namespace of the release whose worker dies after n
// activities.
func crashProject(n int64) string {
	if n == 0 {
		return "default"
	}
	return fmt.Sprintf("shop%d", n)
}

// A crashResult is the result of a release whose worker was killed.
type crashResult struct {
	activities int           // number of activities
	back       time.Duration // from the kill until all lost activities ran again
	err        error         // what a user would have lost
}

// runCrash releases v2 with a worker that is killed after its n-th activity, and then
// with a new worker. Staging has no machines, so that they are created; production runs
// v1, and its machines are updated.
func (w *processEnv) runCrash(n int64) (d crashResult) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	project := crashProject(n)
	projectFixture{}.createApps(w.sim, project)
	projectFixture{}.createMachines(w.sim, project, "production", "v1")
	c, err := client.Dial(client.Options{HostPort: w.temporal, Namespace: project, Logger: errorLogger(io.Discard), DataConverter: worker.DataConverter()})
	if err != nil {
		return crashResult{err: err}
	}
	defer c.Close()
	req := request(project, "v2")
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: release.ReleaseID(project, req.Revision), TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	if err != nil {
		return crashResult{err: err}
	}
	asked := make(chan error, 1)
	go func() { asked <- approvePlan(ctx, c, run) }()

	killed, err := w.runWorkers(ctx, project, n, func() error {
		var report release.Report
		if err := run.Get(ctx, &report); err != nil {
			return err
		}
		if report.Outcome != release.Promoted {
			return fmt.Errorf("%s: %+v", report.Outcome, report.Cause)
		}
		return nil
	})
	if err := errors.Join(err, <-asked); err != nil {
		return crashResult{err: err}
	}
	histories, err := historiesOf(ctx, c, run)
	activities, again := countActivities(histories)
	if n > 0 && len(again) == 0 {
		err = errors.Join(err, errors.New("no activity was lost"))
	}
	d.activities = activities
	for _, at := range again {
		d.back = max(d.back, at.Sub(killed))
	}
	d.err = errors.Join(err, w.checkIntact(project))
	return d
}

// runWorkers runs a worker that dies after n activities, if n > 0, and then a new one
// until the release has ended. It returns after the first has died.
func (w *processEnv) runWorkers(ctx context.Context, project string, n int64, ended func() error) (killed time.Time, err error) {
	over := make(chan error, 1)
	go func() { over <- ended() }()
	if n > 0 {
		first, err := w.startWorker(ctx, project, n)
		if err != nil {
			return killed, err
		}
		select {
		case <-first.gone:
			killed = time.Now()
		case err := <-over:
			first.stop()
			return killed, fmt.Errorf("the release ended before its worker was killed: %v", err)
		}
		if state := first.cmd.ProcessState; state.Exited() {
			return killed, fmt.Errorf("the worker was not killed, it ended: %s\n%s", state, &first.said)
		}
	}
	fresh, err := w.startWorker(ctx, project, 0)
	if err != nil {
		return killed, err
	}
	defer fresh.stop()
	select {
	case err := <-over:
		return killed, err
	case <-fresh.gone:
		return killed, fmt.Errorf("the fresh worker ended: %s\n%s", fresh.cmd.ProcessState, &fresh.said)
	}
}

// countActivities returns the number of activities and when the lost ones ran again.
func countActivities(histories []eventHistory) (activities int, again []time.Time) {
	for _, h := range histories {
		for _, e := range h.events {
			a := e.GetActivityTaskStartedEventAttributes()
			if a == nil {
				continue
			}
			activities++
			if a.Attempt > 1 {
				again = append(again, e.EventTime.AsTime())
			}
		}
	}
	return activities, again
}

// checkIntact returns an error with all that a user would have lost.
func (w *processEnv) checkIntact(project string) error {
	var wrong []error
	wrongIf := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	made, started, updated := map[string]int{}, map[string]int{}, map[string]int{}
	for _, r := range w.sim.Requests() {
		switch {
		case r.Status >= 300:
		case r.Route == "POST /v1/apps/{app}/machines":
			made[r.App]++
		case r.Route == "POST /v1/apps/{app}/machines/{id}/start":
			started[r.App]++
		case r.Route == "POST /v1/apps/{app}/machines/{id}":
			updated[r.App+" "+r.Machine]++
		}
	}
	for _, environment := range (projectFixture{}).environments() {
		for _, app := range (projectFixture{}).names() {
			place := flyApp(project, environment, app)
			machines := w.sim.Machines(place)
			wrongIf(len(machines) != 2, "%s has %d machines, want 2", place, len(machines))
			creates, updates := 3, 0 // one of them for the release command
			if environment == "production" {
				creates, updates = 1, 1
			}
			wrongIf(made[place] != creates, "%s: %d creates were sent, want %d", place, made[place], creates)
			wrongIf(started[place] != 1, "%s: the release command was started %d times", place, started[place])
			records := w.sim.Releases(place)
			wrongIf(len(records) != 1 || records[0].Status != "complete", "%s: the Fly releases are %+v, want one, complete", place, records)
			for _, m := range machines {
				got, want := m.ImageRef.Digest, digestOf(app, commitOf("v2"))
				wrongIf(got != want, "machine %s of %s runs %s, want %s", m.ID, place, got, want)
				wrongIf(!driver.Describe(m).IsHealthy() || m.Cordoned, "machine %s of %s is not well: %s %v", m.ID, place, m.State, m.Checks)
				n := updated[place+" "+m.ID]
				wrongIf(n != updates, "machine %s of %s was updated %d times, want %d", m.ID, place, n, updates)
			}
			wrongIf(!w.waitForLeases(place), "%s: leases are left: %v", place, w.sim.Leases(place))
		}
	}
	return errors.Join(wrong...)
}

// waitForLeases waits until no lease is left. A lease of a killed worker expires within
// seconds.
func (w *processEnv) waitForLeases(place string) bool {
	for end := time.Now().Add(15 * time.Second); len(w.sim.Leases(place)) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
