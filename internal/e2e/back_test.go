package e2e_test

import (
	"context"
	"fmt"
	"net/http"
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
	playStories(t, "back", map[string]backStory{
		"terminated, then rollback":           {before: "v1", tell: (*back).terminatedThenRollback},
		"terminated, then retry":              {before: "v1", tell: (*back).terminatedThenRetry},
		"terminated, then keep":               {before: "v1", tell: (*back).terminatedThenKeep},
		"terminated, then abandon":            {before: "v1", tell: (*back).terminatedThenAbandon},
		"terminated, then abort":              {before: "v1", tell: (*back).terminatedThenAbort},
		"terminated, another release waits":   {before: "v1", tell: (*back).heldUnderLock},
		"terminated twice":                    {before: "v1", tell: (*back).terminatedTwice},
		"release and rollout terminated":      {before: "v1", tell: (*back).bothTerminated},
		"rollback after both were terminated": {before: "v1", tell: (*back).rollbackAfterBoth},
		"rollback of the first release":       {tell: (*back).nothingBefore},
		"two rollbacks":                       {tell: (*back).twoRollbacks},
		"two repositories, one name":          {before: "v0", tell: (*back).twoRepositories},
		"abort records user and reason":       {before: "v1", tell: (*back).aborts},
		"history cannot be read":              {shop: shop{gate: "none"}, before: "v1", tell: (*back).unreadable},
		"Fly app of another project":          {before: "v1", tell: (*back).foreignApp},
	})
}

// A backStory is one test case in a project of its own.
type backStory struct {
	shop   shop
	before string // version that runs at the start
	tell   func(*back)
}

// playStories runs the cases concurrently with one Temporal, Fly and worker.
func playStories(t *testing.T, prefix string, stories map[string]backStory) {
	git := street{}
	name := func(story string) string {
		return prefix + "-" + strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(story)
	}
	for story, s := range stories {
		s.shop.apps, s.shop.only, s.shop.wait = []string{"api"}, "production", "20s"
		git[name(story)] = s.shop
	}
	studio, start := git.studio(t)
	t.Cleanup(start())
	var all sync.WaitGroup
	for story, s := range stories {
		all.Go(func() {
			project := name(story)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			b := &back{T: t, story: story, recording: &recording{studio: studio, ctx: ctx, project: project}, app: flyApp(project, "production", "api")}
			git[project].open(studio.sim, project)
			if s.before != "" {
				git[project].runs(studio.sim, project, "production", s.before)
			}
			s.tell(b)
		})
	}
	all.Wait()
}

// studio returns a Temporal and a Fly for the projects of git, and a function that starts
// a worker. That function returns one that stops the worker.
func (git street) studio(t *testing.T) (s *studio, start func() (stop func())) {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: temporal(t, "").Address(), Identity: "the operator", DataConverter: worker.DataConverter()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	sim := quick()
	t.Cleanup(sim.Close)
	atFly := flyAt("http://fly")
	atFly.HTTP = &http.Client{Transport: sim.Transport()}
	return &studio{c, sim}, func() (stop func()) {
		w := worker.New(c, work(atFly, git, t.TempDir()), worker.Options{Builds: 4})
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		return sync.OnceFunc(w.Stop)
	}
}

// back runs one test case.
type back struct {
	*testing.T
	*recording
	story string
	app   string
	calm  func() // ends the fault that keeps a rollout incomplete
}

func (b *back) wrong(format string, args ...any) {
	b.Errorf("%s: %s", b.story, fmt.Sprintf(format, args...))
}

func (b *back) must(err error) {
	if err != nil {
		b.wrong("%v", err)
	}
}

func (b *back) rollout() string { return release.RolloutID(b.project, "production") }

// promote releases a version until the release ends.
func (b *back) promote(version string) {
	b.must(b.begin(request(b.project, version)))
	b.must(b.decide(true))
	if report, err := b.end(); err != nil || report.Outcome != release.Promoted {
		b.wrong("%s is %q, %+v, %v", version, report.Outcome, report.Cause, err)
	}
}

// goBack requests a rollback and returns its report.
func (b *back) goBack(to string) release.Report {
	req := request(b.project, "head")
	req.Rollback = &release.Rollback{Environment: "production", To: to, Emergency: true, Reason: "it is wrong"}
	b.must(b.begin(req))
	report, err := b.end()
	b.must(err)
	return report
}

// terminates starts v2 and terminates its rollout after one of two machines was updated.
// The other machine cannot be updated, not even by activities of the terminated rollout,
// until b.calm is called.
func (b *back) terminates() {
	second := b.sim.Machines(b.app)[1].ID
	b.calm = b.sim.Inject(flysim.Fault{Route: update, App: b.app, Machine: second, Status: http.StatusServiceUnavailable})
	b.must(b.begin(request(b.project, "v2")))
	b.must(b.decide(true))
	for ; b.ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if slices.Contains(b.versions(), digestOf("api", commitOf("v2"))) {
			break
		}
	}
	b.must(b.c.TerminateWorkflow(b.ctx, b.rollout(), "", "by hand"))
}

// versions returns the digests of the running machines.
func (b *back) versions() (digests []string) {
	for _, m := range b.sim.Machines(b.app) {
		digests = append(digests, m.ImageRef.Digest)
	}
	return digests
}

// mustRun checks that every machine runs that version and that no rollout left anything.
func (b *back) mustRun(version string) {
	for _, digest := range b.versions() {
		if digest != digestOf("api", commitOf(version)) {
			b.wrong("machines run %v, want all on %s", b.versions(), version)
		}
	}
	if len(b.versions()) == 0 {
		b.wrong("no machine is left")
	}
	b.mustBeClean()
}

func (b *back) mustBeClean() {
	for _, r := range b.sim.Releases(b.app) {
		if r.Status == "running" || r.Status == "pending" {
			b.wrong("Fly release v%d is left %s", r.Version, r.Status)
		}
	}
	if left := b.sim.Leases(b.app); len(left) > 0 {
		b.wrong("leases are left: %+v", left)
	}
}

// held waits until the rollout of the release is held, ends the fault, and returns the
// reason.
func (b *back) held() release.Held {
	s, err := b.until(b.rollout(), func(s release.Status) bool { return s.Held != nil })
	b.calm()
	if err != nil {
		b.wrong("%v", err)
		return release.Held{}
	}
	return *s.Held
}

func (b *back) say(choice release.Choice) {
	u, err := b.c.UpdateWorkflow(b.ctx, client.UpdateWorkflowOptions{
		WorkflowID: b.rollout(), UpdateName: release.AnswerUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{release.Answer{Choice: choice, By: "dora", Reason: "because"}},
	})
	if err == nil {
		err = u.Get(b.ctx, nil)
	}
	b.must(err)
}

// mustSay checks that the hold names the terminated rollout and the state of each machine.
func (b *back) mustSay(h release.Held) {
	if !strings.Contains(h.Why, "was terminated by the operator: by hand") {
		b.wrong("held because: %s", h.Why)
	}
	machines := strings.Join(h.Machines, "\n")
	if len(h.Machines) != 2 || strings.Count(machines, "is on the plan") != 1 || strings.Count(machines, "is on the baseline") != 1 {
		b.wrong("held, with machines %q", h.Machines)
	}
	for _, c := range []release.Choice{release.Retry, release.GoBack, release.Keep, release.Abandon} {
		if !slices.Contains(h.Choices, c) {
			b.wrong("held without the choice %s: %v", c, h.Choices)
		}
	}
	for _, r := range b.sim.Releases(b.app) {
		if r.Status == "running" || r.Status == "pending" {
			b.wrong("Fly release v%d is left %s", r.Version, r.Status)
		}
	}
	if n := len(b.sim.Leases(b.app)); n != 2 {
		b.wrong("held, with leases on %d of 2 machines", n)
	}
}

func (b *back) terminatedThenRollback() {
	before := b.configs()
	b.terminates()
	b.mustSay(b.held())
	b.say(release.GoBack)
	report, err := b.end()
	if err != nil || report.Outcome != release.RolledBack || report.Cause == nil || !strings.Contains(report.Cause.Message, "was terminated") {
		b.wrong("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.mustRun("v1")
	if after := b.configs(); !slices.Equal(before, after) {
		b.wrong("configs were %v and are %v", before, after)
	}
}

func (b *back) configs() (all []string) {
	for _, m := range b.sim.Machines(b.app) {
		all = append(all, m.ID+" "+string(m.Config))
	}
	return all
}

func (b *back) terminatedThenRetry() {
	b.terminates()
	b.mustSay(b.held())
	before, err := b.until(b.run.GetID(), func(s release.Status) bool { return s.Plan != nil })
	b.must(err)
	b.say(release.Retry)
	plan, err := b.asked(before.Plan.Hash) // the plan has changed and needs a new approval
	b.must(err)
	b.must(b.answer(true, plan))
	report, err := b.end()
	if err != nil || report.Outcome != release.Promoted {
		b.wrong("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.mustRun("v2")
	// The baseline is still the state before the first rollout of the release.
	if report := b.goBack(""); report.Outcome != release.Restored {
		b.wrong("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.mustRun("v1")
}

func (b *back) terminatedThenKeep() {
	b.terminates()
	b.mustSay(b.held())
	b.say(release.Keep)
	report, err := b.end()
	if err != nil || report.Outcome != release.Kept || report.EnvironmentStatus("production").Outcome != release.Kept {
		b.wrong("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	if report := b.goBack(""); report.Outcome != release.Restored {
		b.wrong("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.mustRun("v1")
}

func (b *back) terminatedThenAbandon() {
	b.terminates()
	b.mustSay(b.held())
	b.say(release.Abandon)
	if report, err := b.end(); err == nil || !strings.Contains(err.Error(), "production is stranded") || !strings.Contains(err.Error(), "is on the plan") {
		b.wrong("ended %q, %v", report.Outcome, err)
	}
}

func (b *back) terminatedThenAbort() {
	b.terminates()
	b.mustSay(b.held())
	b.must(b.c.CancelWorkflow(b.ctx, b.run.GetID(), ""))
	report, err := b.end()
	if err != nil || report.Outcome != release.RolledBack {
		b.wrong("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.mustRun("v1")
}

// A release with a terminated rollout keeps the lock: no other release changes the
// environment before a resolution.
func (b *back) heldUnderLock() {
	b.terminates()
	b.mustSay(b.held())
	first := b.run
	b.must(b.begin(request(b.project, "v3")))
	b.must(b.decide(true))
	s, err := b.until(b.run.GetID(), func(s release.Status) bool { return s.Queue != "" })
	b.must(err)
	if v2 := commitOf("v2")[:12]; !strings.Contains(s.Queue, v2) {
		b.wrong("v3 waits for %q, want %s", s.Queue, v2)
	}
	if v := b.versions(); slices.Contains(v, digestOf("api", commitOf("v3"))) {
		b.wrong("v3 changed machines that a held rollout has left: %v", v)
	}
	b.say(release.GoBack)
	var report release.Report
	if err := first.Get(b.ctx, &report); err != nil || report.Outcome != release.RolledBack {
		b.wrong("v2 ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.must(b.decide(true))
	if report, err := b.end(); err != nil || report.Outcome != release.Promoted {
		b.wrong("v3 ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.mustRun("v3")
	if report := b.goBack(""); report.Outcome != release.Restored {
		b.wrong("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.mustRun("v1")
}

// The rollout that took over from a terminated one is terminated, too.
func (b *back) terminatedTwice() {
	b.terminates()
	b.mustSay(b.held())
	s, err := b.until(b.rollout(), func(s release.Status) bool { return s.Held != nil })
	b.must(err)
	b.must(b.c.TerminateWorkflow(b.ctx, b.rollout(), s.Run, "by hand"))
	_, err = b.until(b.rollout(), func(now release.Status) bool { return now.Run != s.Run && now.Held != nil })
	b.must(err)
	b.mustSay(b.held())
	b.say(release.GoBack)
	if report, err := b.end(); err != nil || report.Outcome != release.RolledBack {
		b.wrong("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.mustRun("v1")
}

// terminateBoth leaves an environment in a mixed state without a workflow. A release that
// noticed the termination of its rollout has started another one that takes over.
func (b *back) terminateBoth() {
	b.terminates()
	b.must(b.c.TerminateWorkflow(b.ctx, b.run.GetID(), "", "by hand"))
	for quiet := 0; quiet < 20 && b.ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		d, err := b.c.DescribeWorkflowExecution(b.ctx, b.rollout(), "")
		b.must(err)
		if quiet++; d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			b.must(b.c.TerminateWorkflow(b.ctx, b.rollout(), "", "by hand"))
			quiet = 0
		}
	}
}

// The next release that fails restores the state before the terminated one, and does not
// wait for its leases.
func (b *back) bothTerminated() {
	b.terminateBoth()
	if len(b.sim.Leases(b.app)) == 0 {
		b.wrong("the terminated rollout has left no lease: this proves nothing")
	}
	begun := time.Now()
	b.must(b.begin(request(b.project, "v3")))
	first := b.sim.Machines(b.app)[0].ID // the other still cannot be updated
	b.sim.Inject(flysim.Fault{Route: update, App: b.app, Machine: first, Times: 1, Effect: flysim.Crashes, Exit: 3})
	b.must(b.decide(true))
	report, err := b.end()
	if err != nil || report.Outcome != release.RolledBack {
		b.wrong("ended %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	if took := time.Since(begun); took > 3*time.Minute { // a lease expires after five
		b.wrong("it took %s: it waited for the leases of a run that is closed", took)
	}
	b.mustRun("v1")
}

func (b *back) rollbackAfterBoth() {
	b.promote("v0")
	b.promote("v1")
	b.terminateBoth()
	report := b.goBack("")
	if report.Outcome != release.Restored || report.Revision.Commit != commitOf("v1") {
		b.wrong("the rollback is %q to %+v, %+v", report.Outcome, report.Revision, report.Cause)
	}
	b.mustRun("v1")
	b.calm()
	// and the next rollback does not redo the release
	if report := b.goBack(""); report.Outcome != release.Restored || report.Revision.Commit != commitOf("v0") {
		b.wrong("the second rollback is %q to %+v, %+v", report.Outcome, report.Revision, report.Cause)
	}
	b.mustRun("v0")
}

func (b *back) nothingBefore() {
	b.promote("v1")
	report := b.goBack("")
	if report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "there is nothing to go back to") {
		b.wrong("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.mustRun("v1")
}

func (b *back) twoRollbacks() {
	for _, version := range []string{"v1", "v2", "v3"} {
		b.promote(version)
	}
	third := b.run.GetID()
	for _, want := range []string{"v2", "v1"} {
		report := b.goBack("")
		e := report.EnvironmentStatus("production")
		if report.Outcome != release.Restored || e == nil || e.Outcome != release.Restored || report.Revision.Commit != commitOf(want) {
			b.wrong("the rollback to %s is %q to %+v, %+v", want, report.Outcome, report.Revision, report.Cause)
		}
		b.mustRun(want)
	}
	if report := b.goBack(""); report.Outcome != release.Stopped {
		b.wrong("a rollback to before the first release is %q, %+v", report.Outcome, report.Cause)
	}
	if report := b.goBack(third); report.Outcome != release.Restored || report.Revision.Commit != commitOf("v3") {
		b.wrong("the rollback to what %s left is %q, %+v", third, report.Outcome, report.Cause)
	}
	b.mustRun("v3")
	if report := b.goBack(""); report.Outcome != release.Restored || report.Revision.Commit != commitOf("v2") {
		b.wrong("the rollback after --to is %q to %+v, %+v", report.Outcome, report.Revision, report.Cause)
	}
	b.mustRun("v2")
}

// After a rollout with an unreadable history, a plan needs an approval even without a gate,
// and a rollback is refused.
func (b *back) unreadable() {
	lost, err := b.c.ExecuteWorkflow(b.ctx, client.StartWorkflowOptions{ID: b.rollout(), TaskQueue: "nobody"}, release.RolloutWorkflow, "no request")
	b.must(err)
	b.must(b.c.TerminateWorkflow(b.ctx, lost.GetID(), "", "by hand"))
	if report := b.goBack(""); report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "what ran before it is not known") {
		b.wrong("the rollback is %q, %+v", report.Outcome, report.Cause)
	}
	b.must(b.begin(request(b.project, "v2")))
	s, err := b.until(b.run.GetID(), func(s release.Status) bool { return s.Gate != nil })
	b.must(err)
	if because := strings.Join(s.Gate.Because, "\n"); !strings.Contains(because, "what ran before is not known") || !strings.Contains(because, lost.GetRunID()) {
		b.wrong("v2 is asked about because %q", because)
	}
	b.must(b.decide(true))
	report, err := b.end()
	if err != nil || report.Outcome != release.Promoted || !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "the baseline is what runs now") }) {
		b.wrong("v2 is %q, %+v, %v, %q", report.Outcome, report.Cause, err, report.Notes)
	}
	b.must(b.begin(request(b.project, "v3"))) // and no approval is needed any more
	if report, err := b.end(); err != nil || report.Outcome != release.Promoted {
		b.wrong("v3 is %q, %+v, %v", report.Outcome, report.Cause, err)
	}
	b.mustRun("v3")
}

// A rollback changes no Fly app that is not in the files of the project, whichever apps
// earlier rollouts of that name changed.
func (b *back) foreignApp() {
	b.promote("v2")
	past, err := activities.FindPastState(b.ctx, b.c, activities.BaselineInput{
		Project: b.project, Rollback: release.Rollback{Environment: "production"},
		Targets: []activities.TargetRef{{Target: release.Target{App: "api", Environment: "production"}, FlyApp: "somebody-elses"}},
	})
	if err == nil || !strings.Contains(err.Error(), b.app) || len(past.Baselines) > 0 {
		b.wrong("FindPast returns %d baselines of %s, %v", len(past.Baselines), b.app, err)
	}
}

// A project is bound to the repository of its first release. Another repository is refused
// unless the request has a reason for the move.
func (b *back) twoRepositories() {
	b.promote("v1")
	b.must(b.listed(b.run.GetID()))
	req := request(b.project, "v2")
	req.Repository = "https://elsewhere.example.com/" + b.project + ".git"
	b.must(b.begin(req))
	report, err := b.end()
	b.must(err)
	if report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "is that of the repository example.com/"+b.project) {
		b.wrong("a release of another repository is %q, %+v", report.Outcome, report.Cause)
	}
	b.mustRun("v1")
	req.Moved = "it moved"
	b.must(b.begin(req))
	b.must(b.decide(true))
	if report, err = b.end(); err != nil || report.Outcome != release.Promoted || !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "it moved") }) {
		b.wrong("a release of the repository that moved is %q, %+v, %v, %q", report.Outcome, report.Cause, err, report.Notes)
	}
}

// The report of an aborted release has the user and the reason.
func (b *back) aborts() {
	b.abortsAtGate(func() {}, func() {})
}

// The user who aborts is recorded, even if no worker ran and the signal with the name
// arrives together with the cancellation.
func TestAbort_UserAfterRestart(t *testing.T) {
	git := street{"absent": shop{apps: []string{"api"}, only: "production", wait: "20s"}}
	studio, start := git.studio(t)
	stop := start()
	t.Cleanup(stop)
	git["absent"].open(studio.sim, "absent")
	git["absent"].runs(studio.sim, "absent", "production", "v1")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	b := &back{T: t, story: "aborted without a worker", recording: &recording{studio: studio, ctx: ctx, project: "absent"}, app: flyApp("absent", "production", "api")}
	b.abortsAtGate(stop, func() { t.Cleanup(start()) })
}

// abortsAtGate starts v2, aborts it at its gate, and checks that the report has the user
// and the reason. before and after run around the abort.
func (b *back) abortsAtGate(before, after func()) {
	b.must(b.begin(request(b.project, "v2")))
	_, err := b.asked("")
	b.must(err)
	before()
	b.must(b.c.SignalWorkflow(b.ctx, b.run.GetID(), "", release.AbortSignal, release.Abort{By: "dora", Reason: "the wrong branch"}))
	b.must(b.c.CancelWorkflow(b.ctx, b.run.GetID(), ""))
	after()
	report, err := b.end()
	b.must(err)
	if report.Outcome != release.Stopped || report.Cause == nil || report.Cause.Message != "aborted by dora: the wrong branch" {
		b.wrong("ended %q, %+v", report.Outcome, report.Cause)
	}
	b.mustRun("v1")
}
