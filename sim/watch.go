package sim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A watch looks on while releases happen, and holds what it sees to what is
// guaranteed. It asks Fly itself, never the code that it watches.
type watch struct {
	w *world

	mu      sync.Mutex
	runs    []*rolloutRun
	open    map[string]*rolloutRun // by environment
	flying  map[*attempt]bool
	down    map[place]bool // machines that a step of ours took down, and that are not back
	foreign map[string]time.Time
	leases  map[string]bool // nonces of strangers
	theirs  map[string]bool // versions that strangers made
	groups  map[string]string
	looked  map[string]time.Time // when Verify last read an app's machines
	helds   int
	admits  bool // a report said that something could not be done, or known
}

// A place is a machine in a Fly app.
type place struct{ app, machine string }

// A rolloutRun is one run of a Rollout.
type rolloutRun struct {
	id, run, environment string
	req                  release.RolloutRequest
	begun, ended         time.Time
	before               map[string][]fly.Machine // by Fly app, when it began
	over                 chan struct{}
	report               *release.Report
	err                  error
	unfit                string    // why its plan did not fit when it began
	changed              time.Time // when it last gave a machine another config
	verified             time.Time // all was found well then
}

func (r *rolloutRun) result(value any) error {
	if r.err != nil || value == nil {
		return r.err
	}
	doc, err := json.Marshal(r.report)
	if err != nil {
		return err
	}
	return json.Unmarshal(doc, value)
}

func newWatch(w *world) *watch {
	return &watch{w: w, open: map[string]*rolloutRun{}, flying: map[*attempt]bool{}, down: map[place]bool{}, foreign: map[string]time.Time{}, leases: map[string]bool{}, theirs: map[string]bool{}, groups: map[string]string{}, looked: map[string]time.Time{}}
}

// observed tells the world what workflows do.
type observed struct {
	interceptor.WorkerInterceptorBase
	*world
	mu   sync.Mutex
	runs int
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (o *observed) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs++
	in := &observedWorkflow{world: o.world, run: fmt.Sprintf("run-%d", o.runs)}
	in.Next = next
	return in
}

type observedWorkflow struct {
	interceptor.WorkflowInboundInterceptorBase
	*world
	run string
}

// Init implements interceptor.WorkflowInboundInterceptor.
func (o *observedWorkflow) Init(out interceptor.WorkflowOutboundInterceptor) error {
	own := &outbound{world: o.world, run: o.run}
	own.Next = out
	return o.Next.Init(own)
}

// ExecuteWorkflow implements interceptor.WorkflowInboundInterceptor.
func (o *observedWorkflow) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	info := workflow.GetInfo(ctx)
	if info.WorkflowType.Name != "Rollout" {
		return o.Next.ExecuteWorkflow(ctx, in)
	}
	run := o.world.watch.rolloutBegins(info.WorkflowExecution.ID, o.run, in.Args[0].(release.RolloutRequest))
	result, err := o.Next.ExecuteWorkflow(ctx, in)
	report, _ := result.(*release.Report)
	o.world.watch.rolloutEnds(run, report, err)
	return result, err
}

type outbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	*world
	run string
}

// GetInfo implements interceptor.WorkflowOutboundInterceptor: the environment
// gives all runs of a workflow ID the same run ID.
func (o *outbound) GetInfo(ctx workflow.Context) *workflow.Info {
	info := *o.Next.GetInfo(ctx)
	info.WorkflowExecution.RunID = o.run
	return &info
}

// unstaffed is added to the time that an attempt may take: the environment
// counts the time that it waits for a worker, too. The staff keeps the limit.
const unstaffed = 1000 * time.Hour

// ExecuteActivity implements interceptor.WorkflowOutboundInterceptor.
func (o *outbound) ExecuteActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	options := workflow.GetActivityOptions(ctx)
	o.staff.allow(name, options.StartToCloseTimeout)
	options.StartToCloseTimeout += unstaffed
	return o.Next.ExecuteActivity(workflow.WithActivityOptions(ctx, options), name, args...)
}

// UpsertTypedSearchAttributes implements interceptor.WorkflowOutboundInterceptor.
func (o *outbound) UpsertTypedSearchAttributes(ctx workflow.Context, updates ...temporal.SearchAttributeUpdate) error {
	set := temporal.NewSearchAttributes(updates...)
	p, _ := set.GetKeyword(temporal.NewSearchAttributeKeyKeyword(release.AttrPhase))
	env, _ := set.GetKeyword(temporal.NewSearchAttributeKeyKeyword(release.AttrEnvironment))
	o.crowd.phase(o.Next.GetInfo(ctx).WorkflowExecution.ID, release.Phase(p), env)
	return nil
}

func (w *watch) rolloutBegins(id, run string, req release.RolloutRequest) *rolloutRun {
	r := &rolloutRun{id: id, run: run, environment: req.Plan.Environment, req: req, begun: time.Now(), over: make(chan struct{}), before: map[string][]fly.Machine{}}
	for _, t := range req.Plan.Targets {
		r.before[t.FlyApp] = w.machines(t.FlyApp)
	}
	w.mu.Lock()
	if !w.w.hasTrouble("stale list") { // what it reads is old, and it can't know
		r.unfit = r.stale()
	}
	other := w.open[r.environment]
	w.runs, w.open[r.environment] = append(w.runs, r), r
	w.mu.Unlock()
	if other != nil {
		w.w.violate("two rollouts of %s at once", r.environment)
	}
	w.approved(r)
	return r
}

// stale says why the plan does not fit what Fly runs, by our own reading.
func (r *rolloutRun) stale() string {
	for _, t := range r.req.Plan.Targets {
		if n := len(r.before[t.FlyApp]); n != len(t.Seen) {
			return fmt.Sprintf("%s has %d machines, and the plan was made for %d", t.FlyApp, n, len(t.Seen))
		}
		for _, m := range r.before[t.FlyApp] {
			if t.Seen[m.ID] != m.InstanceID {
				return fmt.Sprintf("machine %s is at version %s, and the plan was made for %q", m.ID, m.InstanceID, t.Seen[m.ID])
			}
		}
	}
	return ""
}

// approved: nothing in an environment with a gate changes without enough
// decisions for exactly the plan that is executed.
func (w *watch) approved(r *rolloutRun) {
	i := slices.IndexFunc(w.w.Environments, func(e Environment) bool { return e.Name == r.environment })
	need := w.w.Environments[i].Approvals
	if have := len(w.w.crowd.approved[r.req.Plan.Hash]); have < need {
		w.w.violate("the rollout of plan %.8s in %s began with %d of %d approvals", r.req.Plan.Hash, r.environment, have, need)
	}
	if w.w.crowd.rejected[r.req.Plan.Hash] {
		w.w.violate("the rollout of plan %.8s in %s began, and somebody had said no", r.req.Plan.Hash, r.environment)
	}
}

// machines are those of a Fly app that are no command's.
func (w *watch) machines(app string) []fly.Machine {
	return slices.DeleteFunc(w.w.fly.Machines(app), func(m fly.Machine) bool { return isCommand(m) })
}

func isCommand(m fly.Machine) bool {
	return bytes.Contains(configOf(m), []byte("fly_app_")) && strings.HasPrefix(m.Metadata()["fly_process_group"], "fly_app_")
}

// groupOf is the process group of m. The same few configs are asked for again
// and again.
func (w *watch) groupOf(m fly.Machine) string {
	group, ok := w.groups[string(configOf(m))]
	if !ok {
		group = cmp.Or(m.Metadata()["fly_process_group"], "app")
		w.groups[string(configOf(m))] = group
	}
	return group
}

func (w *watch) begins(a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flying[a] = true
}

// ends hears how an attempt ended. A step that is done leaves its machine well,
// or it was said to be done too early.
func (w *watch) ends(a *attempt, _ any, err error) {
	in, isStep := a.step()
	back := err != nil || in.Step.Unchecked
	if isStep && !back {
		others := w.isForeign(in.Step.FlyApp) // a person may have cordoned it
		back = slices.ContainsFunc(w.machines(in.Step.FlyApp), func(m fly.Machine) bool {
			return (m.ID == in.Step.Machine || m.Name == in.Step.Machine) && (serves(m) || others && healthy(m))
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.flying, a)
	if a.name == "Verify" && err == nil {
		for _, r := range w.open {
			r.verified = time.Now()
		}
	}
	if isStep && back {
		delete(w.down, place{in.Step.FlyApp, in.Step.Machine})
	}
}

// silent: nobody will hear how an attempt ended.
func (w *watch) silent(a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.flying, a)
}

// A seen is a request under way, and what it was about.
type seen struct {
	takes    *place // takes this machine down, if it succeeds
	run      *rolloutRun
	configs  bool // gives a machine a config
	conflict string
}

// asks looks at a request before it reaches Fly.
func (w *watch) asks(req *http.Request, at *attempt) (s seen) {
	in, isStep := at.step()
	if !isStep || req.Method == http.MethodGet {
		return s
	}
	rest, ok := strings.CutPrefix(req.URL.Path, "/v1/apps/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 2 || parts[1] != "machines" {
		return s
	}
	app, id, verb := parts[0], "", ""
	if len(parts) > 2 {
		id = parts[2]
	}
	if len(parts) > 3 {
		verb = parts[3]
	}
	if nonce := req.Header.Get("fly-machine-lease-nonce"); nonce != "" && w.isTheirs(nonce) {
		w.w.violate("%s goes by the lease of somebody else", in.Step)
	}
	if verb == "lease" || verb == "uncordon" || verb == "start" || verb == "wait" {
		return s
	}
	s.run = w.mustBePlanned(app, in, at)
	if id == "" && in.Step.Verb == release.Run && s.run != nil {
		w.mustBeTheFirst(app, s.run)
	}
	if id == "" || in.Step.Verb == release.Run {
		s.configs = id == "" && in.Step.Verb == release.Create
		return s
	}
	s.configs = verb == "" && req.Method == http.MethodPost
	if s.run != nil && s.configs {
		s.conflict = w.conflict(s.run, app, id, in.Step)
	}
	if s.run != nil && req.Method == http.MethodDelete && !in.Step.Exact {
		w.mayBeDestroyed(s.run, app, id)
	}
	s.takes = w.mayTakeDown(app, id, in.Step)
	return s
}

func (w *watch) answered(s seen, status int) {
	if status >= 300 {
		return
	}
	if s.conflict != "" {
		w.w.violate("%s", s.conflict)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.takes != nil {
		w.down[*s.takes] = true
	}
	if s.configs && s.run != nil {
		s.run.changed = time.Now()
	}
}

// mustBeTheFirst: a release command runs once.
func (w *watch) mustBeTheFirst(app string, r *rolloutRun) {
	if w.w.crowd.tries[r.id] > 0 {
		return // a person said to try again
	}
	for _, m := range w.w.fly.Machines(app) {
		if isCommand(m) && m.CreatedAt.After(r.begun) && m.Metadata()[release.MetaRelease] == r.req.Release {
			w.w.violate("the release command of %s gets a second machine; it has %s (%s)", app, m.ID, m.Name)
		}
	}
}

func (w *watch) isTheirs(nonce string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leases[nonce]
}

// looks hears of a list that an activity has read.
func (w *watch) looks(app string, at *attempt) {
	if at == nil || at.name != "Verify" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looked[app] = time.Now()
}

// conflict says what is overwritten that somebody else has made since the plan
// was, or "". Whether it is will be for Fly to say.
func (w *watch) conflict(r *rolloutRun, app, id string, step release.Step) string {
	machines := w.machines(app)
	i := slices.IndexFunc(machines, func(m fly.Machine) bool { return m.ID == id })
	w.mu.Lock()
	defer w.mu.Unlock()
	if i < 0 || !w.theirs[machines[i].InstanceID] || w.w.crowd.tries[r.id] > 0 {
		return "" // once a person was asked, they may have said so
	}
	j := slices.IndexFunc(r.before[app], func(m fly.Machine) bool { return m.ID == id })
	if j >= 0 && r.before[app][j].InstanceID == machines[i].InstanceID {
		return ""
	}
	return fmt.Sprintf("%s overwrites version %s, which somebody else has made meanwhile", step, machines[i].InstanceID)
}

// mayBeDestroyed: nothing that was there is destroyed before the new is verified.
func (w *watch) mayBeDestroyed(r *rolloutRun, app, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.verified.IsZero() && r.req.Plan.Revision != "" && slices.ContainsFunc(r.before[app], func(m fly.Machine) bool { return m.ID == id }) {
		w.w.violate("machine %s of %s is destroyed before the new is verified", id, app)
	}
}

// mustBePlanned: what changes is in the plan of the rollout that is open, and
// apps that others need come first.
func (w *watch) mustBePlanned(app string, in activities.StepInput, at *attempt) *rolloutRun {
	a, env, ok := w.w.app(app)
	if !ok {
		w.w.violate("a change of %s, which is no app of the project", app)
		return nil
	}
	select {
	case <-at.gone:
		return nil // nobody waits for what it does any more
	default:
	}
	w.mu.Lock()
	r := w.open[env.Name]
	w.mu.Unlock()
	if r == nil {
		w.w.violate("%s: a change outside of any rollout", in.Step)
		return nil
	}
	if r.unfit != "" {
		w.w.violate("%s: a plan is carried out that did not fit: %s", in.Step, r.unfit)
	}
	if in.Step.Exact || in.Step.Verb != release.Update && in.Step.Verb != release.Create && in.Step.Verb != release.Run {
		return r
	}
	if !slices.ContainsFunc(r.req.Plan.Steps(), func(s release.Step) bool {
		return s.Verb == in.Step.Verb && s.FlyApp == app && s.Machine == in.Step.Machine && bytes.Equal(s.After, in.Step.After)
	}) {
		w.w.violate("%s is not in the plan", in.Step)
	}
	for _, need := range a.Needs {
		w.mustBeDone(r, need, in.Step)
	}
	return r
}

// mustBeDone: nothing of an app that is needed is still under way.
func (w *watch) mustBeDone(r *rolloutRun, need string, step release.Step) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a := range w.flying {
		select {
		case <-a.gone:
			continue
		default:
		}
		if in, ok := a.step(); ok && in.Step.FlyApp == flyApp(r.environment, need) && !in.Step.Exact {
			w.w.violate("%s before %s, which it needs, is done", step, in.Step)
		}
	}
}

// mayTakeDown: never more machines down at once than the strategy allows. What
// trouble took down is not counted against us.
func (w *watch) mayTakeDown(app, id string, step release.Step) *place {
	a, env, _ := w.w.app(app)
	machines := w.machines(app)
	i := slices.IndexFunc(machines, func(m fly.Machine) bool { return m.ID == id })
	if i < 0 || !serves(machines[i]) || step.Exact && justCame(machines[i]) {
		return nil // when the way back was planned, it did not serve
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	group := w.groupOf(machines[i])
	r := w.open[env.Name]
	if r == nil || r.req.Plan.Revision == "" && step.Verb != release.Update || w.w.hasTrouble("stale list") {
		return nil // or what runs was read from an old list, or a person's rollback, to what may have had fewer machines
	}
	served, running := 0, 0
	for _, m := range r.before[app] {
		if w.groupOf(m) != group {
			continue
		}
		if serves(m) {
			served++
		}
		if runs(m) {
			running++
		}
	}
	serving, excused := 0, 0
	if !w.foreign[app].IsZero() { // a person may have destroyed some
		excused = max(0, len(r.before[app])-len(machines))
	}
	for _, m := range machines {
		switch p := (place{app, m.ID}); {
		case w.groupOf(m) != group:
		case serves(m):
			serving++
			delete(w.down, p)
		case !w.down[p] && (!m.Cordoned || slices.ContainsFunc(r.before[app], func(b fly.Machine) bool { return b.ID == m.ID })):
			excused++ // also green that was well, and has traffic
		}
	}
	allowed := a.allowed(running)
	if a.Strategy == release.Immediate && !step.Exact {
		allowed = math.MaxInt
	}
	if down := served - (serving - 1) - excused; down > allowed && !slices.ContainsFunc(w.runs, func(r *rolloutRun) bool { return r.leftIn(env.Name) }) {
		w.w.violate("%s takes down %d of the %d machines of group %s that served; %d are allowed", step, down, served, group, allowed)
	}
	return &place{app, id}
}

// justCame says whether a machine serves only since a few seconds.
func justCame(m fly.Machine) bool {
	just := time.Now().Add(-15 * time.Second)
	return m.UpdatedAt.After(just) || slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.UpdatedAt.After(just) })
}

// allowed is how many of a group's running machines may be down at once.
func (a App) allowed(running int) int {
	n, err := strconv.ParseFloat(a.MaxDown, 64)
	if err != nil {
		panic(err) // it is one of ours
	}
	if n < 1 {
		n = math.Ceil(n * float64(running))
	}
	return max(1, int(n))
}

func runs(m fly.Machine) bool {
	return !slices.Contains([]string{"stopped", "suspended", "created", "failed", "destroyed"}, m.State)
}

func serves(m fly.Machine) bool { return healthy(m) && !m.Cordoned }

func (w *watch) rolloutEnds(r *rolloutRun, report *release.Report, err error) {
	w.mu.Lock()
	r.ended, r.report, r.err = time.Now(), report, err
	delete(w.open, r.environment)
	w.mu.Unlock()
	close(r.over)
	var failed *temporal.ApplicationError
	switch {
	case err != nil && errors.As(err, &failed) && failed.Type() == release.KindStranded:
		if w.w.crowd.tries[r.id] == 0 {
			w.w.violate("%s is stranded, and nobody gave up on it: %v", r.id, err)
		}
	case err != nil:
		w.w.violate("%s failed: %v", r.id, err)
	case report == nil:
		w.w.violate("%s ended without a report", r.id)
	default:
		w.judge(r, *report)
		w.reportIsTrue(*report)
	}
}

// judge holds an outcome to what Fly runs now.
func (w *watch) judge(r *rolloutRun, report release.Report) {
	switch report.Outcome {
	case release.Promoted:
		w.mustBePromoted(r)
	case release.RolledBack, release.Stopped:
		if report.Outcome == release.Stopped || w.w.crowd.tries[r.id] == 0 || !w.touched(r) {
			w.mustBeAsBefore(r, report)
		}
	case release.Kept:
		if w.w.crowd.tries[r.id] == 0 {
			w.w.violate("%s was kept by nobody's word", r.id)
		}
	default:
		w.w.violate("%s ended %q", r.id, report.Outcome)
	}
}

// touched says whether strangers changed something that r is about since it
// was planned.
func (w *watch) touched(r *rolloutRun) bool {
	for app := range r.before {
		if w.isForeign(app) {
			return true
		}
	}
	return false
}

func (w *watch) isForeign(app string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.foreign[app].IsZero()
}

// mustBePromoted: every machine runs what the revision says, as it was found:
// started or stopped, cordoned or not, and well.
func (w *watch) mustBePromoted(r *rolloutRun) {
	if baked := time.Since(r.changed); baked < time.Duration(r.req.Bake) && !r.changed.IsZero() {
		w.w.violate("%s was promoted %s after its last change; it was to bake for %s", r.id, baked, r.req.Bake)
	}
	if r.keepsOld() {
		return
	}
	if r.req.Plan.Revision == "" {
		return // a rollback: the baseline that it leads to is what afterwards compares
	}
	version := versionOf(r.req.Revision.Commit)
	for app, before := range r.before {
		if looked := w.lookedAt(app); looked.Before(r.changed) && len(before) > 0 {
			w.w.violate("%s was promoted, and nobody has read its machines since the last change, %s before", app, time.Since(r.changed))
		}
		if w.isForeign(app) {
			continue
		}
		a, env, _ := w.w.app(app)
		now := w.machines(app)
		count := w.perGroup(now, before)
		for _, m := range now {
			if m.ImageRef.Digest != a.digest(version) {
				w.w.violate("%s was promoted to %s, and machine %s runs %s", app, version, m.ID, m.ImageRef.Digest)
			}
			if got := levelOf(m); got != a.at(version) && m.HostStatus != "unreachable" {
				w.w.violate("%s was promoted to %s, and machine %s has the config of %q", app, version, m.ID, got)
			}
			w.mustBeWell(r, app, m)
		}
		for _, g := range a.Groups {
			if n := count[g.Name]; n != 0 && !env.Empty && !w.left(r.environment) {
				w.w.violate("%s was promoted, and has %+d machines of group %s", app, n, g.Name)
			}
		}
	}
}

func (w *watch) lookedAt(app string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looked[app]
}

// perGroup is how many machines more than before each group has now.
func (w *watch) perGroup(now, before []fly.Machine) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := map[string]int{}
	for _, m := range now {
		count[w.groupOf(m)]++
	}
	for _, m := range before {
		count[w.groupOf(m)]--
	}
	return count
}

// left says whether a person has left that environment between two states: it
// may have machines of both.
func (w *watch) left(environment string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.runs, func(r *rolloutRun) bool { return r.leftIn(environment) })
}

func (r *rolloutRun) leftIn(environment string) bool {
	return r.environment == environment && !r.ended.IsZero() && (r.err != nil || r.report != nil && (r.report.Outcome == release.Kept || r.keepsOld()))
}

// keepsOld says whether a person let the old stay beside the new.
func (r *rolloutRun) keepsOld() bool {
	return r.report != nil && strings.Contains(strings.Join(r.report.Notes, "\n"), "what is left of the old stays")
}

// mustBeWell: a machine of something promoted is as well as it was, unless that
// has changed only just now.
func (w *watch) mustBeWell(r *rolloutRun, app string, m fly.Machine) {
	before := r.before[app]
	i := slices.IndexFunc(before, func(b fly.Machine) bool { return b.ID == m.ID })
	just := r.verified.Add(-5*time.Second - 6*time.Duration(w.w.Poll))
	recent := m.UpdatedAt.After(just) || slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.UpdatedAt.After(just) })
	switch {
	case m.HostStatus == "unreachable":
		// Whether it was seen in time is for the verdicts to say.
	case i < 0 && m.Cordoned, i >= 0 && m.Cordoned != before[i].Cordoned && !recent && !w.left(r.environment):
		w.w.violate("%s was promoted, and machine %s is cordoned: %t", app, m.ID, m.Cordoned)
	case i >= 0 && !runs(before[i]) && before[i].State != "failed":
		if runs(m) && !recent {
			w.w.violate("%s was promoted, and machine %s, which was %s, is %s", app, m.ID, before[i].State, m.State)
		}
	case i >= 0 && !healthy(before[i]) && m.InstanceID == before[i].InstanceID:
		// It was sick, and nothing was to be done to it.
	case !healthy(m) && !recent && (i >= 0 || runs(m)):
		w.w.violate("%s was promoted, and machine %s is %s with checks %v", app, m.ID, m.State, m.Checks)
	}
}

func levelOf(m fly.Machine) string {
	var c struct{ Env map[string]string }
	if json.Unmarshal(configOf(m), &c) != nil {
		return ""
	}
	return c.Env["LEVEL"]
}

func configOf(m fly.Machine) json.RawMessage {
	if len(m.Config) > 0 {
		return m.Config
	}
	return m.IncompleteConfig
}

// mustBeAsBefore: every machine is exactly what it was when the rollout began.
func (w *watch) mustBeAsBefore(r *rolloutRun, report release.Report) {
	for app, before := range r.before {
		if w.isForeign(app) || w.w.hasTrouble("stale list") { // it had no way to know
			continue
		}
		now := w.machines(app)
		for _, was := range before {
			i := slices.IndexFunc(now, func(m fly.Machine) bool { return m.ID == was.ID })
			if i < 0 {
				i = slices.IndexFunc(now, func(m fly.Machine) bool { return m.Name == was.Name })
				if i >= 0 && !strings.Contains(strings.Join(report.Notes, "\n"), was.ID) {
					w.w.violate("%s %s: machine %s was made again, and no note says so", r.id, report.Outcome, was.ID)
				}
			}
			if i < 0 {
				w.w.violate("%s %s: machine %s of %s is gone", r.id, report.Outcome, was.ID, app)
				continue
			}
			w.mustEqual(r, report, app, was, now[i])
		}
		for _, m := range now {
			if !slices.ContainsFunc(before, func(b fly.Machine) bool { return b.ID == m.ID || b.Name == m.Name }) {
				w.w.violate("%s %s: machine %s (%s) of %s is new", r.id, report.Outcome, m.ID, m.Name, app)
			}
		}
	}
}

func (w *watch) mustEqual(r *rolloutRun, report release.Report, app string, was, is fly.Machine) {
	said := func(what string, was, is any) {
		w.w.violate("%s %s: %s of machine %s of %s was %v and is %v", r.id, report.Outcome, what, is, app, was, is)
	}
	if was.ImageRef.Digest != is.ImageRef.Digest {
		said("the image", was.ImageRef.Digest, is.ImageRef.Digest)
	}
	if is.HostStatus != "unreachable" && was.HostStatus != "unreachable" && !sameDoc(was.Config, is.Config) {
		w.w.violate("%s %s: the config of machine %s of %s is not what it was:\n%s\n%s", r.id, report.Outcome, is.ID, app, was.Config, is.Config)
	}
	if was.Cordoned != is.Cordoned {
		said("the cordon", was.Cordoned, is.Cordoned)
	}
	if runs(was) != runs(is) && was.InstanceID != is.InstanceID && !w.w.lasting() {
		said("the state", was.State, is.State)
	}
}

// sameDoc compares JSON by its meaning.
func sameDoc(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, errP := json.Marshal(x)
	q, errQ := json.Marshal(y)
	return errP == nil && errQ == nil && bytes.Equal(p, q)
}

// reportIsTrue: what a report says of each machine is so.
func (w *watch) reportIsTrue(report release.Report) {
	notes := strings.Join(report.Notes, "\n")
	for _, admitted := range []string{"could be removed (leases", "could not be read, so that"} {
		w.admits = w.admits || strings.Contains(notes, admitted)
	}
	if report.Outcome != release.Promoted && report.Outcome != release.RolledBack || w.w.hasTrouble("stale list") || w.admits {
		return
	}
	for _, e := range report.Environments {
		for _, v := range e.Verdicts {
			if report.Outcome == release.Promoted && v.Health != release.Healthy {
				w.w.violate("the report of %s says promoted, and that %s is %s", report.ID, v.Target, v.Health)
			}
		}
		for _, t := range e.Targets {
			if w.isForeign(t.FlyApp) {
				continue
			}
			now := w.machines(t.FlyApp)
			for _, said := range t.Machines {
				i := slices.IndexFunc(now, func(m fly.Machine) bool { return m.ID == said.ID || said.ID == "" && m.Name == said.Name })
				switch {
				case i < 0:
					w.w.violate("the report of %s names machine %s (%s) of %s, which is not there", report.ID, said.ID, said.Name, t.FlyApp)
				case said.Image.Digest() != now[i].ImageRef.Digest:
					w.w.violate("the report of %s says that machine %s of %s runs %s; it runs %s", report.ID, said.ID, t.FlyApp, said.Image.Digest(), now[i].ImageRef.Digest)
				}
			}
			for _, m := range now {
				if !slices.ContainsFunc(t.Machines, func(said release.MachineStatus) bool { return said.ID == m.ID }) {
					w.w.violate("the report of %s does not name machine %s (%s) of %s", report.ID, m.ID, m.Name, t.FlyApp)
				}
			}
		}
	}
}

// held: a rollout that asks a person says why, and which machine is what.
func (w *watch) held(id string, h release.Held) {
	w.mu.Lock()
	w.helds++
	w.mu.Unlock()
	if h.Why == "" || len(h.Choices) == 0 {
		w.w.violate("%s is held without a reason: %+v", id, h)
	}
	all := func(t Trouble) bool { return !t.kind().passes }
	if strings.HasPrefix(h.Why, "the baseline could not be brought back") && !slices.ContainsFunc(w.w.Troubles, all) {
		w.w.violate("%s is held, and there is no trouble that would keep the baseline from coming back: %s", id, h.Why)
	}
}

// ended looks at how a release of the case ended.
func (w *world) ended(id string, o Order, report *release.Report, err error) {
	w.count(report, err)
	w.crowd.over[id] = true
	if w.result.First == "" {
		w.result.First = outcomeOf(report, err)
	}
	w.tell("%s ended: %s", id, said(report, err))
	var failed *temporal.ApplicationError
	switch {
	case err != nil && errors.As(err, &failed) && failed.Type() == release.KindStranded:
	case err != nil:
		w.violate("%s failed: %v", id, err)
	case report.Outcome == "":
		w.violate("%s ended without an outcome", id)
	case report.Outcome != release.Promoted && report.Outcome != release.Unchanged && report.Cause == nil:
		w.violate("%s is %s, and does not say why", id, report.Outcome)
	}
	if err == nil && w.mustPromote(o) && report.Outcome != release.Promoted && report.Outcome != release.Unchanged {
		w.violate("%s should have been promoted, and is %s", id, said(report, err))
	}
}

// mustPromote: without trouble, or with trouble that passes by itself, a
// release is promoted, and nobody is asked but at its gates.
func (w *world) mustPromote(o Order) bool {
	if o.Abort > 0 || o.Rollback || len(w.Releases) > 1 {
		return false
	}
	for _, d := range o.Decisions {
		if d.Reject {
			return false
		}
	}
	valid := map[string]bool{}
	for _, d := range o.Decisions {
		if d.valid() && time.Duration(d.After) < time.Duration(gateTimeout) {
			valid[d.By] = true
		}
	}
	for _, e := range w.Environments {
		if len(valid) < e.Approvals {
			return false
		}
	}
	for _, a := range w.Apps {
		for _, g := range a.Groups {
			if slices.ContainsFunc(g.Machines, func(s State) bool { return s.Sick }) {
				return false
			}
		}
	}
	return !slices.ContainsFunc(w.Troubles, func(t Trouble) bool { return !t.kind().passes })
}

// endedAfterwards: the release after all trouble is promoted, or finds nothing
// to do; and then nothing of any release is left on Fly.
func (w *world) endedAfterwards(id string, o Order, report *release.Report, err error, promoted bool) {
	w.count(report, err)
	w.tell("%s ended: %s", id, said(report, err))
	if err != nil || report.Outcome != release.Promoted && report.Outcome != release.Unchanged {
		w.violate("the release after all trouble was not promoted: %s", said(report, err))
	}
	foreign := false
	for _, e := range w.Environments {
		foreign = foreign || w.watch.left(e.Name)
		for _, a := range w.Apps {
			foreign = foreign || w.watch.isForeign(flyApp(e.Name, a.Name))
		}
	}
	if err == nil && promoted && report.Outcome != release.Unchanged && !foreign && len(w.Releases) == 1 && !slices.ContainsFunc(w.Releases, func(o Order) bool { return len(o.Apps) > 0 }) {
		w.violate("a second release of %s was not unchanged: %s", o.Version, said(report, err))
	}
	w.mustBeClean()
}

// mustBeClean: no lease, command machine or running Fly release is left.
func (w *world) mustBeClean() {
	if w.watch.admits {
		return // people were told what may be left
	}
	for _, e := range w.Environments {
		for _, a := range w.Apps {
			app := flyApp(e.Name, a.Name)
			for machine, l := range w.fly.Leases(app) {
				if !w.watch.leases[l.Nonce] && !strings.HasPrefix(l.Owner, "somebody-else") {
					w.violate("a lease is left on machine %s of %s until %s", machine, app, l.Expires.Format(time.TimeOnly))
				}
			}
			for _, m := range w.fly.Machines(app) {
				if isCommand(m) && m.State != "destroying" {
					w.violate("machine %s (%s) of %s is left, %s", m.ID, m.Name, app, m.State)
				}
			}
			for _, r := range w.fly.Releases(app) {
				if r.Status == "running" || r.Status == "pending" {
					w.violate("Fly release v%d of %s is left %s", r.Version, app, r.Status)
				}
			}
		}
	}
}

func (w *world) hasTrouble(kind string) bool {
	return slices.ContainsFunc(w.Troubles, func(t Trouble) bool { return t.Kind == kind })
}

// lasting says whether some machines may be ill for long, and end by themselves.
func (w *world) lasting() bool {
	return slices.ContainsFunc(w.Troubles, func(t Trouble) bool { return t.kind().lasts })
}

// settled: what releases took down is back, or never will be.
func (w *watch) settled() {
	w.w.mustBeClean()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down, w.flying = map[place]bool{}, map[*attempt]bool{}
}

func (w *watch) lastRun(id string) *rolloutRun {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range slices.Backward(w.runs) {
		if r.id == id {
			return r
		}
	}
	return nil
}

func (w *watch) findRun(id, run string) *rolloutRun {
	if run == "" {
		return w.lastRun(id)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		if r.id == id && r.run == run {
			return r
		}
	}
	return nil
}

func (w *watch) completed(query string) (all []*rolloutRun) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range slices.Backward(w.runs) {
		if !r.ended.IsZero() && r.err == nil && strings.Contains(query, "'"+r.id+"'") {
			all = append(all, r)
		}
	}
	return all
}
