package devserver

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/workflow"
)

// BenchmarkStart is what `release demo` and `release dev` wait for.
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

// BenchmarkFirstActivity is from the call that starts a workflow to the first
// line of its first activity.
func BenchmarkFirstActivity(b *testing.B) {
	s := start(b, Options{Dir: b.TempDir(), UIOff: true})
	c := dial(b, s)
	work(b, c)
	var waited time.Duration
	n := 0
	for b.Loop() {
		begin := time.Now()
		run, err := c.ExecuteWorkflow(b.Context(), client.StartWorkflowOptions{TaskQueue: queue}, when)
		if err != nil {
			b.Fatal(err)
		}
		var at time.Time
		if err := run.Get(b.Context(), &at); err != nil {
			b.Fatal(err)
		}
		waited += at.Sub(begin)
		n++
	}
	fmt.Printf("start to first activity: %.1f ms (mean of %d)\n", float64((waited/time.Duration(n)).Microseconds())/1000, n)
}

// when returns the moment at which its activity ran.
func when(ctx workflow.Context) (at time.Time, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	err = workflow.ExecuteActivity(ctx, now).Get(ctx, &at)
	return at, err
}

func now(ctx context.Context) (time.Time, error) {
	activity.RecordHeartbeat(ctx)
	return time.Now(), nil
}
