package simulation

import (
	"bytes"
	"cmp"
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

// A checkedRequest is a request on its way to Fly, with the data that recordResponse
// needs.
type checkedRequest struct {
	takesDown  *machineKey // the machine that it takes out of service
	rollout    *rolloutRun // nil for an attempt whose result Temporal ignores
	sender     *rolloutRun // also for such an attempt
	setsConfig bool        // whether it gives a machine a config
	conflict   string
}

// checkRequest checks a request of ApplyStep before it reaches Fly.
func (c *checker) checkRequest(req *http.Request, at *attempt) (s checkedRequest) {
	in, isStep := at.stepInput()
	if !isStep || req.Method == http.MethodGet {
		return s
	}
	app, id, verb, ok := splitMachinePath(req.URL.Path)
	if !ok {
		return s
	}
	if nonce := req.Header.Get("fly-machine-lease-nonce"); nonce != "" && c.isForeignLease(nonce) {
		c.sim.addViolation("%s uses the lease of someone else", in.Step)
	}
	if slices.Contains([]string{"lease", "uncordon", "start", "wait"}, verb) {
		return s
	}
	s.rollout = c.checkPlanned(app, in, at)
	s.sender = cmp.Or(s.rollout, c.runOf(at))
	if id == "" && in.Step.Verb == release.Run && s.rollout != nil {
		c.checkFirstCommand(app, s.rollout)
	}
	if id == "" || in.Step.Verb == release.Run {
		s.setsConfig = id == "" && in.Step.Verb == release.Create
		return s
	}
	s.setsConfig = verb == "" && req.Method == http.MethodPost
	if s.rollout != nil {
		c.checkChange(&s, req.Method, app, id, in.Step)
	}
	s.takesDown = c.checkAvailability(app, id, in.Step)
	if s.rollout != nil {
		c.checkOldServe(s.rollout, app, id, in.Step)
	}
	return s
}

// failingFor is how long the checks of a machine must have failed so that a rollout knows.
const failingFor = 10 * time.Second

// checkOldServe reports a violation if a rollback takes the last serving machine of a
// group, a new one, out of service while the old machines, which passed their checks in
// the baseline, fail them.
func (c *checker) checkOldServe(r *rolloutRun, app, id string, step release.Step) {
	if step.Verb != release.Cordon && step.Verb != release.Stop && step.Verb != release.Destroy {
		return
	}
	machines := c.listMachines(app)
	m, exists := findMachine(machines, id)
	if _, isOld := findMachine(r.before[app], id); isOld || !exists || !isServing(m) {
		return
	}
	failing := false
	for _, other := range machines {
		before, isOld := findMachine(r.before[app], other.ID)
		switch {
		case other.ID == id || c.groupName(other) != c.groupName(m):
		case isServing(other):
			return
		case isOld && isServing(before):
			failing = failing || r.hasTurnedCritical(other)
		}
	}
	if failing {
		c.sim.addViolation("%s takes the last serving machine of group %s out of service, but the old machines fail", step, c.groupName(m))
	}
}

// hasTurnedCritical reports whether a check of m turned critical since the baseline of r
// was read, and long enough ago for r to know.
func (r *rolloutRun) hasTurnedCritical(m fly.Machine) bool {
	return slices.ContainsFunc(m.Checks, func(check fly.Check) bool {
		return check.Status == "critical" && time.Since(check.UpdatedAt) > failingFor && check.UpdatedAt.After(r.baselineRead)
	})
}

// checkChange checks a request of a rollout that changes or destroys a machine.
func (c *checker) checkChange(s *checkedRequest, method, app, id string, step release.Step) {
	if s.setsConfig {
		s.conflict = c.findConflict(s.rollout, app, id, step)
	}
	if method == http.MethodDelete && !step.Verbatim {
		c.checkDestroy(s.rollout, app, id)
	}
}

// splitMachinePath returns the parts of the path of a request for machines. It returns
// false for other paths.
func splitMachinePath(path string) (app, id, verb string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v1/apps/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 2 || parts[1] != "machines" {
		return "", "", "", false
	}
	if len(parts) > 2 {
		id = parts[2]
	}
	if len(parts) > 3 {
		verb = parts[3]
	}
	return parts[0], id, verb, true
}

// recordResponse records the effect of a request that Fly has answered.
func (c *checker) recordResponse(s checkedRequest, status int) {
	if status == http.StatusRequestTimeout || status >= 500 {
		c.recordLostResponse(s)
	}
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
	if s.setsConfig && s.sender != nil {
		s.sender.lastChange = time.Now()
	}
}

// recordLostResponse records a request without a response, or with one that leaves its
// effect unknown: Fly may have made the change.
func (c *checker) recordLostResponse(s checkedRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.setsConfig && s.sender != nil {
		s.sender.lastChange = time.Now()
	}
}

// checkFirstCommand reports a violation if the release command of r has a machine
// already.
func (c *checker) checkFirstCommand(app string, r *rolloutRun) {
	if c.sim.operators.hasAnswered(r.id) {
		return // an operator requested a retry
	}
	for _, m := range c.sim.fly.Machines(app) {
		if isCommandMachine(m) && m.CreatedAt.After(r.started) && m.Metadata()[release.MetaRelease] == r.req.Release {
			c.sim.addViolation("the release command of %s gets a second machine; the first is %s (%s)", app, m.ID, m.Name)
		}
	}
}

// isForeignLease reports whether someone else took the lease with that nonce.
func (c *checker) isForeignLease(nonce string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.foreignLeases[nonce]
}

// findConflict returns a violation if a request overwrites a version that someone else
// made after the plan, and "" if not. It is a violation only if Fly accepts the
// request.
func (c *checker) findConflict(r *rolloutRun, app, id string, step release.Step) string {
	machines := c.listMachines(app)
	i := slices.IndexFunc(machines, func(m fly.Machine) bool { return m.ID == id })
	c.mu.Lock()
	defer c.mu.Unlock()
	if i < 0 || !c.foreignVersions[machines[i].InstanceID] || c.sim.operators.hasAnswered(r.id) {
		return "" // an operator's answer may allow it
	}
	j := slices.IndexFunc(r.found[app], func(m fly.Machine) bool { return m.ID == id })
	if j >= 0 && r.found[app][j].InstanceID == machines[i].InstanceID {
		return ""
	}
	return fmt.Sprintf("%s overwrites version %s, which someone else made after the plan", step, machines[i].InstanceID)
}

// findRolloutOfLease returns the rollout that sent a change under holder's lease: the
// open one, or a terminated one whose request is late. It returns nil if there is
// neither.
func (c *checker) findRolloutOfLease(holder, environment string) *rolloutRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := c.openRollouts[environment]
	run, ok := release.ParseLeaseHolder(holder)
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

// checkDestroy reports a violation if a machine from before the rollout is destroyed
// before the new version is verified. A machine that a terminated rollout created may be
// destroyed at once if it serves nothing, or in a rollback.
func (c *checker) checkDestroy(r *rolloutRun, app, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.lastVerified.IsZero() || r.req.Plan.Revision == "" {
		return
	}
	_, existed := findMachine(r.before[app], id)
	found, _ := findMachine(r.found[app], id)
	isPlanned := slices.ContainsFunc(r.req.Plan.Steps(), func(s release.Step) bool { return s.Verb == release.Destroy && s.Machine == id })
	isLeft := (found.Cordoned || !isPlanned) && slices.ContainsFunc(c.rollouts, func(t *rolloutRun) bool {
		_, isOlder := findMachine(t.before[app], id)
		return t.isTerminated() && !isOlder
	})
	if existed && !isLeft {
		c.sim.addViolation("machine %s of %s is destroyed before the new version is verified", id, app)
	}
}

// checkPlanned checks that a change is in the plan of the open rollout, and that the
// apps it needs are done. It returns the rollout, or nil if there is nothing else to
// check.
func (c *checker) checkPlanned(app string, in activities.StepInput, at *attempt) *rolloutRun {
	a, env, ok := c.sim.findApp(app)
	if !ok {
		c.sim.addViolation("%s was changed, but is not an app of the project", app)
		return nil
	}
	select {
	case <-at.abandoned:
		return nil // Temporal ignores the result of this attempt
	default:
	}
	r := c.findRolloutOfLease(in.Holder, env.Name)
	if r == nil {
		c.sim.addViolation("%s: changed a machine, but no rollout is open", in.Step)
		return nil
	}
	if r.staleReason != "" {
		c.sim.addViolation("%s: executed, but the plan was stale: %s", in.Step, r.staleReason)
	}
	if in.Step.Verbatim || in.Step.Verb != release.Update && in.Step.Verb != release.Create && in.Step.Verb != release.Run {
		return r
	}
	if !slices.ContainsFunc(r.req.Plan.Steps(), func(s release.Step) bool {
		return s.Verb == in.Step.Verb && s.FlyApp == app && s.Machine == in.Step.Machine && bytes.Equal(s.After.Doc, in.Step.After.Doc)
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

// checkNeedDone reports a violation if a step of a needed app is still running.
func (c *checker) checkNeedDone(r *rolloutRun, need string, step release.Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.attempts {
		select {
		case <-a.abandoned:
			continue
		default:
		}
		if in, ok := a.stepInput(); ok && in.Step.FlyApp == flyAppOf(r.environment, need) && !in.Step.Verbatim {
			c.sim.addViolation("%s starts before %s, which it needs, has completed", step, in.Step)
		}
	}
}

// checkAvailability reports a violation if a step takes more machines out of service
// than the strategy allows. Machines that trouble took down do not count. It returns
// the machine that the step takes down, or nil.
func (c *checker) checkAvailability(app, id string, step release.Step) *machineKey {
	a, env, _ := c.sim.findApp(app)
	machines := c.listMachines(app)
	i := slices.IndexFunc(machines, func(m fly.Machine) bool { return m.ID == id })
	if i < 0 || !isServing(machines[i]) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if step.Verbatim && c.idleAtRestore[machineKey{app, id}] {
		return nil // it did not serve when the rollback was planned
	}
	group := c.groupNameLocked(machines[i])
	r := c.openRollouts[env.Name]
	if r == nil || r.req.Plan.Revision == "" && step.Verb != release.Update || c.sim.hasTrouble("stale list") {
		return nil // the rollout planned from a stale list, or the operator's rollback restores fewer machines
	}
	served, running := c.countBefore(r, app, group)
	serving, excused := c.countNow(r, app, group, machines)
	allowed := a.maxUnavailable(running)
	if a.Strategy == release.Immediate && !step.Verbatim {
		allowed = math.MaxInt
	}
	if down := served - (serving - 1) - excused; down > allowed && !slices.ContainsFunc(c.rollouts, func(r *rolloutRun) bool { return r.leavesMixed(env.Name) }) {
		c.sim.addViolation("%s takes %d of the %d serving machines of group %s out of service; %d allowed", step, down, served, group, allowed)
	}
	return &machineKey{app, id}
}

// countBefore returns how many machines of a group served and how many ran before r.
// The caller holds c.mu.
func (c *checker) countBefore(r *rolloutRun, app, group string) (served, running int) {
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
	return served, running
}

// countNow returns how many machines of a group serve now, and how many are out of
// service for other reasons than a step of a rollout. The caller holds c.mu.
func (c *checker) countNow(r *rolloutRun, app, group string, machines []fly.Machine) (serving, excused int) {
	if !c.changedByOthers[app].IsZero() { // someone may have destroyed machines
		isMember := func(m fly.Machine) bool { return c.groupNameLocked(m) == group }
		excused = max(0, countMachines(r.before[app], isMember)-countMachines(machines, isMember))
	}
	for _, m := range machines {
		switch p := (machineKey{app, m.ID}); {
		case c.groupNameLocked(m) != group:
		case isServing(m):
			serving++
			delete(c.down, p)
		case !c.down[p] && (!m.Cordoned || slices.ContainsFunc(r.before[app], func(b fly.Machine) bool { return b.ID == m.ID })):
			excused++ // also green machines that had traffic
		}
	}
	return serving, excused
}

// countMachines returns the number of machines for which is returns true.
func countMachines(machines []fly.Machine, is func(fly.Machine) bool) (n int) {
	for _, m := range machines {
		if is(m) {
			n++
		}
	}
	return n
}

// maxUnavailable returns how many of a group's running machines may be out of service
// at once.
func (a App) maxUnavailable(running int) int {
	n, err := strconv.ParseFloat(a.MaxDown, 64)
	if err != nil {
		panic(err) // Draw and the case files set valid values.
	}
	if n < 1 {
		n = math.Ceil(n * float64(running))
	}
	return max(1, int(n))
}
