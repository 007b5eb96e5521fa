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
	shop    shop
	before  string // version running in production
	act     func(*recording) error
	outcome release.Outcome // "": the workflow fails as stranded
}

var small = shop{apps: []string{"api"}, only: "production"}

func with(change func(*shop)) shop {
	s := small
	change(&s)
	return s
}

// migrating makes the releases of a project irreversible.
func migrating(s *shop) {
	s.deploy, s.env = "release_command = \"migrate\"\n", "migrations = \"irreversible\"\n"
}

// scanned enables the scan of every image.
const scanned = "[scan]\nrun = \"true\"\n"

// endings returns a case for every outcome of a release and for every strategy.
func endings() map[string]ending {
	v2 := func(act func(*recording) error) func(*recording) error {
		return func(r *recording) error {
			if err := r.begin(request(r.project, "v2")); err != nil {
				return err
			}
			return act(r)
		}
	}
	approved := v2(func(r *recording) error { return r.decide(true) })
	return map[string]ending{
		"promoted":           {act: approved, before: "v1", outcome: release.Promoted},
		"promoted-canary":    {shop: with(func(s *shop) { s.strategy = "canary" }), before: "v1", act: approved, outcome: release.Promoted},
		"promoted-bluegreen": {shop: with(func(s *shop) { s.strategy = "bluegreen" }), before: "v1", act: approved, outcome: release.Promoted},
		"promoted-immediate": {shop: with(func(s *shop) { s.strategy = "immediate" }), before: "v1", act: approved, outcome: release.Promoted},
		"promoted-command":   {shop: with(migrating), before: "v1", act: approved, outcome: release.Promoted},
		"promoted-no-room":   {shop: small, before: "v1", act: v2((*recording).noRoom), outcome: release.Promoted},
		"held-irreversible":  {shop: with(migrating), before: "v1", act: v2((*recording).heldAfterCommand), outcome: release.RolledBack},
		"promoted-by-signal": {shop: small, before: "v1", act: v2((*recording).signals), outcome: release.Promoted},
		"promoted-stale":     {shop: small, before: "v1", act: v2((*recording).goesStale), outcome: release.Promoted},
		"promoted-queued":    {shop: with(func(s *shop) { s.gate, s.bake = "none", "15s" }), before: "v1", act: v2((*recording).queues), outcome: release.Promoted},
		"unchanged":          {shop: small, act: v2((*recording).repeats), outcome: release.Unchanged},
		"taken-back":         {shop: small, before: "v1", act: v2((*recording).takesBack), outcome: release.Restored},
		"stopped-rejected":   {shop: small, before: "v1", act: v2(func(r *recording) error { return r.decide(false) }), outcome: release.Stopped},
		"stopped-test":       {shop: with(func(s *shop) { s.test = "echo broken; exit 3" }), act: v2(nothing), outcome: release.Stopped},
		"stopped-timeout":    {shop: with(func(s *shop) { s.gate = `{ approvals = 1, timeout = "1s" }` }), act: v2(nothing), outcome: release.Stopped},
		"stopped-aborted":    {shop: small, act: v2((*recording).abortsAsked), outcome: release.Stopped},
		"rolled-back-check":  {shop: small, before: "v1", act: v2((*recording).neverPasses), outcome: release.RolledBack},
		"rolled-back-abort":  {shop: with(func(s *shop) { s.bake = "1h" }), before: "v1", act: v2((*recording).abortsBaking), outcome: release.RolledBack},
		"held-retry":         {shop: small, before: "v1", act: v2(held(release.Retry)), outcome: release.RolledBack},
		"held-keep":          {shop: small, before: "v1", act: v2(held(release.Keep)), outcome: release.Kept},
		"promoted-images":    {shop: shop{apps: []string{"api"}, toml: scanned + "[test.lint]\nrun = \"true\"\n"}, before: "v1", act: approved, outcome: release.Promoted},
		"stopped-scan":       {shop: with(func(s *shop) { s.toml = strings.Replace(scanned, "true", "exit 4", 1) }), act: v2(nothing), outcome: release.Stopped},
		"stranded":           {shop: small, before: "v1", act: v2(held(release.Abandon))},
	}
}

// TestEndings runs a release to every outcome with a real Temporal. With -record it writes
// the histories of the releases and rollouts into the directory from which workflows
// replays them. It never overwrites earlier recordings, which must stay replayable.
func TestEndings(t *testing.T) {
	studio := newStudio(t)
	wanted, err := regexp.Compile(*record)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for name, e := range endings() {
		wg.Go(func() {
			r := &recording{studio: studio, ctx: t.Context(), project: project(name), ending: e}
			err := r.make()
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

func project(name string) string { return "shop-" + name }

// A studio is an environment for recordings: a real Temporal and a simulated Fly.
type studio struct {
	c   client.Client
	sim *flysim.Sim
}

func newStudio(t *testing.T) *studio {
	t.Helper()
	// Histories contain the identity of the client.
	c, err := client.Dial(client.Options{HostPort: temporal(t, "").Address(), Identity: "recorder", Logger: loud(os.Stderr)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	git := street{}
	for name, e := range endings() {
		git[project(name)] = e.shop
	}
	sim := quick()
	t.Cleanup(sim.Close)
	atFly := flyAt("http://fly")
	atFly.HTTP = &http.Client{Transport: sim.Transport()}
	w := worker.New(c, work(atFly, git, t.TempDir()), worker.Options{Builds: 4})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return &studio{c, sim}
}

// A recording is the run of one ending.
type recording struct {
	*studio
	ending
	ctx     context.Context
	project string
	run     client.WorkflowRun // run to record
}

// make runs the release to its outcome.
func (r *recording) make() error {
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithTimeout(r.ctx, 2*time.Minute)
	defer cancel()
	r.shop.open(r.sim, r.project)
	if r.before != "" {
		r.shop.runs(r.sim, r.project, "production", r.before)
	}
	if err := r.act(r); err != nil {
		return err
	}
	report, err := r.end()
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
		if err := keep(filepath.Join(recorded, file), h.events); err != nil {
			return err
		}
	}
	return nil
}

// keep writes a history with one event per line and without the host name of this machine,
// which the SDK puts into the name of the sticky queue.
func keep(file string, events []*historypb.HistoryEvent) error {
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

func (r *recording) begin(req release.Request) (err error) {
	id := release.ID(r.project, req.Revision)
	if req.Rollback != nil {
		id = release.RollbackID(r.project, req.Rollback.Environment)
	}
	r.run, err = r.c.ExecuteWorkflow(r.ctx, client.StartWorkflowOptions{ID: id, TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	return err
}

func (r *recording) end() (report release.Report, err error) {
	return report, r.run.Get(r.ctx, &report)
}

// until queries a workflow until is returns true.
func (r *recording) until(id string, is func(release.Status) bool) (s release.Status, err error) {
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

// asked waits until the release waits for approval of a plan other than before.
func (r *recording) asked(before string) (plan string, err error) {
	s, err := r.until(r.run.GetID(), func(s release.Status) bool { return s.Gate != nil && s.Gate.Plan != before })
	if err != nil {
		return "", err
	}
	return s.Gate.Plan, nil
}

func (r *recording) answer(yes bool, plan string) error {
	u, err := r.c.UpdateWorkflow(r.ctx, client.UpdateWorkflowOptions{
		WorkflowID: r.run.GetID(), UpdateName: release.ReviewName(yes), WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{release.Review{By: "ben", Reason: "because", Plan: plan}},
	})
	if err != nil {
		return err
	}
	return u.Get(r.ctx, nil)
}

func (r *recording) decide(yes bool) error {
	plan, err := r.asked("")
	if err != nil {
		return err
	}
	return r.answer(yes, plan)
}

func nothing(*recording) error { return nil }

// signals sends two signals that do not count and one that does.
func (r *recording) signals() error {
	plan, err := r.asked("")
	if err != nil {
		return err
	}
	for _, d := range []any{"yes", release.Review{By: "ben", Plan: "00000000"}, release.Review{By: "ben", Plan: plan[:8]}} {
		if err := r.c.SignalWorkflow(r.ctx, r.run.GetID(), "", release.ApproveSignal, d); err != nil {
			return err
		}
	}
	return nil
}

// goesStale changes a machine while the release waits.
func (r *recording) goesStale() error {
	plan, err := r.asked("")
	if err != nil {
		return err
	}
	place := flyApp(r.project, "production", "api")
	m := r.sim.Machines(place)[0]
	m.InstanceID = "01PERSON" + m.InstanceID[8:]
	r.sim.Put(place, m)
	if err := r.answer(true, plan); err != nil {
		return err
	}
	if plan, err = r.asked(plan); err != nil {
		return err
	}
	return r.answer(true, plan)
}

// queues starts another release that has the lock. The release plans again after it.
func (r *recording) queues() error {
	_, err := r.until(release.RolloutID(r.project, "production"), func(s release.Status) bool { return s.Phase == release.Baking })
	if err != nil {
		return err
	}
	if err := r.begin(request(r.project, "v3")); err != nil {
		return err
	}
	_, err = r.until(r.run.GetID(), func(s release.Status) bool { return s.Queue != "" })
	return err
}

// repeats releases the same revision again.
func (r *recording) repeats() error {
	if err := r.decide(true); err != nil {
		return err
	}
	if _, err := r.end(); err != nil {
		return err
	}
	return r.begin(request(r.project, "v2"))
}

// takesBack rolls back without the gate.
func (r *recording) takesBack() error {
	if err := r.decide(true); err != nil {
		return err
	}
	if _, err := r.end(); err != nil {
		return err
	}
	if err := r.listed(release.RolloutID(r.project, "production")); err != nil {
		return err
	}
	req := request(r.project, "v2")
	req.Rollback = &release.Rollback{Environment: "production", Emergency: true, Reason: "it is wrong"}
	return r.begin(req)
}

// listed waits until a list shows the workflow as closed.
func (r *recording) listed(id string) error {
	for r.ctx.Err() == nil {
		list, err := r.c.ListWorkflow(r.ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowId = '" + id + "' AND ExecutionStatus = 'Completed'"})
		if err != nil || len(list.Executions) > 0 {
			return err
		}
	}
	return r.ctx.Err()
}

func (r *recording) abortsAsked() error {
	if _, err := r.asked(""); err != nil {
		return err
	}
	return r.c.CancelWorkflow(r.ctx, r.run.GetID(), "")
}

func (r *recording) abortsBaking() error {
	if err := r.decide(true); err != nil {
		return err
	}
	_, err := r.until(release.RolloutID(r.project, "production"), func(s release.Status) bool { return s.Phase == release.Baking })
	if err != nil {
		return err
	}
	return r.c.CancelWorkflow(r.ctx, r.run.GetID(), "")
}

const update = "POST /v1/apps/{app}/machines/{id}"

// neverPasses makes the first updated machine stay unhealthy.
func (r *recording) neverPasses() error {
	r.sim.Inject(flysim.Fault{Route: update, App: flyApp(r.project, "production", "api"), Times: 1, Effect: flysim.NeverPasses})
	return r.decide(true)
}

// noRoom makes the host of a machine refuse its new version. The release asks for approval
// of a plan that replaces the machine.
func (r *recording) noRoom() error {
	plan, err := r.asked("")
	if err != nil {
		return err
	}
	place := flyApp(r.project, "production", "api")
	full := r.sim.Machines(place)[0].ID
	r.sim.Inject(flysim.Fault{Route: update, App: place, Machine: full, Effect: flysim.NoCapacity})
	if err := r.answer(true, plan); err != nil {
		return err
	}
	if plan, err = r.asked(plan); err != nil {
		return err
	}
	return r.answer(true, plan)
}

// heldAfterCommand fails after an irreversible release command, so that the rollout is held.
func (r *recording) heldAfterCommand() error {
	if err := r.neverPasses(); err != nil {
		return err
	}
	return r.answerHeld(release.GoBack)
}

// held also makes Fly refuse the rollback until the resolution.
func held(choice release.Choice) func(*recording) error {
	return func(r *recording) error {
		if err := r.neverPasses(); err != nil {
			return err
		}
		r.sim.Inject(flysim.Fault{Route: update, App: flyApp(r.project, "production", "api"), Times: 1, Status: http.StatusUnprocessableEntity})
		return r.answerHeld(choice)
	}
}

// answerHeld resolves the rollout once it is held.
func (r *recording) answerHeld(choice release.Choice) error {
	rollout := release.RolloutID(r.project, "production")
	if _, err := r.until(rollout, func(s release.Status) bool { return s.Phase == release.HeldPhase }); err != nil {
		return err
	}
	u, err := r.c.UpdateWorkflow(r.ctx, client.UpdateWorkflowOptions{
		WorkflowID: rollout, UpdateName: release.AnswerUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{release.Answer{Choice: choice, By: "dora", Reason: "because"}},
	})
	if err != nil {
		return err
	}
	return u.Get(r.ctx, nil)
}
