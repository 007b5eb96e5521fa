package simulation

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A checker compares all that happens in a simulation with the guarantees, and reports
// violations. It reads the state of flysim directly, and no state of the code under
// test.
type checker struct {
	sim *simulation

	mu                  sync.Mutex
	rollouts            []*rolloutRun
	openRollouts        map[string]*rolloutRun // by environment
	attempts            map[*attempt]bool
	down                map[machineKey]bool // machines that a step took out of service and that do not serve again
	changedByOthers     map[string]time.Time
	foreignLeases       map[string]bool // nonces
	foreignVersions     map[string]bool // versions that others made
	groupNames          map[string]string
	lastVerifyReads     map[string]time.Time         // last time at which Verify listed an app's machines
	idleAtRestore       map[machineKey]bool          // machines that did not serve when the last rollback was planned
	pins                map[string]time.Time         // start of open pins, by workflow ID
	scheduled           map[string]scheduledActivity // activities of rollouts, by ID
	foundVersions       map[string]foundVersion      // by environment
	runsByTestID        map[string]*rolloutRun       // by run ID of the test environment
	proxyStops          map[machineKey]time.Time     // when Fly's proxy stopped a machine last
	baselineFound       map[string]time.Time         // when a rollback found what it restores, by workflow ID of the release
	recordsHistories    bool                         // whether histories of rollouts are needed
	failedCleanups      map[string]bool              // whether a release reports something that could not be removed, by workflow ID
	holds               int
	hasIncompleteReport bool // a report names something that could not be done or read
}

// A machineKey identifies a machine by Fly app and ID.
type machineKey struct{ app, machine string }

func newChecker(s *simulation) *checker {
	return &checker{
		sim:              s,
		openRollouts:     map[string]*rolloutRun{},
		attempts:         map[*attempt]bool{},
		down:             map[machineKey]bool{},
		changedByOthers:  map[string]time.Time{},
		foreignLeases:    map[string]bool{},
		foreignVersions:  map[string]bool{},
		groupNames:       map[string]string{},
		lastVerifyReads:  map[string]time.Time{},
		pins:             map[string]time.Time{},
		baselineFound:    map[string]time.Time{},
		proxyStops:       map[machineKey]time.Time{},
		idleAtRestore:    map[machineKey]bool{},
		scheduled:        map[string]scheduledActivity{},
		foundVersions:    map[string]foundVersion{},
		runsByTestID:     map[string]*rolloutRun{},
		failedCleanups:   map[string]bool{},
		recordsHistories: s.mayEndWithoutReport(),
	}
}

// recordRolloutStart records a new run of a rollout with the machines and the baseline
// at its start, and checks that it may start.
func (c *checker) recordRolloutStart(id, run string, req release.RolloutRequest) *rolloutRun {
	r := &rolloutRun{id: id, runID: run, environment: req.Plan.Environment, req: req, started: time.Now(), closed: make(chan struct{}), before: map[string][]fly.Machine{}}
	for _, t := range req.Plan.Targets {
		r.before[t.FlyApp] = c.listMachines(t.FlyApp)
	}
	c.mu.Lock()
	r.staleReason = r.compareWithPlan(c.sim.hasTrouble("stale list"))
	other := c.openRollouts[r.environment]
	if req.TakeOver {
		r.staleReason = "" // a takeover does not execute its plan
	}
	r.found = r.before
	if before := c.inheritedBaseline(r.environment); before != nil {
		r.before = maps.Clone(r.found)
		for app := range r.found {
			if was, ok := before[app]; ok {
				r.before[app] = was
			}
		}
	}
	if req.PredecessorRun != "" {
		c.resolveRunID(id, req.PredecessorRun, req.Release)
	}
	c.recordStarted(r)
	c.rollouts, c.openRollouts[r.environment] = append(c.rollouts, r), r
	c.mu.Unlock()
	if other != nil {
		c.sim.addViolation("two rollouts of %s are open at the same time", r.environment)
	}
	c.checkApprovals(r)
	if r.staleReason == "" { // a stale plan is not executed, and the machines are others
		c.checkPlanViews(r.req.Plan)
	}
	return r
}

// checkApprovals reports a violation if a rollout starts in an environment with a gate
// without enough approvals of exactly its plan, or after a rejection.
func (c *checker) checkApprovals(r *rolloutRun) {
	if r.req.Plan.Lineage.Relation == release.Backward {
		return // the rollout ends without a change: see checkNotBackward
	}
	if r.req.Unchanged && r.req.Plan.IsEmpty() {
		return // the rollout has no steps: see checkPlanned
	}
	i := slices.IndexFunc(c.sim.Environments, func(e Environment) bool { return e.Name == r.environment })
	need := c.sim.Environments[i].Approvals
	if have := len(c.sim.operators.approvals[r.req.Plan.Hash]); have < need {
		c.sim.addViolation("the rollout of plan %.8s in %s started with %d of %d approvals", r.req.Plan.Hash, r.environment, have, need)
	}
	if _, ok := c.sim.operators.rejected[r.req.Plan.Hash]; ok && !r.req.TakeOver { // that executes no plan
		c.sim.addViolation("the rollout of plan %.8s in %s started, but the plan was rejected", r.req.Plan.Hash, r.environment)
	}
}

// listMachines returns the machines of a Fly app, without command machines and without
// machines that are being destroyed. Fly never cancels a destroy, so a plan can't
// count such a machine.
func (c *checker) listMachines(app string) []fly.Machine {
	return slices.DeleteFunc(c.sim.fly.Machines(app), func(m fly.Machine) bool { return isCommandMachine(m) || m.State == "destroying" })
}

// isCommandMachine reports whether m runs a release command.
func isCommandMachine(m fly.Machine) bool {
	return bytes.Contains(machineConfig(m), []byte("fly_app_")) && strings.HasPrefix(m.Metadata()["fly_process_group"], "fly_app_")
}

// groupNameLocked returns the process group of m. It caches the group by config. The
// caller holds c.mu.
func (c *checker) groupNameLocked(m fly.Machine) string {
	group, ok := c.groupNames[string(machineConfig(m))]
	if !ok {
		group = cmp.Or(m.Metadata()["fly_process_group"], "app")
		c.groupNames[string(machineConfig(m))] = group
	}
	return group
}

// addAttempt records an attempt that has started.
func (c *checker) addAttempt(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts[a] = true
}

// finishAttempt records the end of an attempt. The machine of a failed or unchecked
// step no longer counts as taken down; that of a completed step only once it serves.
func (c *checker) finishAttempt(a *attempt, err error) {
	in, isStep := a.stepInput()
	back := err != nil || in.Step.SkipHealthCheck || isStep && c.isBack(in.Step)
	if in, ok := a.input.(activities.LeaseInput); ok && a.name == "TakeLeases" && err != nil {
		c.checkLeaseHolder(in, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.attempts, a)
	if err == nil {
		c.recordReadLocked(a)
	}
	if isStep && back {
		delete(c.down, machineKey{in.Step.FlyApp, in.Step.Machine})
	}
}

// isBack reports whether the machine of a completed step serves again, or does not for a
// reason that is not the step.
func (c *checker) isBack(step release.Step) bool {
	others := c.isChangedByOthers(step.FlyApp)        // someone may have cordoned it
	lately := time.Now().Add(-100 * time.Millisecond) // a good answer may have been under way since
	return slices.ContainsFunc(c.listMachines(step.FlyApp), func(m fly.Machine) bool {
		if m.ID != step.Machine && m.Name != step.Machine {
			return false
		}
		isStopped := isStoppedOrStopping(m) && (c.mayProxyStop(step.FlyApp) || c.isChangedSince(step.FlyApp, lately))
		return isServing(m) || others && isHealthy(m) || isStopped || hasFailedSince(m, lately)
	})
}

// recordReadLocked records the time of a successful read by an attempt. The caller holds
// c.mu.
func (c *checker) recordReadLocked(a *attempt) {
	switch a.name {
	case "FindBaseline":
		c.baselineFound[a.workflowID] = time.Now()
	case "RecordBaseline":
		for _, r := range c.rollouts {
			if r.runID == a.runID {
				r.baselineRead = time.Now()
			}
		}
	case "Verify":
		for _, r := range c.openRollouts {
			r.lastVerified, r.knownListTimes = time.Now(), c.sim.network.copyFreshListTimes()
		}
	}
}

// hasFailedSince reports whether m has failed since that time.
func hasFailedSince(m fly.Machine, then time.Time) bool {
	return slices.ContainsFunc(m.Events, func(e fly.Event) bool { return e.Type == "exit" && !e.At().Before(then) }) ||
		slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" && !c.UpdatedAt.Before(then) })
}

// dropAttempt records that the result of an attempt is lost.
func (c *checker) dropAttempt(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.attempts, a)
}

// recordVerifyRead records the time at which Verify has listed the machines of an app.
func (c *checker) recordVerifyRead(app string, at *attempt) {
	if at == nil || at.name != "Verify" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastVerifyReads[app] = time.Now()
}

// recordRestorePlanning records which machines of an app serve when a rollback is
// planned.
func (c *checker) recordRestorePlanning(app string) {
	machines := c.listMachines(app)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range machines {
		c.idleAtRestore[machineKey{app, m.ID}] = !isServing(m)
	}
}

// isRunning reports whether m has a process, or is starting or stopping one.
func isRunning(m fly.Machine) bool {
	return !slices.Contains([]string{"stopped", "suspended", "created", "failed", "destroyed"}, m.State)
}

// isServing reports whether m is healthy and gets traffic.
func isServing(m fly.Machine) bool { return isHealthy(m) && !m.Cordoned }
