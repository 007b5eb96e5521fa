package cli

import (
	"strings"
	"testing"
	"time"

	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/testrepo"
	"github.com/microbima/release/release"
)

// runUntil repeats a command until its output contains text.
func (w *fixture) runUntil(text string, args ...string) result {
	w.t.Helper()
	var r result
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if r = w.run(args...); strings.Contains(r.stdout+r.stderr, text) {
			return r
		}
	}
	w.t.Fatalf("%v never prints %q: %v", args, text, r)
	return r
}

// status, --json and watch show the last error, the attempt and the next retry of an
// activity.
func TestStatus_RetriedActivity(t *testing.T) {
	w := newFixture(t)
	w.want(ExitOK, []string{"start", "--to", "staging", "--wait"}, "promoted")
	at := fly.Client{FlapsURL: w.acts.Fly.(*fly.Client).FlapsURL, APIURL: w.acts.Fly.(*fly.Client).APIURL, Token: "x", Unlimited: true}
	machine := w.sim.Machines("shop-staging-api")[0].ID
	lease, err := at.TakeLease(t.Context(), "shop-staging-api", machine, "flyctl deploy of Bob", 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	w.Write("infra/fly/api/staging/fly.toml", testrepo.FlyToml("shop-staging-api", "warn"))
	id := w.Commit("Log warnings")
	start := w.startCommand("start", "--to", "staging", "--wait")
	start.waitFor("waiting: ")
	shown := w.runUntil("waiting: ", "status", id)
	for _, want := range []string{"machine " + machine, "flyctl deploy of Bob", "(attempt "} {
		if !strings.Contains(shown.stdout, want) {
			t.Errorf("status does not print %q:\n%s", want, shown.stdout)
		}
	}
	waits := w.status(id).Waits
	if len(waits) != 1 || waits[0].Attempt < 2 || !strings.Contains(waits[0].Error, "flyctl deploy of Bob") || waits[0].Activity == "TakeLeases" || waits[0].Activity == "" {
		t.Errorf("--json says %+v", waits)
	}
	if err := at.ReleaseLease(t.Context(), "shop-staging-api", machine, lease.Nonce); err != nil {
		t.Fatal(err)
	}
	r := start.wait()
	r.want(t, ExitOK, "promoted", "flyctl deploy of Bob")
	if n := strings.Count(r.stderr, "waiting: "); n > 3 {
		t.Errorf("the same wait is printed %d times:\n%s", n, r.stderr)
	}
	if strings.Contains(r.stdout, "waiting: ") {
		t.Errorf("a release that is over waits for something:\n%s", r.stdout)
	}
}

// A repository folder that the worker does not have is on another machine, so that
// retries would not help.
func TestStart_RepositoryMissingOnWorker(t *testing.T) {
	w := newFixture(t)
	begun := time.Now()
	w.want(ExitFailed, []string{"start", "--to", "staging", "--wait", "--repo", "/nowhere/shop"}, "stopped", "fetch /nowhere/shop: this worker has no such folder", "repository = ", "--repo URL")
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %s to say so", took)
	}
}

// A workflow whose task fails is not reported as being without a worker, and commands
// print that their updates wait.
func TestStatus_FailingWorkflowTask(t *testing.T) {
	w := newFixture(t)
	start := w.startCommand("start", "--wait")
	start.waitFor("production waits for 1 approval")
	id := w.Git("rev-parse", "HEAD")[:12]
	w.stopWorker()
	other := sdkworker.New(w.client, release.TaskQueue, sdkworker.Options{})
	other.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ release.Request) error {
		return workflow.Sleep(ctx, time.Hour)
	}, workflow.RegisterOptions{Name: release.ReleaseWorkflow})
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	w.want(ExitOK, []string{"abort", id}, "aborting "+id) // its signal triggers the workflow task
	shown := w.runUntil("is blocked", "status", id)
	if all := shown.stdout + shown.stderr; !strings.Contains(all, "TMPRL1100") || strings.Contains(all, "no worker answers") {
		t.Errorf("status does not say why it is blocked:\n%s", all)
	}
	w.want(ExitOK, []string{"abort", id}, "is blocked", "the abort takes effect then")
	other.Stop()
	w.startWorker()
	start.wait().want(t, ExitFailed, "stopped: shop "+id)
}
