package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// TestBack checks rollbacks with a real Temporal: after terminated rollouts, and on
// request.
func TestBack(t *testing.T) {
	runCases(t, "back", map[string]rollbackCase{
		"terminated, then rollback":           {before: "v1", run: (*rollbackTest).testTerminatedThenRollback},
		"terminated, then retry":              {before: "v1", run: (*rollbackTest).testTerminatedThenRetry},
		"terminated, then keep":               {before: "v1", run: (*rollbackTest).testTerminatedThenKeep},
		"terminated, then abandon":            {before: "v1", run: (*rollbackTest).testTerminatedThenAbandon},
		"terminated, then abort":              {before: "v1", run: (*rollbackTest).testTerminatedThenAbort},
		"terminated, another release waits":   {before: "v1", run: (*rollbackTest).testHeldUnderLock},
		"terminated twice":                    {before: "v1", run: (*rollbackTest).testTerminatedTwice},
		"release and rollout terminated":      {before: "v1", run: (*rollbackTest).testBothTerminated},
		"rollback after both were terminated": {before: "v1", run: (*rollbackTest).testRollbackAfterBoth},
		"rollback of the first release":       {run: (*rollbackTest).testFirstRelease},
		"two rollbacks":                       {run: (*rollbackTest).testTwoRollbacks},
		"two repositories, one name":          {before: "v0", run: (*rollbackTest).testTwoRepositories},
		"abort records user and reason":       {before: "v1", run: (*rollbackTest).testAbort},
		"history cannot be read":              {shop: projectFixture{gate: "none"}, before: "v1", run: (*rollbackTest).testUnreadableHistory},
		"Fly app of another project":          {before: "v1", run: (*rollbackTest).testForeignApp},
	})
}

// A rollbackCase is one test case in a project of its own.
type rollbackCase struct {
	shop   projectFixture
	before string // version that runs at the start
	run    func(*rollbackTest)
}

// runCases runs the cases concurrently with one Temporal, Fly and worker.
func runCases(t *testing.T, prefix string, stories map[string]rollbackCase) {
	git := projectSet{}
	name := func(story string) string {
		return prefix + "-" + strings.ToLower(strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(story))
	}
	for story, s := range stories {
		s.shop.apps, s.shop.only, s.shop.wait = []string{"api"}, "production", "20s"
		git[name(story)] = s.shop
	}
	studio, start := git.newTestEnv(t)
	t.Cleanup(start())
	var all sync.WaitGroup
	for story, s := range stories {
		all.Go(func() {
			project := name(story)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			b := &rollbackTest{T: t, story: story, recording: &recording{testEnv: studio, ctx: ctx, project: project}, app: flyApp(project, "production", "api")}
			git[project].createApps(studio.sim, project)
			if s.before != "" {
				git[project].createMachines(studio.sim, project, "production", s.before)
			}
			s.run(b)
		})
	}
	all.Wait()
}

// newTestEnv returns a Temporal and a Fly for the projects of git, and a function that
// starts a worker. That function returns one that stops the worker.
func (git projectSet) newTestEnv(t *testing.T) (s *testEnv, start func() (stop func())) {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: startTemporal(t, "").Address(), Identity: "the operator", DataConverter: worker.DataConverter()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	sim := newFastFly()
	t.Cleanup(sim.Close)
	atFly := flyAt("http://fly")
	atFly.HTTP = &http.Client{Transport: sim.Transport()}
	return &testEnv{c, sim}, func() (stop func()) {
		w := worker.New(c, newActivities(atFly, git, t.TempDir()), worker.Options{Builds: 4})
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		return sync.OnceFunc(w.Stop)
	}
}

// rollbackTest runs one test case.
type rollbackTest struct {
	*testing.T
	*recording
	story    string
	app      string
	endFault func() // ends the fault that keeps a rollout incomplete
}

func (b *rollbackTest) fail(format string, args ...any) {
	b.Errorf("%s: %s", b.story, fmt.Sprintf(format, args...))
}

// requireNoError ends the test case if err is not nil.
func (b *rollbackTest) requireNoError(err error) {
	if err != nil {
		b.fail("%v", err)
		runtime.Goexit()
	}
}

func (b *rollbackTest) rolloutID() string { return release.RolloutID(b.project, "production") }

// promote releases a version until the release ends.
func (b *rollbackTest) promote(version string) {
	b.requireNoError(b.startRelease(request(b.project, version)))
	b.requireNoError(b.reviewNext(true))
	if report, err := b.waitForReport(); err != nil || report.Outcome != release.Promoted {
		b.fail("%s is %q, %+v, %v", version, report.Outcome, report.Cause, err)
	}
}

// requestRollback requests a rollback and returns its report.
func (b *rollbackTest) requestRollback(to string) release.Report {
	req := request(b.project, "head")
	req.Rollback = &release.Rollback{Environment: "production", To: to, Emergency: true, Reason: "it is wrong"}
	b.requireNoError(b.startRelease(req))
	report, err := b.waitForReport()
	b.requireNoError(err)
	return report
}

// terminateMidRollout starts v2 and terminates its rollout after one of two machines
// was updated. The other machine cannot be updated, not even by activities of the
// terminated rollout, until b.endFault is called.
func (b *rollbackTest) terminateMidRollout() {
	second := b.sim.Machines(b.app)[1].ID
	b.endFault = b.sim.Inject(flysim.Fault{Route: update, App: b.app, Machine: second, Status: http.StatusServiceUnavailable})
	b.requireNoError(b.startRelease(request(b.project, "v2")))
	b.requireNoError(b.reviewNext(true))
	for ; b.ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if slices.Contains(b.runningDigests(), digestOf("api", commitOf("v2"))) {
			break
		}
	}
	b.requireNoError(b.c.TerminateWorkflow(b.ctx, b.rolloutID(), "", "by hand"))
}

// runningDigests returns the digests of the running machines.
func (b *rollbackTest) runningDigests() (digests []string) {
	for _, m := range b.sim.Machines(b.app) {
		digests = append(digests, m.ImageRef.Digest)
	}
	return digests
}

// checkVersion checks that every machine runs that version and that no rollout left
// anything.
func (b *rollbackTest) checkVersion(version string) {
	for _, digest := range b.runningDigests() {
		if digest != digestOf("api", commitOf(version)) {
			b.fail("machines run %v, want all on %s", b.runningDigests(), version)
		}
	}
	if len(b.runningDigests()) == 0 {
		b.fail("no machine is left")
	}
	b.checkNothingLeft()
}

func (b *rollbackTest) checkNothingLeft() {
	for _, r := range b.sim.Releases(b.app) {
		if r.Status == "running" || r.Status == "pending" {
			b.fail("Fly release v%d is left %s", r.Version, r.Status)
		}
	}
	if left := b.sim.Leases(b.app); len(left) > 0 {
		b.fail("leases are left: %+v", left)
	}
}

// waitForHold waits until the rollout of the release is held, ends the fault, and
// returns the reason.
func (b *rollbackTest) waitForHold() release.Hold {
	s, err := b.waitForStatus(b.rolloutID(), func(s release.Status) bool { return s.Held != nil })
	b.endFault()
	if err != nil {
		b.fail("%v", err)
		return release.Hold{}
	}
	return *s.Held
}

func (b *rollbackTest) resolveHold(choice release.Choice) {
	u, err := b.c.UpdateWorkflow(b.ctx, client.UpdateWorkflowOptions{
		WorkflowID: b.rolloutID(), UpdateName: release.ResolveUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{release.Resolution{Choice: choice, By: "dora", Reason: "because"}},
	})
	if err == nil {
		err = u.Get(b.ctx, nil)
	}
	b.requireNoError(err)
}

// checkHold checks that the hold names the terminated rollout and the state of each
// machine.
func (b *rollbackTest) checkHold(h release.Hold) {
	if !strings.Contains(h.Why, "was terminated by the operator: by hand") {
		b.fail("held because: %s", h.Why)
	}
	machines := strings.Join(h.Machines, "\n")
	if len(h.Machines) != 2 || strings.Count(machines, "is on the plan") != 1 || strings.Count(machines, "is on the baseline") != 1 {
		b.fail("held, with machines %q", h.Machines)
	}
	for _, c := range []release.Choice{release.ChoiceRetry, release.ChoiceRollback, release.ChoiceKeep, release.ChoiceAbandon} {
		if !slices.Contains(h.Choices, c) {
			b.fail("held without the choice %s: %v", c, h.Choices)
		}
	}
	for _, r := range b.sim.Releases(b.app) {
		if r.Status == "running" || r.Status == "pending" {
			b.fail("Fly release v%d is left %s", r.Version, r.Status)
		}
	}
	if n := len(b.sim.Leases(b.app)); n != 2 {
		b.fail("held, with leases on %d of 2 machines", n)
	}
}

func (b *rollbackTest) testTerminatedThenRollback() {
	before := b.machineConfigs()
	b.terminateMidRollout()
	b.checkHold(b.waitForHold())
	b.resolveHold(release.ChoiceRollback)
	report, err := b.waitForReport()
	if err != nil || report.Outcome != release.RolledBack || report.Cause == nil || !strings.Contains(report.Cause.Message, "was terminated") {
		b.fail("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.checkVersion("v1")
	if after := b.machineConfigs(); !slices.Equal(before, after) {
		b.fail("configs were %v and are %v", before, after)
	}
}

func (b *rollbackTest) machineConfigs() (all []string) {
	for _, m := range b.sim.Machines(b.app) {
		all = append(all, m.ID+" "+string(m.Config))
	}
	return all
}

func (b *rollbackTest) testTerminatedThenRetry() {
	b.terminateMidRollout()
	b.checkHold(b.waitForHold())
	before, err := b.waitForStatus(b.run.GetID(), func(s release.Status) bool { return s.Plan != nil })
	b.requireNoError(err)
	b.resolveHold(release.ChoiceRetry)
	plan, err := b.waitForPlan(before.Plan.Hash) // the plan has changed and needs a new approval
	b.requireNoError(err)
	b.requireNoError(b.review(true, plan))
	report, err := b.waitForReport()
	if err != nil || report.Outcome != release.Promoted {
		b.fail("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.checkVersion("v2")
	// The baseline is still the state before the first rollout of the release.
	if report := b.requestRollback(""); report.Outcome != release.Restored {
		b.fail("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.checkVersion("v1")
}

func (b *rollbackTest) testTerminatedThenKeep() {
	b.terminateMidRollout()
	b.checkHold(b.waitForHold())
	b.resolveHold(release.ChoiceKeep)
	report, err := b.waitForReport()
	if err != nil || report.Outcome != release.Kept || report.EnvironmentStatus("production").Outcome != release.Kept {
		b.fail("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	if report := b.requestRollback(""); report.Outcome != release.Restored {
		b.fail("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.checkVersion("v1")
}

func (b *rollbackTest) testTerminatedThenAbandon() {
	b.terminateMidRollout()
	b.checkHold(b.waitForHold())
	b.resolveHold(release.ChoiceAbandon)
	if report, err := b.waitForReport(); err == nil || !strings.Contains(err.Error(), "production is stranded") || !strings.Contains(err.Error(), "is on the plan") {
		b.fail("ended %q, %v", report.Outcome, err)
	}
}

func (b *rollbackTest) testTerminatedThenAbort() {
	b.terminateMidRollout()
	b.checkHold(b.waitForHold())
	b.requireNoError(b.c.CancelWorkflow(b.ctx, b.run.GetID(), ""))
	report, err := b.waitForReport()
	if err != nil || report.Outcome != release.RolledBack {
		b.fail("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.checkVersion("v1")
}

// A release with a terminated rollout keeps the lock: no other release changes the
// environment before a resolution.
func (b *rollbackTest) testHeldUnderLock() {
	b.terminateMidRollout()
	b.checkHold(b.waitForHold())
	first := b.run
	b.requireNoError(b.startRelease(request(b.project, "v3")))
	b.requireNoError(b.reviewNext(true))
	s, err := b.waitForStatus(b.run.GetID(), func(s release.Status) bool { return s.Queue != "" })
	b.requireNoError(err)
	if v2 := commitOf("v2")[:12]; !strings.Contains(s.Queue, v2) {
		b.fail("v3 waits for %q, want %s", s.Queue, v2)
	}
	if v := b.runningDigests(); slices.Contains(v, digestOf("api", commitOf("v3"))) {
		b.fail("v3 changed machines that a held rollout has left: %v", v)
	}
	b.resolveHold(release.ChoiceRollback)
	var report release.Report
	if err := first.Get(b.ctx, &report); err != nil || report.Outcome != release.RolledBack {
		b.fail("v2 ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.requireNoError(b.reviewNext(true))
	if report, err := b.waitForReport(); err != nil || report.Outcome != release.Promoted {
		b.fail("v3 ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.checkVersion("v3")
	if report := b.requestRollback(""); report.Outcome != release.Restored {
		b.fail("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.checkVersion("v1")
}

// The rollout that took over from a terminated one is terminated, too.
func (b *rollbackTest) testTerminatedTwice() {
	b.terminateMidRollout()
	b.checkHold(b.waitForHold())
	s, err := b.waitForStatus(b.rolloutID(), func(s release.Status) bool { return s.Held != nil })
	b.requireNoError(err)
	b.requireNoError(b.c.TerminateWorkflow(b.ctx, b.rolloutID(), s.Run, "by hand"))
	_, err = b.waitForStatus(b.rolloutID(), func(now release.Status) bool { return now.Run != s.Run && now.Held != nil })
	b.requireNoError(err)
	b.checkHold(b.waitForHold())
	b.resolveHold(release.ChoiceRollback)
	if report, err := b.waitForReport(); err != nil || report.Outcome != release.RolledBack {
		b.fail("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.checkVersion("v1")
}

// terminateBoth leaves an environment in a mixed state without a workflow. A release that
// noticed the termination of its rollout has started another one that takes over.
func (b *rollbackTest) terminateBoth() {
	b.terminateMidRollout()
	b.requireNoError(b.c.TerminateWorkflow(b.ctx, b.run.GetID(), "", "by hand"))
	for quiet := 0; quiet < 20 && b.ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		d, err := b.c.DescribeWorkflowExecution(b.ctx, b.rolloutID(), "")
		b.requireNoError(err)
		if quiet++; d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			b.requireNoError(b.c.TerminateWorkflow(b.ctx, b.rolloutID(), "", "by hand"))
			quiet = 0
		}
	}
}

// The next release that fails restores the state before the terminated one, and does not
// wait for its leases.
func (b *rollbackTest) testBothTerminated() {
	b.terminateBoth()
	if len(b.sim.Leases(b.app)) == 0 {
		b.fail("the terminated rollout has left no lease: this proves nothing")
	}
	begun := time.Now()
	b.requireNoError(b.startRelease(request(b.project, "v3")))
	first := b.sim.Machines(b.app)[0].ID // the other still cannot be updated
	b.sim.Inject(flysim.Fault{Route: update, App: b.app, Machine: first, Times: 1, Effect: flysim.Crashes, Exit: 3})
	b.requireNoError(b.reviewNext(true))
	report, err := b.waitForReport()
	if err != nil || report.Outcome != release.RolledBack {
		b.fail("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	if took := time.Since(begun); took > 3*time.Minute { // a lease expires after five
		b.fail("it took %s: it waited for the leases of a run that is closed", took)
	}
	b.checkVersion("v1")
}

func (b *rollbackTest) testRollbackAfterBoth() {
	b.promote("v0")
	b.promote("v1")
	b.terminateBoth()
	report := b.requestRollback("")
	if report.Outcome != release.Restored || report.Revision.Commit != commitOf("v1") {
		b.fail("the rollback is %q to %+v, %+v", report.Outcome, report.Revision, report.Cause)
	}
	b.checkVersion("v1")
	b.endFault()
	// and the next rollback does not redo the release
	if report := b.requestRollback(""); report.Outcome != release.Restored || report.Revision.Commit != commitOf("v0") {
		b.fail("the second rollback is %q to %+v, %+v", report.Outcome, report.Revision, report.Cause)
	}
	b.checkVersion("v0")
}

func (b *rollbackTest) testFirstRelease() {
	b.promote("v1")
	report := b.requestRollback("")
	if report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "there is nothing to go back to") {
		b.fail("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.checkVersion("v1")
}

func (b *rollbackTest) testTwoRollbacks() {
	for _, version := range []string{"v1", "v2", "v3"} {
		b.promote(version)
	}
	third := b.run.GetID()
	for _, want := range []string{"v2", "v1"} {
		report := b.requestRollback("")
		e := report.EnvironmentStatus("production")
		if report.Outcome != release.Restored || e == nil || e.Outcome != release.Restored || report.Revision.Commit != commitOf(want) {
			b.fail("the rollback to %s is %q to %+v, %+v", want, report.Outcome, report.Revision, report.Cause)
		}
		b.checkVersion(want)
	}
	if report := b.requestRollback(""); report.Outcome != release.Stopped {
		b.fail("a rollback to before the first release is %q, %+v", report.Outcome, report.Cause)
	}
	if report := b.requestRollback(third); report.Outcome != release.Restored || report.Revision.Commit != commitOf("v3") {
		b.fail("the rollback to what %s left is %q, %+v", third, report.Outcome, report.Cause)
	}
	b.checkVersion("v3")
	if report := b.requestRollback(""); report.Outcome != release.Restored || report.Revision.Commit != commitOf("v2") {
		b.fail("the rollback after --to is %q to %+v, %+v", report.Outcome, report.Revision, report.Cause)
	}
	b.checkVersion("v2")
}

// After a rollout with an unreadable history, a plan needs an approval even without a
// gate, and a rollback is refused.
func (b *rollbackTest) testUnreadableHistory() {
	lost, err := b.c.ExecuteWorkflow(b.ctx, client.StartWorkflowOptions{ID: b.rolloutID(), TaskQueue: "nobody"}, release.RolloutWorkflow, "no request")
	b.requireNoError(err)
	b.requireNoError(b.c.TerminateWorkflow(b.ctx, lost.GetID(), "", "by hand"))
	if report := b.requestRollback(""); report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "what ran before it is not known") {
		b.fail("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.requireNoError(b.startRelease(request(b.project, "v2")))
	s, err := b.waitForStatus(b.run.GetID(), func(s release.Status) bool { return s.Gate != nil })
	b.requireNoError(err)
	if because := strings.Join(s.Gate.Reasons, "\n"); !strings.Contains(because, "what ran before is not known") || !strings.Contains(because, lost.GetRunID()) {
		b.fail("v2 is asked about because %q", because)
	}
	b.requireNoError(b.reviewNext(true))
	report, err := b.waitForReport()
	if err != nil || report.Outcome != release.Promoted || !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "the baseline is what runs now") }) {
		b.fail("v2 is %q, %+v, %v, %q", report.Outcome, report.Cause, err, report.Notes)
	}
	b.requireNoError(b.startRelease(request(b.project, "v3"))) // and no approval is needed any more
	if report, err := b.waitForReport(); err != nil || report.Outcome != release.Promoted {
		b.fail("v3 is %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.checkVersion("v3")
}

// A rollback changes no Fly app that is not in the files of the project, whichever apps
// earlier rollouts of that name changed.
func (b *rollbackTest) testForeignApp() {
	b.promote("v2")
	past, err := activities.FindPastState(b.ctx, b.c, activities.BaselineInput{
		Project: b.project, Rollback: release.Rollback{Environment: "production"},
		Targets: []activities.TargetRef{{Target: release.Target{App: "api", Environment: "production"}, FlyApp: "somebody-elses"}},
	})
	if err == nil || !strings.Contains(err.Error(), b.app) || len(past.Baselines) > 0 {
		b.fail("FindPast returns %d baselines of %s, %v", len(past.Baselines), b.app, err)
	}
}

// A project is bound to the repository of its first release. Another repository is
// refused unless the request has a reason for the move.
func (b *rollbackTest) testTwoRepositories() {
	b.promote("v1")
	b.requireNoError(b.waitForList(b.run.GetID()))
	req := request(b.project, "v2")
	req.Repository = "https://elsewhere.example.com/" + b.project + ".git"
	b.requireNoError(b.startRelease(req))
	report, err := b.waitForReport()
	b.requireNoError(err)
	if report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "is that of the repository example.com/"+b.project) {
		b.fail("a release of another repository is %q, %+v", report.Outcome, report.Cause)
	}
	b.checkVersion("v1")
	req.Moved = "it moved"
	b.requireNoError(b.startRelease(req))
	b.requireNoError(b.reviewNext(true))
	if report, err = b.waitForReport(); err != nil || report.Outcome != release.Promoted || !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "it moved") }) {
		b.fail("a release of the repository that moved is %q, %+v, %v, %q", report.Outcome, report.Cause, err, report.Notes)
	}
}

// The report of an aborted release has the user and the reason.
func (b *rollbackTest) testAbort() {
	b.checkAbortAtGate(func() {}, func() {})
}

// The user who aborts is recorded, even if no worker ran and the signal with the name
// arrives together with the cancellation.
func TestAbort_UserAfterRestart(t *testing.T) {
	git := projectSet{"absent": projectFixture{apps: []string{"api"}, only: "production", wait: "20s"}}
	studio, start := git.newTestEnv(t)
	stop := start()
	t.Cleanup(stop)
	git["absent"].createApps(studio.sim, "absent")
	git["absent"].createMachines(studio.sim, "absent", "production", "v1")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	b := &rollbackTest{T: t, story: "aborted without a worker", recording: &recording{testEnv: studio, ctx: ctx, project: "absent"}, app: flyApp("absent", "production", "api")}
	b.checkAbortAtGate(stop, func() { t.Cleanup(start()) })
}

// checkAbortAtGate starts v2, aborts it at its gate, and checks that the report has the
// user and the reason. before and after run around the abort.
func (b *rollbackTest) checkAbortAtGate(before, after func()) {
	b.requireNoError(b.startRelease(request(b.project, "v2")))
	_, err := b.waitForPlan("")
	b.requireNoError(err)
	before()
	b.requireNoError(b.c.SignalWorkflow(b.ctx, b.run.GetID(), "", release.AbortSignal, release.Abort{By: "dora", Reason: "the wrong branch"}))
	b.requireNoError(b.c.CancelWorkflow(b.ctx, b.run.GetID(), ""))
	after()
	report, err := b.waitForReport()
	b.requireNoError(err)
	if report.Outcome != release.Stopped || report.Cause == nil || report.Cause.Message != "aborted by dora: the wrong branch" {
		b.fail("ended %q, %+v", report.Outcome, report.Cause)
	}
	b.checkVersion("v1")
}
