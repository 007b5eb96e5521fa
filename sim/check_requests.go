package sim

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A seen is a request under way, and what it was about.
type checkedRequest struct {
	takesDown  *machineKey // takes this machine down, if it succeeds
	rollout    *rolloutRun
	setsConfig bool // gives a machine a config
	conflict   string
}

// asks looks at a request before it reaches Fly.
func (c *checker) checkRequest(req *http.Request, at *attempt) (s checkedRequest) {
	in, isStep := at.stepInput()
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
	if nonce := req.Header.Get("fly-machine-lease-nonce"); nonce != "" && c.isForeignLease(nonce) {
		c.sim.addViolation("%s goes by the lease of somebody else", in.Step)
	}
	if verb == "lease" || verb == "uncordon" || verb == "start" || verb == "wait" {
		return s
	}
	s.rollout = c.checkPlanned(app, in, at)
	if id == "" && in.Step.Verb == release.Run && s.rollout != nil {
		c.checkFirstCommand(app, s.rollout)
	}
	if id == "" || in.Step.Verb == release.Run {
		s.setsConfig = id == "" && in.Step.Verb == release.Create
		return s
	}
	s.setsConfig = verb == "" && req.Method == http.MethodPost
	if s.rollout != nil && s.setsConfig {
		s.conflict = c.findConflict(s.rollout, app, id, in.Step)
	}
	if s.rollout != nil && req.Method == http.MethodDelete && !in.Step.Exact {
		c.checkDestroy(s.rollout, app, id)
	}
	s.takesDown = c.checkAvailability(app, id, in.Step)
	return s
}

func (c *checker) recordResponse(s checkedRequest, status int) {
	if status >= 300 {
		return
	}
	if s.conflict != "" {
		c.sim.addViolation("%s", s.conflict)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.takesDown != nil {
		c.down[*s.takesDown] = true
	}
	if s.setsConfig && s.rollout != nil {
		s.rollout.lastChange = time.Now()
	}
}

// mustBeTheFirst: a release command runs once.
func (c *checker) checkFirstCommand(app string, r *rolloutRun) {
	if c.sim.operators.hasAnswered(r.id) {
		return // a person said to try again
	}
	for _, m := range c.sim.fly.Machines(app) {
		if isCommandMachine(m) && m.CreatedAt.After(r.started) && m.Metadata()[release.MetaRelease] == r.req.Release {
			c.sim.addViolation("the release command of %s gets a second machine; it has %s (%s)", app, m.ID, m.Name)
		}
	}
}

func (c *checker) isForeignLease(nonce string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.foreignLeases[nonce]
}

// conflict says what is overwritten that somebody else has made since the plan
// was, or "". Whether it is will be for Fly to say.
func (c *checker) findConflict(r *rolloutRun, app, id string, step release.Step) string {
	machines := c.listMachines(app)
	i := slices.IndexFunc(machines, func(m fly.Machine) bool { return m.ID == id })
	c.mu.Lock()
	defer c.mu.Unlock()
	if i < 0 || !c.foreignVersions[machines[i].InstanceID] || c.sim.operators.hasAnswered(r.id) {
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
func (c *checker) findSender(holder, environment string) *rolloutRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := c.openRollouts[environment]
	run, ok := release.HolderRun(holder)
	if !ok || open == nil || open.runID == run {
		return open
	}
	for _, r := range c.rollouts {
		if r.runID == run && r.isTerminated() {
			return r
		}
	}
	return open
}

// mayBeDestroyed: nothing that was there is destroyed before the new is verified.
func (c *checker) checkDestroy(r *rolloutRun, app, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.lastVerified.IsZero() && r.req.Plan.Revision != "" && slices.ContainsFunc(r.before[app], func(m fly.Machine) bool { return m.ID == id }) {
		c.sim.addViolation("machine %s of %s is destroyed before the new is verified", id, app)
	}
}

// mustBePlanned: what changes is in the plan of the rollout that is open, and
// apps that others need come first.
func (c *checker) checkPlanned(app string, in activities.StepInput, at *attempt) *rolloutRun {
	a, env, ok := c.sim.findApp(app)
	if !ok {
		c.sim.addViolation("a change of %s, which is no app of the project", app)
		return nil
	}
	select {
	case <-at.abandoned:
		return nil // nobody waits for what it does any more
	default:
	}
	r := c.findSender(in.Holder, env.Name)
	if r == nil {
		c.sim.addViolation("%s: a change outside of any rollout", in.Step)
		return nil
	}
	if r.staleReason != "" {
		c.sim.addViolation("%s: a plan is carried out that did not fit: %s", in.Step, r.staleReason)
	}
	if in.Step.Exact || in.Step.Verb != release.Update && in.Step.Verb != release.Create && in.Step.Verb != release.Run {
		return r
	}
	if !slices.ContainsFunc(r.req.Plan.Steps(), func(s release.Step) bool {
		return s.Verb == in.Step.Verb && s.FlyApp == app && s.Machine == in.Step.Machine && bytes.Equal(s.After, in.Step.After)
	}) {
		c.sim.addViolation("%s is not in the plan", in.Step)
	}
	c.checkNotBackward(app, in.Step, r)
	c.checkToldStateUnknown(r, in.Step)
	for _, need := range a.Needs {
		c.checkNeedDone(r, need, in.Step)
	}
	return r
}

// mustBeDone: nothing of an app that is needed is still under way.
func (c *checker) checkNeedDone(r *rolloutRun, need string, step release.Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.attempts {
		select {
		case <-a.abandoned:
			continue
		default:
		}
		if in, ok := a.stepInput(); ok && in.Step.FlyApp == flyAppOf(r.environment, need) && !in.Step.Exact {
			c.sim.addViolation("%s before %s, which it needs, is done", step, in.Step)
		}
	}
}

// mayTakeDown: never more machines down at once than the strategy allows. What
// trouble took down is not counted against us.
func (c *checker) checkAvailability(app, id string, step release.Step) *machineKey {
	a, env, _ := c.sim.findApp(app)
	machines := c.listMachines(app)
	i := slices.IndexFunc(machines, func(m fly.Machine) bool { return m.ID == id })
	if i < 0 || !isServing(machines[i]) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if step.Exact && c.idleAtRestore[machineKey{app, id}] {
		return nil // when the way back was planned, it did not serve
	}
	group := c.groupNameLocked(machines[i])
	r := c.openRollouts[env.Name]
	if r == nil || r.req.Plan.Revision == "" && step.Verb != release.Update || c.sim.hasTrouble("stale list") {
		return nil // or what runs was read from an old list, or a person's rollback, to what may have had fewer machines
	}
	served, running := 0, 0
	for _, m := range r.before[app] {
		if c.groupNameLocked(m) != group {
			continue
		}
		if isServing(m) {
			served++
		}
		if isRunning(m) {
			running++
		}
	}
	serving, excused := 0, 0
	if !c.changedByOthers[app].IsZero() { // a person may have destroyed some
		excused = max(0, len(r.before[app])-len(machines))
	}
	for _, m := range machines {
		switch p := (machineKey{app, m.ID}); {
		case c.groupNameLocked(m) != group:
		case isServing(m):
			serving++
			delete(c.down, p)
		case !c.down[p] && (!m.Cordoned || slices.ContainsFunc(r.before[app], func(b fly.Machine) bool { return b.ID == m.ID })):
			excused++ // also green that was well, and has traffic
		}
	}
	allowed := a.maxUnavailable(running)
	if a.Strategy == release.Immediate && !step.Exact {
		allowed = math.MaxInt
	}
	if down := served - (serving - 1) - excused; down > allowed && !slices.ContainsFunc(c.rollouts, func(r *rolloutRun) bool { return r.leavesMixed(env.Name) }) {
		c.sim.addViolation("%s takes down %d of the %d machines of group %s that served; %d are allowed", step, down, served, group, allowed)
	}
	return &machineKey{app, id}
}

// allowed is how many of a group's running machines may be down at once.
func (a App) maxUnavailable(running int) int {
	n, err := strconv.ParseFloat(a.MaxDown, 64)
	if err != nil {
		panic(err) // it is one of ours
	}
	if n < 1 {
		n = math.Ceil(n * float64(running))
	}
	return max(1, int(n))
}
