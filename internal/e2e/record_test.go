package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

var record = flag.String("record", "", "write the histories that workflows replays in its tests, of the endings that this `REGEXP` matches")

// recorded is the directory of the histories.
const recorded = "../../workflows/testdata/history"

// An ending is a release with one kind of outcome, and the steps that lead to it.
type ending struct {
	shop    projectFixture
	before  string // version running in production
	act     func(*recording) error
	outcome release.Outcome // "": the workflow fails as stranded
}

var small = projectFixture{apps: []string{"api"}, only: "production"}

func changedShop(change func(*projectFixture)) projectFixture {
	s := small
	change(&s)
	return s
}

// makeIrreversible makes the releases of a project irreversible.
func makeIrreversible(s *projectFixture) {
	s.deploy, s.env = "release_command = \"migrate\"\n", "migrations = \"irreversible\"\n"
}

// scanned enables the scan of every image.
const scanned = "[scan]\nrun = \"true\"\n"

// listEndings returns a case for every outcome of a release and for every strategy.
func listEndings() map[string]ending {
	v2 := func(act func(*recording) error) func(*recording) error {
		return func(r *recording) error {
			if err := r.startRelease(request(r.project, "v2")); err != nil {
				return err
			}
			return act(r)
		}
	}
	approved := v2(func(r *recording) error { return r.reviewNext(true) })
	return map[string]ending{
		"promoted":           {act: approved, before: "v1", outcome: release.Promoted},
		"promoted-canary":    {shop: changedShop(func(s *projectFixture) { s.strategy = "canary" }), before: "v1", act: approved, outcome: release.Promoted},
		"promoted-bluegreen": {shop: changedShop(func(s *projectFixture) { s.strategy = "bluegreen" }), before: "v1", act: approved, outcome: release.Promoted},
		"promoted-immediate": {shop: changedShop(func(s *projectFixture) { s.strategy = "immediate" }), before: "v1", act: approved, outcome: release.Promoted},
		"promoted-command":   {shop: changedShop(makeIrreversible), before: "v1", act: approved, outcome: release.Promoted},
		"promoted-no-room":   {shop: small, before: "v1", act: v2((*recording).fillHost), outcome: release.Promoted},
		"held-irreversible":  {shop: changedShop(makeIrreversible), before: "v1", act: v2((*recording).failAfterCommand), outcome: release.RolledBack},
		"promoted-by-signal": {shop: small, before: "v1", act: v2((*recording).sendSignals), outcome: release.Promoted},
		"promoted-stale":     {shop: small, before: "v1", act: v2((*recording).makeStale), outcome: release.Promoted},
		"promoted-queued":    {shop: changedShop(func(s *projectFixture) { s.gate, s.bake = "none", "15s" }), before: "v1", act: v2((*recording).queueBehindAnother), outcome: release.Promoted},
		"unchanged":          {shop: small, act: v2((*recording).repeatRelease), outcome: release.Unchanged},
		"taken-back":         {shop: small, before: "v1", act: v2((*recording).rollBack), outcome: release.Restored},
		"stopped-rejected":   {shop: small, before: "v1", act: v2(func(r *recording) error { return r.reviewNext(false) }), outcome: release.Stopped},
		"stopped-test":       {shop: changedShop(func(s *projectFixture) { s.test = "echo broken; exit 3" }), act: v2(doNothing), outcome: release.Stopped},
		"stopped-timeout":    {shop: changedShop(func(s *projectFixture) { s.gate = `{ approvals = 1, timeout = "1s" }` }), act: v2(doNothing), outcome: release.Stopped},
		"stopped-aborted":    {shop: small, act: v2((*recording).abortAtGate), outcome: release.Stopped},
		"rolled-back-check":  {shop: small, before: "v1", act: v2((*recording).failChecks), outcome: release.RolledBack},
		"rolled-back-abort":  {shop: changedShop(func(s *projectFixture) { s.bake = "1h" }), before: "v1", act: v2((*recording).abortBake), outcome: release.RolledBack},
		"held-retry":         {shop: small, before: "v1", act: v2(holdAndResolve(release.ChoiceRetry)), outcome: release.RolledBack},
		"held-keep":          {shop: small, before: "v1", act: v2(holdAndResolve(release.ChoiceKeep)), outcome: release.Kept},
		"promoted-images":    {shop: projectFixture{apps: []string{"api"}, toml: scanned + "[test.lint]\nrun = \"true\"\n"}, before: "v1", act: approved, outcome: release.Promoted},
		"stopped-scan":       {shop: changedShop(func(s *projectFixture) { s.toml = strings.Replace(scanned, "true", "exit 4", 1) }), act: v2(doNothing), outcome: release.Stopped},
		"stranded":           {shop: small, before: "v1", act: v2(holdAndResolve(release.ChoiceAbandon))},
	}
}

// TestEndings runs a release to every outcome with a real Temporal. With -record it
// writes the histories of the releases and rollouts into the directory from which
// workflows replays them. It never overwrites earlier recordings, which must stay
// replayable.
func TestEndings(t *testing.T) {
	studio := newRecordingEnv(t)
	wanted, err := regexp.Compile(*record)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for name, e := range listEndings() {
		wg.Go(func() {
			r := &recording{testEnv: studio, ctx: t.Context(), project: projectName(name), ending: e}
			err := r.runToEnd()
			if err == nil && *record != "" && wanted.MatchString(name) {
				err = r.record(name)
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
}

func projectName(name string) string { return "shop-" + name }

// A testEnv is an environment for recordings: a real Temporal and a simulated Fly.
type testEnv struct {
	c   client.Client
	sim *flysim.Sim
}

func newRecordingEnv(t *testing.T) *testEnv {
	t.Helper()
	// Histories contain the identity of the client.
	c, err := client.Dial(client.Options{HostPort: startTemporal(t, "").Address(), Identity: "recorder", Logger: errorLogger(os.Stderr)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	git := projectSet{}
	for name, e := range listEndings() {
		git[projectName(name)] = e.shop
	}
	sim := newFastFly()
	t.Cleanup(sim.Close)
	atFly := flyAt("http://fly")
	atFly.HTTP = &http.Client{Transport: sim.Transport()}
	w := worker.New(c, newActivities(atFly, git, t.TempDir()), worker.Options{Builds: 4})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return &testEnv{c, sim}
}

// A recording is the run of one ending.
type recording struct {
	*testEnv
	ending
	ctx     context.Context
	project string
	run     client.WorkflowRun // run to record
}

// runToEnd runs the release to its outcome.
func (r *recording) runToEnd() error {
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithTimeout(r.ctx, 2*time.Minute)
	defer cancel()
	r.shop.createApps(r.sim, r.project)
	if r.before != "" {
		r.shop.createMachines(r.sim, r.project, "production", r.before)
	}
	if err := r.act(r); err != nil {
		return err
	}
	report, err := r.waitForReport()
	if err != nil && r.outcome != "" || report.Outcome != r.outcome {
		return fmt.Errorf("ended %q, %+v, %v; want %q", report.Outcome, report.Cause, err, r.outcome)
	}
	return nil
}

// record writes its histories.
func (r *recording) record(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	histories, err := historiesOf(ctx, r.c, r.run)
	if err != nil {
		return err
	}
	for i, h := range histories {
		file := fmt.Sprintf("%s.%d-%s.json", name, i, path.Base(h.id))
		if i == 0 {
			file = name + ".0-release.json"
		}
		if err := writeHistory(filepath.Join(recorded, file), h.events); err != nil {
			return err
		}
	}
	return nil
}

// writeHistory writes a history with one event per line and without the host name of
// this machine, which the SDK puts into the name of the sticky queue.
func writeHistory(file string, events []*historypb.HistoryEvent) error {
	var doc bytes.Buffer
	doc.WriteString(`{"events":[`)
	for i, e := range events {
		if q := e.GetWorkflowTaskScheduledEventAttributes().GetTaskQueue(); q.GetKind() == enums.TASK_QUEUE_KIND_STICKY {
			q.Name = "sticky"
		}
		line, err := protojson.Marshal(e)
		if err != nil {
			return err
		}
		if i > 0 {
			doc.WriteByte(',')
		}
		doc.WriteByte('\n')
		if err := json.Compact(&doc, line); err != nil { // protojson varies its white space
			return err
		}
	}
	doc.WriteString("\n]}\n")
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	if apart := `[^\w+/=-]`; regexp.MustCompile(apart + regexp.QuoteMeta(host) + apart).Match(doc.Bytes()) {
		return fmt.Errorf("%s names this machine, %s", file, host)
	}
	return os.WriteFile(file, doc.Bytes(), 0o644)
}

func (r *recording) startRelease(req release.Request) (err error) {
	id := release.ReleaseID(r.project, req.Revision)
	if req.Rollback != nil {
		id = release.RollbackID(r.project, req.Rollback.Environment)
	}
	r.run, err = r.c.ExecuteWorkflow(r.ctx, client.StartWorkflowOptions{ID: id, TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	return err
}

func (r *recording) waitForReport() (report release.Report, err error) {
	return report, r.run.Get(r.ctx, &report)
}

// waitForStatus queries a workflow until is returns true.
func (r *recording) waitForStatus(id string, is func(release.Status) bool) (s release.Status, err error) {
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		s = release.Status{}
		v, err := r.c.QueryWorkflow(r.ctx, id, "", release.StatusQuery)
		if err == nil && v.Get(&s) == nil && is(s) {
			tick.Stop()
			return s, nil
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			return s, fmt.Errorf("%s is %s: %w", id, s.Phase, errors.Join(r.ctx.Err(), err))
		}
	}
}

// waitForPlan waits until the release waits for approval of a plan other than before.
func (r *recording) waitForPlan(before string) (plan string, err error) {
	s, err := r.waitForStatus(r.run.GetID(), func(s release.Status) bool { return s.Gate != nil && s.Gate.Plan != before })
	if err != nil {
		return "", err
	}
	return s.Gate.Plan, nil
}

func (r *recording) review(yes bool, plan string) error {
	u, err := r.c.UpdateWorkflow(r.ctx, client.UpdateWorkflowOptions{
		WorkflowID: r.run.GetID(), UpdateName: release.ReviewName(yes), WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{release.ReviewInput{By: "ben", Reason: "because", Plan: plan}},
	})
	if err != nil {
		return err
	}
	return u.Get(r.ctx, nil)
}

func (r *recording) reviewNext(yes bool) error {
	plan, err := r.waitForPlan("")
	if err != nil {
		return err
	}
	return r.review(yes, plan)
}

func doNothing(*recording) error { return nil }

// sendSignals sends two signals that do not count and one that does.
func (r *recording) sendSignals() error {
	plan, err := r.waitForPlan("")
	if err != nil {
		return err
	}
	for _, d := range []any{"yes", release.ReviewInput{By: "ben", Plan: "00000000"}, release.ReviewInput{By: "ben", Plan: plan[:8]}} {
		if err := r.c.SignalWorkflow(r.ctx, r.run.GetID(), "", release.ApproveSignal, d); err != nil {
			return err
		}
	}
	return nil
}

// makeStale changes a machine while the release waits.
func (r *recording) makeStale() error {
	plan, err := r.waitForPlan("")
	if err != nil {
		return err
	}
	place := flyApp(r.project, "production", "api")
	m := r.sim.Machines(place)[0]
	m.InstanceID = "01PERSON" + m.InstanceID[8:]
	r.sim.Put(place, m)
	if err := r.review(true, plan); err != nil {
		return err
	}
	if plan, err = r.waitForPlan(plan); err != nil {
		return err
	}
	return r.review(true, plan)
}

// queueBehindAnother starts another release that has the lock. The release plans again
// after it.
func (r *recording) queueBehindAnother() error {
	_, err := r.waitForStatus(release.RolloutID(r.project, "production"), func(s release.Status) bool { return s.Phase == release.Baking })
	if err != nil {
		return err
	}
	if err := r.startRelease(request(r.project, "v3")); err != nil {
		return err
	}
	_, err = r.waitForStatus(r.run.GetID(), func(s release.Status) bool { return s.Queue != "" })
	return err
}

// repeatRelease releases the same revision again.
func (r *recording) repeatRelease() error {
	if err := r.reviewNext(true); err != nil {
		return err
	}
	if _, err := r.waitForReport(); err != nil {
		return err
	}
	return r.startRelease(request(r.project, "v2"))
}

// rollBack rolls back without the gate.
func (r *recording) rollBack() error {
	if err := r.reviewNext(true); err != nil {
		return err
	}
	if _, err := r.waitForReport(); err != nil {
		return err
	}
	if err := r.waitForList(release.RolloutID(r.project, "production")); err != nil {
		return err
	}
	req := request(r.project, "v2")
	req.Rollback = &release.Rollback{Environment: "production", Emergency: true, Reason: "it is wrong"}
	return r.startRelease(req)
}

// waitForList waits until a list shows the workflow as closed.
func (r *recording) waitForList(id string) error {
	for r.ctx.Err() == nil {
		list, err := r.c.ListWorkflow(r.ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowId = '" + id + "' AND ExecutionStatus = 'Completed'"})
		if err != nil || len(list.Executions) > 0 {
			return err
		}
	}
	return r.ctx.Err()
}

func (r *recording) abortAtGate() error {
	if _, err := r.waitForPlan(""); err != nil {
		return err
	}
	return r.c.CancelWorkflow(r.ctx, r.run.GetID(), "")
}

func (r *recording) abortBake() error {
	if err := r.reviewNext(true); err != nil {
		return err
	}
	_, err := r.waitForStatus(release.RolloutID(r.project, "production"), func(s release.Status) bool { return s.Phase == release.Baking })
	if err != nil {
		return err
	}
	return r.c.CancelWorkflow(r.ctx, r.run.GetID(), "")
}

const update = "POST /v1/apps/{app}/machines/{id}"

// failChecks makes the first updated machine stay unhealthy.
func (r *recording) failChecks() error {
	r.sim.Inject(flysim.Fault{Route: update, App: flyApp(r.project, "production", "api"), Times: 1, Effect: flysim.NeverPasses})
	return r.reviewNext(true)
}

// fillHost makes the host of a machine refuse its new version. The release asks for
// approval of a plan that replaces the machine.
func (r *recording) fillHost() error {
	plan, err := r.waitForPlan("")
	if err != nil {
		return err
	}
	place := flyApp(r.project, "production", "api")
	full := r.sim.Machines(place)[0].ID
	r.sim.Inject(flysim.Fault{Route: update, App: place, Machine: full, Effect: flysim.NoCapacity})
	if err := r.review(true, plan); err != nil {
		return err
	}
	if plan, err = r.waitForPlan(plan); err != nil {
		return err
	}
	return r.review(true, plan)
}

// failAfterCommand fails after an irreversible release command, so that the rollout is
// held.
func (r *recording) failAfterCommand() error {
	if err := r.failChecks(); err != nil {
		return err
	}
	return r.resolveHold(release.ChoiceRollback)
}

// holdAndResolve also makes Fly refuse the rollback until the resolution.
func holdAndResolve(choice release.Choice) func(*recording) error {
	return func(r *recording) error {
		if err := r.failChecks(); err != nil {
			return err
		}
		r.sim.Inject(flysim.Fault{Route: update, App: flyApp(r.project, "production", "api"), Times: 1, Status: http.StatusUnprocessableEntity})
		return r.resolveHold(choice)
	}
}

// resolveHold resolves the rollout once it is held.
func (r *recording) resolveHold(choice release.Choice) error {
	rollout := release.RolloutID(r.project, "production")
	if _, err := r.waitForStatus(rollout, func(s release.Status) bool { return s.Phase == release.HeldPhase }); err != nil {
		return err
	}
	u, err := r.c.UpdateWorkflow(r.ctx, client.UpdateWorkflowOptions{
		WorkflowID: rollout, UpdateName: release.ResolveUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{release.Resolution{Choice: choice, By: "dora", Reason: "because"}},
	})
	if err != nil {
		return err
	}
	return u.Get(r.ctx, nil)
}
