package devserver

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"
)

// BenchmarkStart measures the start of Temporal and its UI, as in `release demo`.
func BenchmarkStart(b *testing.B) {
	for name, file := range map[string]bool{"in memory": false, "in a new file": true} {
		b.Run(name, func(b *testing.B) {
			var up time.Duration
			n := 0
			for b.Loop() {
				o := Options{Attributes: []string{"ReleaseProject", "ReleasePhase"}}
				if file {
					o.Dir = b.TempDir()
				}
				begin := time.Now()
				s, err := Start(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				if answer, err := http.Get(s.UI()); err != nil || answer.StatusCode != http.StatusOK {
					b.Fatal("the UI does not answer: ", err)
				}
				up += time.Since(begin)
				n++
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			fmt.Printf("temporal and UI up: %d ms (%s, mean of %d)\n", (up / time.Duration(n)).Milliseconds(), name, n)
		})
	}
}

// BenchmarkFirstActivity measures the time from the call that starts a workflow to the
// start of its first activity, with a worker that polls already.
func BenchmarkFirstActivity(b *testing.B) {
	s := startServer(b, Options{Dir: b.TempDir(), UIOff: true})
	c := dial(b, s)
	startWorker(b, c)
	first := func() time.Duration {
		begin := time.Now()
		run, err := c.ExecuteWorkflow(b.Context(), client.StartWorkflowOptions{TaskQueue: queue}, activityTime)
		if err != nil {
			b.Fatal(err)
		}
		var at time.Time
		if err := run.Get(b.Context(), &at); err != nil {
			b.Fatal(err)
		}
		return at.Sub(begin)
	}
	for range 10 {
		first()
	}
	var waited []time.Duration
	for b.Loop() {
		waited = append(waited, first())
	}
	slices.Sort(waited)
	fmt.Printf("start to first activity: %.1f ms (median of %d)\n", waited[len(waited)/2].Seconds()*1000, len(waited))
}

// activityTime is a workflow that returns the time at which its activity ran.
func activityTime(ctx workflow.Context) (at time.Time, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	err = workflow.ExecuteActivity(ctx, currentTime).Get(ctx, &at)
	return at, err
}

func currentTime(ctx context.Context) (time.Time, error) {
	activity.RecordHeartbeat(ctx)
	return time.Now(), nil
}
