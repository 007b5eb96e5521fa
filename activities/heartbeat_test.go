package activities_test

import (
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// recordHeartbeats runs an activity with a heartbeat timeout, for at most limit, and
// returns the reasons in its heartbeats.
func recordHeartbeats(t *testing.T, a *activities.Activities, timeout, limit time.Duration, activityFunc, in any) (reasons []string) {
	t.Helper()
	env := new(testsuite.WorkflowTestSuite).NewTestWorkflowEnvironment()
	var mu sync.Mutex
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		mu.Lock()
		defer mu.Unlock()
		var beat release.Heartbeat
		if details.HasValues() && details.Get(&beat) == nil {
			reasons = append(reasons, beat.Waiting)
			return
		}
		reasons = append(reasons, "")
	})
	env.SetTestTimeout(time.Minute)
	env.RegisterActivity(a)
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: limit, HeartbeatTimeout: timeout, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
		}), activityFunc, in).Get(ctx, nil)
	})
	if err := env.GetWorkflowError(); err != nil && limit == time.Minute {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return reasons
}

// The heartbeat timeout decides how many heartbeats an activity sends. Each costs
// money, so a short activity sends none.
func TestHeartbeats_AsManyAsTheTimeoutNeeds(t *testing.T) {
	for _, tc := range []struct {
		run     string
		timeout time.Duration
		want    int
	}{
		{"true", 4 * time.Second, 0},
		{"sleep 3", 4 * time.Second, 1},
		{"sleep 3", 30 * time.Second, 0},
	} {
		a := &activities.Activities{Git: checkout(t.TempDir()), Logs: t.TempDir(), Environ: os.Environ()}
		reasons := recordHeartbeats(t, a, tc.timeout, time.Minute, a.RunTest, activities.TestInput{Test: release.Test{Name: "test", Run: tc.run, Timeout: release.Duration(time.Minute)}})
		if len(reasons) != tc.want {
			t.Errorf("%q with a timeout of %s: %d heartbeats were sent, want %d", tc.run, tc.timeout, len(reasons), tc.want)
		}
	}
}

// The interval leaves time for a late heartbeat.
func TestHeartbeatInterval(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		4 * time.Second: 2 * time.Second, 10 * time.Second: 5 * time.Second, 30 * time.Second: 24 * time.Second, 150 * time.Second: 2 * time.Minute,
	} {
		if got := release.HeartbeatInterval(timeout); got != want {
			t.Errorf("%s: a heartbeat every %s, want %s", timeout, got, want)
		}
	}
}

// The heartbeats of a verification have the last error while Fly is unavailable.
func TestVerify_ReportsWhatItWaitsFor(t *testing.T) {
	a := &activities.Activities{Fly: &fly.Client{FlapsURL: "http://127.0.0.1:1", Token: "x", Unlimited: true}, Poll: 100 * time.Millisecond}
	reasons := recordHeartbeats(t, a, 4*time.Second, 3*time.Second, a.Verify, activities.VerifyInput{Expectations: []activities.Expectation{{Goal: release.State{
		Target: release.Target{App: "api", Environment: "staging"}, FlyApp: "shop-api", Machines: []release.Machine{{ID: "m1"}},
	}}}})
	if len(reasons) == 0 || !strings.Contains(reasons[0], "shop-api") || !strings.Contains(reasons[0], "connection refused") {
		t.Errorf("the heartbeats report %q; want what it waits for, with the last error", reasons)
	}
	if len(reasons) > 3 {
		t.Errorf("%d heartbeats in 3 s: each is paid for", len(reasons))
	}
}

// The heartbeats of a verification have the failure of a target that is not healthy
// yet.
func TestVerify_ReportsWhatATargetLacks(t *testing.T) {
	sim := &flysim.Sim{}
	t.Cleanup(sim.Close)
	sim.CreateApp("shop-api", "")
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	a := &activities.Activities{Fly: &fly.Client{FlapsURL: server.URL, APIURL: server.URL, UIEXURL: server.URL, Token: "x", Unlimited: true}, Poll: 100 * time.Millisecond}
	reasons := recordHeartbeats(t, a, 4*time.Second, 3*time.Second, a.Verify, activities.VerifyInput{
		Within: release.Duration(time.Minute),
		Expectations: []activities.Expectation{{Goal: release.State{
			Target: release.Target{App: "api", Environment: "staging"}, FlyApp: "shop-api", Machines: []release.Machine{{ID: "m1", State: "started"}},
		}}},
	})
	if len(reasons) == 0 || !strings.Contains(reasons[0], "machine m1 of api/staging: ") {
		t.Errorf("the heartbeats report %q; want what machine m1 lacks", reasons)
	}
}
