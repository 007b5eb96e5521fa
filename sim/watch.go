package sim

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A watch looks on while releases happen, and holds what it sees to what is
// guaranteed. It asks Fly itself, never the code that it watches.
type watch struct {
	w *world

	mu        sync.Mutex
	runs      []*rolloutRun
	open      map[string]*rolloutRun // by environment
	flying    map[*attempt]bool
	down      map[place]bool // machines that a step of ours took down, and that are not back
	foreign   map[string]time.Time
	leases    map[string]bool // nonces of strangers
	theirs    map[string]bool // versions that strangers made
	groups    map[string]string
	looked    map[string]time.Time   // when Verify last read an app's machines
	idle      map[place]bool         // machines that did not serve when a way back was last planned
	pins      map[string]time.Time   // open pins, by workflow ID
	scheduled map[string]scheduled   // activities of rollouts, by ID
	wholes    map[string]whole       // by environment
	named     map[string]*rolloutRun // by run ID of the test environment
	records   bool                   // the histories of rollouts
	helds     int
	admits    bool // a report said that something could not be done, or known
}

// A place is a machine in a Fly app.
type place struct{ app, machine string }

func newWatch(w *world) *watch {
	return &watch{w: w, open: map[string]*rolloutRun{}, flying: map[*attempt]bool{}, down: map[place]bool{}, foreign: map[string]time.Time{}, leases: map[string]bool{}, theirs: map[string]bool{}, groups: map[string]string{}, looked: map[string]time.Time{}, pins: map[string]time.Time{}, idle: map[place]bool{}, scheduled: map[string]scheduled{}, wholes: map[string]whole{}, named: map[string]*rolloutRun{}, records: w.endsWithoutReport()}
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
	if req.TakeOver {
		r.unfit = "" // its plan is not carried out
	}
	r.found = r.before
	if before := w.inherit(r.environment); before != nil {
		r.before = maps.Clone(r.found)
		for app := range r.found {
			if was, ok := before[app]; ok {
				r.before[app] = was
			}
		}
	}
	if req.Follows != "" {
		w.nameRun(id, req.Follows, req.Release)
	}
	w.starts(r)
	w.runs, w.open[r.environment] = append(w.runs, r), r
	w.mu.Unlock()
	if other != nil {
		w.w.violate("two rollouts of %s at once", r.environment)
	}
	w.approved(r)
	w.planIsShown(r.req.Plan)
	return r
}

// approved: nothing in an environment with a gate changes without enough
// decisions for exactly the plan that is executed.
func (w *watch) approved(r *rolloutRun) {
	if r.req.Plan.Lineage.Relation == release.Backward {
		return // it compares again, alone, and changes nothing: see mustNotGoBack
	}
	if r.req.Unchanged && r.req.Plan.Empty() {
		return // it records what runs, and has no steps: see mustBePlanned
	}
	i := slices.IndexFunc(w.w.Environments, func(e Environment) bool { return e.Name == r.environment })
	need := w.w.Environments[i].Approvals
	if have := len(w.w.crowd.approved[r.req.Plan.Hash]); have < need {
		w.w.violate("the rollout of plan %.8s in %s began with %d of %d approvals", r.req.Plan.Hash, r.environment, have, need)
	}
	if w.w.crowd.rejected[r.req.Plan.Hash] {
		w.w.violate("the rollout of plan %.8s in %s began, and somebody had said no", r.req.Plan.Hash, r.environment)
	}
}

// machines returns the machines of a Fly app, without those of commands and
// without those being destroyed: Fly never takes a destroy back, so no plan can
// count on such a machine.
func (w *watch) machines(app string) []fly.Machine {
	return slices.DeleteFunc(w.w.fly.Machines(app), func(m fly.Machine) bool { return isCommand(m) || m.State == "destroying" })
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
func (w *watch) ends(a *attempt, err error) {
	in, isStep := a.step()
	back := err != nil || in.Step.Unchecked
	if isStep && !back {
		others := w.isForeign(in.Step.FlyApp) // a person may have cordoned it
		back = slices.ContainsFunc(w.machines(in.Step.FlyApp), func(m fly.Machine) bool {
			return (m.ID == in.Step.Machine || m.Name == in.Step.Machine) && (serves(m) || others && healthy(m) || w.byProxy(in.Step.FlyApp) && atRest(m) || failedSince(m, time.Now().Add(-100*time.Millisecond)))
		})
	}
	if in, ok := a.in.(activities.LeaseInput); ok && a.name == "TakeLeases" && err != nil {
		w.mustNotWait(in, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.flying, a)
	if a.name == "RecordBaseline" && err == nil {
		for _, r := range w.runs {
			if r.run == a.run {
				r.recorded = time.Now()
			}
		}
	}
	if a.name == "Verify" && err == nil {
		for _, r := range w.open {
			r.verified, r.known = time.Now(), w.w.line.known()
		}
	}
	if isStep && back {
		delete(w.down, place{in.Step.FlyApp, in.Step.Machine})
	}
}

// failedSince says whether m has failed since then: an answer that it was well
// may still have been on its way.
func failedSince(m fly.Machine, then time.Time) bool {
	return slices.ContainsFunc(m.Events, func(e fly.Event) bool { return e.Type == "exit" && !e.At().Before(then) }) ||
		slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" && !c.UpdatedAt.Before(then) })
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

// unanswered notes a request whose answer was lost: Fly may have carried it out.
func (w *watch) unanswered(s seen) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.configs && s.run != nil {
		s.run.changed = time.Now()
	}
}

// mustBeTheFirst: a release command runs once.
func (w *watch) mustBeTheFirst(app string, r *rolloutRun) {
	if w.w.crowd.wasAsked(r.id) {
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

// plansBack hears that a way back is planned from what serves of an app now.
func (w *watch) plansBack(app string) {
	machines := w.machines(app)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range machines {
		w.idle[place{app, m.ID}] = !serves(m)
	}
}

// conflict says what is overwritten that somebody else has made since the plan
// was, or "". Whether it is will be for Fly to say.
func (w *watch) conflict(r *rolloutRun, app, id string, step release.Step) string {
	machines := w.machines(app)
	i := slices.IndexFunc(machines, func(m fly.Machine) bool { return m.ID == id })
	w.mu.Lock()
	defer w.mu.Unlock()
	if i < 0 || !w.theirs[machines[i].InstanceID] || w.w.crowd.wasAsked(r.id) {
		return "" // once a person was asked, they may have said so
	}
	j := slices.IndexFunc(r.found[app], func(m fly.Machine) bool { return m.ID == id })
	if j >= 0 && r.found[app][j].InstanceID == machines[i].InstanceID {
		return ""
	}
	return fmt.Sprintf("%s overwrites version %s, which somebody else has made meanwhile", step, machines[i].InstanceID)
}

// sender returns the run of a rollout that sent a change under holder's lease: the open
// one, or one that was terminated and had the request under way. It is nil if there is
// neither.
func (w *watch) sender(holder, environment string) *rolloutRun {
	w.mu.Lock()
	defer w.mu.Unlock()
	open := w.open[environment]
	run, ok := release.HolderRun(holder)
	if !ok || open == nil || open.run == run {
		return open
	}
	for _, r := range w.runs {
		if r.run == run && r.isTerminated() {
			return r
		}
	}
	return open
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
	r := w.sender(in.Holder, env.Name)
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
	w.mustNotGoBack(app, in.Step, r)
	w.mustHaveTold(r, in.Step)
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
	if i < 0 || !serves(machines[i]) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if step.Exact && w.idle[place{app, id}] {
		return nil // when the way back was planned, it did not serve
	}
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
