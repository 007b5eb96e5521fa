package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/internal/overlay"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// nextBuild contains the changes of the next version of the workflows: a release sleeps
// and reads the holder of the environment before each rollout, and a rollout observes
// before it acquires its leases.
var nextBuild = []overlay.Change{
	{
		File: "workflows/release.go",
		Old: `
	return r.runRollout(ctx, env, plan, standing, false)
`,
		New: `
	if ` + guardedBy("pause-before-rollout") + ` {
		r.addNote(ctx, "` + paused + `")
		if err := workflow.Sleep(ctx, 1); err != nil {
			return err
		}
		if err := r.waitInQueue(ctx, env, 0); err != nil {
			return err
		}
	}
	return r.runRollout(ctx, env, plan, standing, false)
`,
	},
	{
		File: "workflows/rollout.go",
		Old: `
	switch err := r.checkMayChange(ctx); { // the pin, and the revision that the plan was compared with
`,
		New: `
	if ` + guardedBy("look-before-leases") + ` {
		if _, err := r.observeTargets(ctx); err != nil {
			return r.stop(ctx, err)
		}
	}
	switch err := r.checkMayChange(ctx); { // the pin, and the revision that the plan was compared with
`,
	},
}

const paused = "paused before the rollout"

// guardedBy returns the code that asks for the version of a change.
func guardedBy(change string) string {
	return `workflow.GetVersion(ctx, "` + change + `", workflow.DefaultVersion, 1) >= 1`
}

// unguardedChanges returns the same changes without GetVersion.
func unguardedChanges() []overlay.Change {
	changes := slices.Clone(nextBuild)
	for i, c := range changes {
		before, rest, _ := strings.Cut(c.New, "workflow.GetVersion(")
		_, after, _ := strings.Cut(rest, ">= 1")
		changes[i].New = before + "true" + after
	}
	return changes
}

// buildTestBinary returns a function that builds this test binary with changed workflows.
func buildTestBinary(t *testing.T, changes []overlay.Change) func() string {
	dir := t.TempDir()
	return sync.OnceValue(func() string {
		file, err := overlay.Write(dir, "../..", changes...)
		if err != nil {
			t.Error(err)
			return ""
		}
		binary := filepath.Join(dir, "worker.test")
		// Linking is three times as fast without debug information.
		out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags=-s -w", "-overlay", file, "-o", binary, ".").CombinedOutput()
		if err != nil {
			t.Errorf("build the changed worker: %v\n%s", err, out)
			return ""
		}
		return binary
	})
}

// A worker is replaced by one with changed workflows while releases wait and while they
// change machines. Each running workflow continues by its old version and ends correctly.
// Workflows started after the upgrade use the new version.
func TestUpgrade(t *testing.T) {
	w := newProcessEnv(t)
	next, wrong := buildTestBinary(t, nextBuild), buildTestBinary(t, unguardedChanges())
	for name, story := range map[string]func(*upgradeTest){
		"waiting":   (*upgradeTest).testWaitingAtGate,
		"changing":  (*upgradeTest).testChangingMachines,
		"unguarded": (*upgradeTest).testUnguardedChange,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			u := &upgradeTest{t: t, ctx: ctx, processEnv: w, project: "shop-" + name, next: next, wrong: wrong}
			u.startOldWorker()
			story(u)
		})
	}
}

// A upgradeTest is a release that runs while its worker is replaced.
type upgradeTest struct {
	*processEnv
	t           *testing.T
	ctx         context.Context
	project     string
	next, wrong func() string // builds
	c           client.Client
	run         client.WorkflowRun
	hand        *childProcess
}

// startOldWorker starts a release with a worker of the current build.
func (u *upgradeTest) startOldWorker() {
	if err := u.createNamespace(u.project); err != nil {
		u.t.Fatal(err)
	}
	(projectFixture{}).createApps(u.sim, u.project)
	(projectFixture{}).createMachines(u.sim, u.project, "production", "v1")
	var err error
	if u.c, err = client.Dial(client.Options{HostPort: u.temporal, Namespace: u.project, Logger: errorLogger(io.Discard), DataConverter: worker.DataConverter()}); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(u.c.Close)
	u.replaceWorker("")
	u.run = u.startRelease("v2")
}

func (u *upgradeTest) startRelease(version string) client.WorkflowRun {
	u.t.Helper()
	req := request(u.project, version)
	run, err := u.c.ExecuteWorkflow(u.ctx, client.StartWorkflowOptions{ID: release.ReleaseID(u.project, req.Revision), TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	if err != nil {
		u.t.Fatal(err)
	}
	return run
}

// replaceWorker stops the current worker, as an operator would, and starts one of
// another build; "" is the current build.
func (u *upgradeTest) replaceWorker(build string) {
	u.t.Helper()
	if u.hand != nil {
		u.hand.stop()
	}
	var err error
	u.hand, err = startProcess(u.ctx, processJob{Build: build, Temporal: u.temporal, Namespace: u.project, Fly: u.fly, Logs: u.logs, Gentle: true})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(u.hand.stop)
}

// waitForGate waits until a release waits for approval, and returns the hash of the plan.
func (u *upgradeTest) waitForGate(run client.WorkflowRun) string {
	u.t.Helper()
	plan, err := waitForGate(u.ctx, u.c, run)
	if err != nil {
		u.t.Fatal(err)
	}
	return plan
}

func (u *upgradeTest) approvePlan(run client.WorkflowRun, plan string) {
	u.t.Helper()
	if err := u.c.SignalWorkflow(u.ctx, run.GetID(), run.GetRunID(), release.ApproveSignal, release.ReviewInput{By: "ben", Plan: plan}); err != nil {
		u.t.Fatal(err)
	}
}

// A newPath tells which workflows use the new version: the release, its rollout in
// production.
type newPath struct{ release, rollout bool }

// checkPromoted waits until a release has ended, and checks that production runs its
// version and which workflows used the new version.
func (u *upgradeTest) checkPromoted(run client.WorkflowRun, version string, want newPath) {
	u.t.Helper()
	var report release.Report
	if err := run.Get(u.ctx, &report); err != nil || report.Outcome != release.Promoted {
		u.t.Fatalf("%s: %+v, %v", report.Outcome, report.Cause, err)
	}
	histories, err := historiesOf(u.ctx, u.c, run)
	if err != nil {
		u.t.Fatal(err)
	}
	went := newPath{slices.Contains(report.Notes, paused), u.firstActivity(histories[len(histories)-1]) == "Observe"}
	if went != want {
		u.t.Errorf("the release of %s went the new way: %+v, want %+v", version, went, want)
	}
	for _, app := range (projectFixture{}).names() {
		place := flyApp(u.project, "production", app)
		for _, m := range u.sim.Machines(place) {
			if got, want := m.ImageRef.Digest, digestOf(app, commitOf(version)); got != want || !driver.Describe(m).IsHealthy() {
				u.t.Errorf("machine %s of %s runs %s in state %s, want %s, well", m.ID, place, got, m.State, want)
			}
		}
		if !u.waitForLeases(place) {
			u.t.Errorf("%s: leases are left: %v", place, u.sim.Leases(place))
		}
	}
}

func (u *upgradeTest) firstActivity(h eventHistory) string {
	for _, e := range h.events {
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
			return a.ActivityType.Name
		}
	}
	return ""
}

// waitForEvent waits until is returns true for an event of a workflow.
func (u *upgradeTest) waitForEvent(id string, is func(*historypb.HistoryEvent) bool) {
	u.t.Helper()
	for {
		events := u.c.GetWorkflowHistory(u.ctx, id, "", true, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			e, err := events.Next()
			var unknown *serviceerror.NotFound
			if errors.As(err, &unknown) { // it has not started
				break
			}
			if err != nil {
				u.t.Fatal(err)
			}
			if is(e) {
				return
			}
		}
		// When a worker stops, the server may end a long poll early.
		described, err := u.c.DescribeWorkflowExecution(u.ctx, id, "")
		if err == nil && described.WorkflowExecutionInfo.CloseTime != nil {
			u.t.Fatalf("%s ended as %s without it", id, described.WorkflowExecutionInfo.Status)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// testWaitingAtGate upgrades while a release waits for approval.
func (u *upgradeTest) testWaitingAtGate() {
	plan := u.waitForGate(u.run)
	u.replaceWorker(u.next())
	u.approvePlan(u.run, plan)
	// The release went to staging without the sleep and continues so. Its rollout in
	// production starts after the upgrade.
	u.checkPromoted(u.run, "v2", newPath{release: false, rollout: true})
	if err := u.checkUpdatedOnce(); err != nil {
		u.t.Error(err)
	}
	later := u.startRelease("v3")
	u.approvePlan(later, u.waitForGate(later))
	u.checkPromoted(later, "v3", newPath{release: true, rollout: true})
}

// testChangingMachines upgrades when some machines of production are changed.
func (u *upgradeTest) testChangingMachines() {
	next := u.next() // built before the first change
	u.sim.Inject(flysim.Fault{Route: update, App: flyApp(u.project, "production", "web"), Times: 1, Delay: 2 * time.Second})
	u.approvePlan(u.run, u.waitForGate(u.run))
	rollout, steps := release.RolloutID(u.project, "production"), map[int64]bool{}
	u.waitForEvent(rollout, func(e *historypb.HistoryEvent) bool {
		if u.applies(e) {
			steps[e.EventId] = true
		}
		return steps[e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId()]
	})
	u.replaceWorker(next)
	soFar, err := historyOf(u.ctx, u.c, rollout, "")
	if err != nil {
		u.t.Fatal(err)
	}
	scheduled := 0
	for _, e := range soFar.events {
		if u.applies(e) {
			scheduled++
		}
	}
	if of := 2 * len((projectFixture{}).names()); scheduled >= of {
		u.t.Fatalf("all %d machines were changed before the upgrade", of)
	}
	u.checkPromoted(u.run, "v2", newPath{})
	if err := u.checkUpdatedOnce(); err != nil {
		u.t.Error(err)
	}
}

func (u *upgradeTest) applies(e *historypb.HistoryEvent) bool {
	return e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == "ApplyStep"
}

// checkUpdatedOnce returns an error that names machines not updated exactly once.
func (u *upgradeTest) checkUpdatedOnce() error {
	updates := map[string]int{}
	for _, r := range u.sim.Requests() {
		if r.Route == update && r.Status < 300 {
			updates[r.App+" "+r.Machine]++
		}
	}
	var wrong []error
	for _, app := range (projectFixture{}).names() {
		for _, m := range u.sim.Machines(flyApp(u.project, "production", app)) {
			if n := updates[flyApp(u.project, "production", app)+" "+m.ID]; n != 1 {
				wrong = append(wrong, fmt.Errorf("machine %s of %s was updated %d times", m.ID, app, n))
			}
		}
	}
	return errors.Join(wrong...)
}

// testUnguardedChange upgrades to changes without GetVersion: the worker reports the
// error and changes nothing. With a correct build the release continues.
func (u *upgradeTest) testUnguardedChange() {
	plan := u.waitForGate(u.run)
	u.replaceWorker(u.wrong())
	before := len(u.sim.Requests())
	u.approvePlan(u.run, plan)
	u.waitForEvent(u.run.GetID(), func(e *historypb.HistoryEvent) bool {
		failed := e.GetWorkflowTaskFailedEventAttributes()
		if failed != nil && failed.Cause != enums.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR {
			u.t.Fatalf("the changed worker failed for another reason: %s %s", failed.Cause, failed.Failure.GetMessage())
		}
		return failed != nil
	})
	time.Sleep(2 * time.Second) // it is retried in vain
	described, err := u.c.DescribeWorkflowExecution(u.ctx, u.run.GetID(), u.run.GetRunID())
	if err != nil {
		u.t.Fatal(err)
	}
	if status := described.WorkflowExecutionInfo.Status; status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		u.t.Fatalf("the release is %s", status)
	}
	for _, r := range u.sim.Requests()[before:] {
		if strings.HasPrefix(r.App, u.project+"-") {
			u.t.Errorf("the changed worker sent %s of %s", r.Route, r.App)
		}
	}
	wrong := u.hand
	u.replaceWorker("")
	if said := wrong.said.String(); !strings.Contains(said, "nondeterministic") && !strings.Contains(said, "TMPRL1100") {
		u.t.Errorf("the changed worker said only: %s", said)
	}
	u.checkPromoted(u.run, "v2", newPath{})
	if err := u.checkUpdatedOnce(); err != nil {
		u.t.Error(err)
	}
}
