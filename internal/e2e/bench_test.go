package e2e_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/git"
	"github.com/microbima/release/internal/cost"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// BenchmarkStartToFirstActivity measures the time from the start of a release to the
// first line of its first activity.
func BenchmarkStartToFirstActivity(b *testing.B) {
	runInMemoryAndOnFile(b, measureFirstActivity)
}

func measureFirstActivity(b *testing.B, dir string) {
	first := make(chan time.Time, 1)
	s := newBenchEnv(b, dir, announcingGit{first}, nil)
	n := 0
	start := func() time.Duration {
		n++
		req := request("shop", "v1")
		begin := time.Now()
		run := s.startRelease(req, fmt.Sprint(release.ReleaseID("shop", req.Revision), n))
		waited := (<-first).Sub(begin)
		if err := run.Get(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		return waited
	}
	for range 10 { // until all pollers have polled
		start()
	}
	var waited []time.Duration
	for b.Loop() {
		waited = append(waited, start())
	}
	slices.Sort(waited)
	fmt.Printf("start of a release to its first activity: %.1f ms (%s, median of %d)\n", toMillis(waited[len(waited)/2]), b.Name(), len(waited))
}

// announcingGit is a repository that reports when it was read and has no such commit,
// so that the release ends there.
type announcingGit struct{ asked chan<- time.Time }

// Files implements activities.Git.
func (a announcingGit) Files(context.Context, string, string) (fs.FS, error) {
	a.asked <- time.Now()
	return nil, git.ErrUnknown
}

// Checkout implements activities.Git.
func (announcingGit) Checkout(context.Context, string, string, func(string) error) error {
	return git.ErrUnknown
}

// Lineage implements activities.Git.
func (announcingGit) Lineage(context.Context, string, string, []string) (release.Lineage, error) {
	return release.Lineage{}, git.ErrUnknown
}

// BenchmarkReleaseOverhead measures the overhead of a release of three apps to two
// environments: the time in which none of its activities ran, the stored bytes, and the
// actions that Temporal Cloud bills. There is no gate, and two machines of each app are
// updated in both environments.
func BenchmarkReleaseOverhead(b *testing.B) {
	runInMemoryAndOnFile(b, measureOverhead)
}

func measureOverhead(b *testing.B, dir string) {
	shop := projectFixture{apps: []string{"internal-api", "public-api", "web-admin"}, gate: "none"}
	busy := new(activityTimes)
	projects := projectSet{}
	s := newBenchEnv(b, dir, projects, busy)
	var whole, gaps, unworked []time.Duration
	var paid cost.Cost
	for b.Loop() {
		project := fmt.Sprintf("shop%d", len(whole))
		projects[project] = shop
		shop.createApps(s.sim, project)
		for _, env := range shop.environments() {
			shop.createMachines(s.sim, project, env, "v1")
		}
		*busy = activityTimes{}
		req := request(project, "v2")
		begin := time.Now()
		run := s.startRelease(req, release.ReleaseID(project, req.Revision))
		var report release.Report
		if err := run.Get(b.Context(), &report); err != nil || report.Outcome != release.Promoted {
			b.Fatal(report.Outcome, report.Cause, err)
		}
		unworked = append(unworked, time.Since(begin)-unionLength(busy.worked))
		histories, err := historiesOf(b.Context(), s.c, run)
		if err != nil {
			b.Fatal(err)
		}
		took, ran, c := summarize(histories)
		whole, gaps, paid = append(whole, took), append(gaps, took-unionLength(ran)), c
	}
	slices.Sort(whole)
	slices.Sort(gaps)
	slices.Sort(unworked)
	half := len(whole) / 2
	fmt.Printf("a release of three apps to two environments took %.0f ms, %.0f ms of it beyond its own work by its histories, %.0f ms by the worker's clock (%s, medians of %d)\n",
		toMillis(whole[half]), toMillis(gaps[half]), toMillis(unworked[half]), b.Name(), len(whole))
	fmt.Printf("it has %s\n", paid)
}

// summarize returns the time of a release, the times of its activities, and its cost,
// from the event times in its histories.
func summarize(histories []eventHistory) (took time.Duration, ran []span, paid cost.Cost) {
	for _, h := range histories {
		paid = paid.Plus(cost.Of(h.events, time.Now()))
		for _, e := range h.events {
			if a := e.GetActivityTaskCompletedEventAttributes(); a != nil {
				ran = append(ran, span{h.events[a.StartedEventId-1].EventTime.AsTime(), e.EventTime.AsTime()})
			}
		}
	}
	whole := histories[0].events
	return whole[len(whole)-1].EventTime.AsTime().Sub(whole[0].EventTime.AsTime()), ran, paid
}

// A span is the time in which an activity ran.
type span struct{ from, to time.Time }

// unionLength returns the time in which at least one activity ran.
func unionLength(spans []span) (all time.Duration) {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var end time.Time
	for _, s := range spans {
		if s.from.Before(end) {
			s.from = end
		}
		if s.to.After(s.from) {
			all, end = all+s.to.Sub(s.from), s.to
		}
	}
	return all
}

// activityTimes records when the activities of a worker ran, by its own clock.
type activityTimes struct {
	interceptor.InterceptorBase
	mu     sync.Mutex
	worked []span
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (h *activityTimes) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &activityTimesInbound{activityTimes: h}
	in.Next = next
	return in
}

type activityTimesInbound struct {
	interceptor.ActivityInboundInterceptorBase
	*activityTimes
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor.
func (h *activityTimesInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	begin := time.Now()
	result, err := h.Next.ExecuteActivity(ctx, in)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.worked = append(h.worked, span{begin, time.Now()})
	return result, err
}

// runInMemoryAndOnFile runs measure with Temporal in memory, as in release demo, and on
// a file, as in release dev, where every event is written to disk before the next.
func runInMemoryAndOnFile(b *testing.B, measure func(b *testing.B, dir string)) {
	b.Run("memory", func(b *testing.B) { measure(b, "") })
	b.Run("file", func(b *testing.B) { measure(b, b.TempDir()) })
}

// A benchEnv is a Temporal with one worker.
type benchEnv struct {
	b   *testing.B
	c   client.Client
	sim *flysim.Sim
}

func newBenchEnv(b *testing.B, dir string, git activities.Git, busy *activityTimes) *benchEnv {
	b.Helper()
	options := client.Options{HostPort: startTemporal(b, dir).Address(), Logger: errorLogger(io.Discard)}
	if busy != nil {
		options.Interceptors = []interceptor.ClientInterceptor{busy}
	}
	c, err := client.Dial(options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	sim := newFastFly()
	b.Cleanup(sim.Close)
	atFly := flyAt("http://fly")
	atFly.HTTP = &http.Client{Transport: sim.Transport()}
	w := worker.New(c, newActivities(atFly, git, b.TempDir()), worker.Options{Builds: 4})
	if err := w.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Stop)
	return &benchEnv{b, c, sim}
}

func (s *benchEnv) startRelease(req release.Request, id string) client.WorkflowRun {
	s.b.Helper()
	run, err := s.c.ExecuteWorkflow(s.b.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	if err != nil {
		s.b.Fatal(err)
	}
	return run
}

func toMillis(d time.Duration) float64 { return d.Seconds() * 1000 }

// Identity implements activities.Git.
func (announcingGit) Identity(_ context.Context, url, _ string) (release.Repository, error) {
	return release.Repository{Address: release.NormalizeAddress(url)}, nil
}
