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
	return r.rollout(ctx, env, p, standing, false)
`,
		New: `
	if ` + asks("pause-before-rollout") + ` {
		r.note("` + paused + `")
		if err := workflow.Sleep(ctx, 1); err != nil {
			return err
		}
		if err := r.queue(ctx, env, release.RolloutID(r.req.Project, env.Name), 0); err != nil {
			return err
		}
	}
	return r.rollout(ctx, env, p, standing, false)
`,
	},
	{
		File: "workflows/rollout.go",
		Old: `
	switch err := r.mayChange(ctx); { // pinned, or compared with another revision than runs now?
`,
		New: `
	if ` + asks("look-before-leases") + ` {
		if _, err := r.observe(ctx); err != nil {
			return r.stop(ctx, err)
		}
	}
	switch err := r.mayChange(ctx); { // pinned, or compared with another revision than runs now?
`,
	},
}

const paused = "paused before the rollout"

// asks returns the code that asks for the version of a change.
func asks(change string) string {
	return `workflow.GetVersion(ctx, "` + change + `", workflow.DefaultVersion, 1) >= 1`
}

// unguarded returns the same changes without GetVersion.
func unguarded() []overlay.Change {
	changes := slices.Clone(nextBuild)
	for i, c := range changes {
		before, rest, _ := strings.Cut(c.New, "workflow.GetVersion(")
		_, after, _ := strings.Cut(rest, ">= 1")
		changes[i].New = before + "true" + after
	}
	return changes
}

// built returns a function that builds this test binary with changed workflows.
func built(t *testing.T, changes []overlay.Change) func() string {
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
	w := newWorld(t)
	next, wrong := built(t, nextBuild), built(t, unguarded())
	for name, story := range map[string]func(*upgrade){
		"waiting":   (*upgrade).waitsAtItsGate,
		"changing":  (*upgrade).changesMachines,
		"unguarded": (*upgrade).meetsAnUnguardedChange,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			u := &upgrade{t: t, ctx: ctx, world: w, project: "shop-" + name, next: next, wrong: wrong}
			u.begin()
			story(u)
		})
	}
}

// An upgrade is a release that runs while its worker is replaced.
type upgrade struct {
	*world
	t           *testing.T
	ctx         context.Context
	project     string
	next, wrong func() string // builds
	c           client.Client
	run         client.WorkflowRun
	hand        *hand
}

// begin starts a release with a worker of the current build.
func (u *upgrade) begin() {
	if err := u.namespace(u.project); err != nil {
		u.t.Fatal(err)
	}
	(shop{}).open(u.sim, u.project)
	(shop{}).runs(u.sim, u.project, "production", "v1")
	var err error
	if u.c, err = client.Dial(client.Options{HostPort: u.temporal, Namespace: u.project, Logger: loud(io.Discard), DataConverter: worker.DataConverter()}); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(u.c.Close)
	u.employ("")
	u.run = u.start("v2")
}

func (u *upgrade) start(version string) client.WorkflowRun {
	u.t.Helper()
	req := request(u.project, version)
	run, err := u.c.ExecuteWorkflow(u.ctx, client.StartWorkflowOptions{ID: release.ID(u.project, req.Revision), TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	if err != nil {
		u.t.Fatal(err)
	}
	return run
}

// employ stops the current worker, as an operator would, and starts one of another build;
// "" is the current build.
func (u *upgrade) employ(build string) {
	u.t.Helper()
	if u.hand != nil {
		u.hand.dismiss()
	}
	var err error
	u.hand, err = start(u.ctx, job{Build: build, Temporal: u.temporal, Namespace: u.project, Fly: u.fly, Logs: u.logs, Gentle: true})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(u.hand.dismiss)
}

// asked waits until a release waits for approval, and returns the hash of the plan.
func (u *upgrade) asked(run client.WorkflowRun) string {
	u.t.Helper()
	plan, err := askedPlan(u.ctx, u.c, run)
	if err != nil {
		u.t.Fatal(err)
	}
	return plan
}

func (u *upgrade) approve(run client.WorkflowRun, plan string) {
	u.t.Helper()
	if err := u.c.SignalWorkflow(u.ctx, run.GetID(), run.GetRunID(), release.ApproveSignal, release.Review{By: "ben", Plan: plan}); err != nil {
		u.t.Fatal(err)
	}
}

// A way tells which workflows use the new version: the release, its rollout in production.
type way struct{ release, rollout bool }

// promoted waits until a release has ended, and checks that production runs its version and
// which workflows used the new version.
func (u *upgrade) promoted(run client.WorkflowRun, version string, want way) {
	u.t.Helper()
	var report release.Report
	if err := run.Get(u.ctx, &report); err != nil || report.Outcome != release.Promoted {
		u.t.Fatalf("%s: %+v, %v", report.Outcome, report.Cause, err)
	}
	histories, err := historiesOf(u.ctx, u.c, run)
	if err != nil {
		u.t.Fatal(err)
	}
	went := way{slices.Contains(report.Notes, paused), u.firstActivity(histories[len(histories)-1]) == "Observe"}
	if went != want {
		u.t.Errorf("the release of %s went the new way: %+v, want %+v", version, went, want)
	}
	for _, app := range (shop{}).names() {
		place := flyApp(u.project, "production", app)
		for _, m := range u.sim.Machines(place) {
			if got, want := m.ImageRef.Digest, digestOf(app, commitOf(version)); got != want || !driver.Describe(m).Healthy() {
				u.t.Errorf("machine %s of %s runs %s in state %s, want %s, well", m.ID, place, got, m.State, want)
			}
		}
		if !u.unleased(place) {
			u.t.Errorf("%s: leases are left: %v", place, u.sim.Leases(place))
		}
	}
}

func (u *upgrade) firstActivity(h told) string {
	for _, e := range h.events {
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
			return a.ActivityType.Name
		}
	}
	return ""
}

// follow waits until is returns true for an event of a workflow.
func (u *upgrade) follow(id string, is func(*historypb.HistoryEvent) bool) {
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

// waitsAtItsGate upgrades while a release waits for approval.
func (u *upgrade) waitsAtItsGate() {
	plan := u.asked(u.run)
	u.employ(u.next())
	u.approve(u.run, plan)
	// The release went to staging without the sleep and continues so. Its rollout in
	// production starts after the upgrade.
	u.promoted(u.run, "v2", way{release: false, rollout: true})
	if err := u.onlyOnce(); err != nil {
		u.t.Error(err)
	}
	later := u.start("v3")
	u.approve(later, u.asked(later))
	u.promoted(later, "v3", way{release: true, rollout: true})
}

// changesMachines upgrades when some machines of production are changed.
func (u *upgrade) changesMachines() {
	next := u.next() // built before the first change
	u.sim.Inject(flysim.Fault{Route: update, App: flyApp(u.project, "production", "web"), Times: 1, Delay: 2 * time.Second})
	u.approve(u.run, u.asked(u.run))
	rollout, steps := release.RolloutID(u.project, "production"), map[int64]bool{}
	u.follow(rollout, func(e *historypb.HistoryEvent) bool {
		if u.applies(e) {
			steps[e.EventId] = true
		}
		return steps[e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId()]
	})
	u.employ(next)
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
	if of := 2 * len((shop{}).names()); scheduled >= of {
		u.t.Fatalf("all %d machines were changed before the upgrade", of)
	}
	u.promoted(u.run, "v2", way{})
	if err := u.onlyOnce(); err != nil {
		u.t.Error(err)
	}
}

func (u *upgrade) applies(e *historypb.HistoryEvent) bool {
	return e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == "ApplyStep"
}

// onlyOnce returns an error that names machines not updated exactly once.
func (u *upgrade) onlyOnce() error {
	updates := map[string]int{}
	for _, r := range u.sim.Requests() {
		if r.Route == update && r.Status < 300 {
			updates[r.App+" "+r.Machine]++
		}
	}
	var wrong []error
	for _, app := range (shop{}).names() {
		for _, m := range u.sim.Machines(flyApp(u.project, "production", app)) {
			if n := updates[flyApp(u.project, "production", app)+" "+m.ID]; n != 1 {
				wrong = append(wrong, fmt.Errorf("machine %s of %s was updated %d times", m.ID, app, n))
			}
		}
	}
	return errors.Join(wrong...)
}

// meetsAnUnguardedChange upgrades to changes without GetVersion: the worker reports the
// error and changes nothing. With a correct build the release continues.
func (u *upgrade) meetsAnUnguardedChange() {
	plan := u.asked(u.run)
	u.employ(u.wrong())
	before := len(u.sim.Requests())
	u.approve(u.run, plan)
	u.follow(u.run.GetID(), func(e *historypb.HistoryEvent) bool {
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
	u.employ("")
	if said := wrong.said.String(); !strings.Contains(said, "nondeterministic") && !strings.Contains(said, "TMPRL1100") {
		u.t.Errorf("the changed worker said only: %s", said)
	}
	u.promoted(u.run, "v2", way{})
	if err := u.onlyOnce(); err != nil {
		u.t.Error(err)
	}
}
