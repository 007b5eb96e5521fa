package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A rolloutRun is one run of a Rollout workflow.
type rolloutRun struct {
	id, runID, environment string
	req                    release.RolloutRequest
	started, ended         time.Time
	before                 map[string][]fly.Machine // the baseline, by Fly app; after a terminated rollout it is that rollout's baseline
	closed                 chan struct{}
	report                 *release.Report
	events                 []release.Event // all, once it has ended
	encoded                []byte          // report as JSON, set by encodeOnce
	encodeOnce             sync.Once
	err                    error
	staleReason            string               // why its plan was stale at its start
	lastChange             time.Time            // time of its last change of a machine's config
	lastVerified           time.Time            // time of the last successful Verify
	knownListTimes         map[string]time.Time // result of copyFreshListTimes at lastVerified
	history                historyRecord
	baselineRead           time.Time                // time at which RecordBaseline was done
	found                  map[string][]fly.Machine // the machines at its start, by Fly app
}

// decodeReport decodes the report into value, or returns the error of the rollout.
func (r *rolloutRun) decodeReport(value any) error {
	if r.err != nil || value == nil {
		return r.err
	}
	r.encodeOnce.Do(func() { r.encoded, r.err = json.Marshal(r.report) })
	if r.err != nil {
		return r.err
	}
	return json.Unmarshal(r.encoded, value)
}

// compareWithPlan returns why the plan does not fit the machines at the start of the
// rollout, or "". With mayMiss a list may not have every machine; the others have the
// versions of their leases.
func (r *rolloutRun) compareWithPlan(mayMiss bool) string {
	for _, t := range r.req.Plan.Targets {
		if n := len(r.before[t.FlyApp]); n != len(t.MachineVersions) && !mayMiss {
			return fmt.Sprintf("%s has %d machines, and the plan was made for %d", t.FlyApp, n, len(t.MachineVersions))
		}
		for _, m := range r.before[t.FlyApp] {
			if version, known := t.MachineVersions[m.ID]; version != m.InstanceID && (known || !mayMiss) {
				return fmt.Sprintf("machine %s is at version %s, and the plan was made for %q", m.ID, m.InstanceID, t.MachineVersions[m.ID])
			}
		}
	}
	return ""
}

// leavesMixed reports whether r may have left machines of two versions in the
// environment.
func (r *rolloutRun) leavesMixed(environment string) bool {
	return r.environment == environment && !r.ended.IsZero() && (r.err != nil || r.report != nil && (r.report.Outcome == release.Kept || r.hasKeptOld()))
}

// hasKeptOld reports whether an operator kept old machines beside the new ones.
func (r *rolloutRun) hasKeptOld() bool {
	return r.report != nil && r.report.KeptOld
}

// findLastRun returns the last run of a rollout, or nil.
func (c *checker) findLastRun(id string) *rolloutRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range slices.Backward(c.rollouts) {
		if r.id == id {
			return r
		}
	}
	return nil
}

// isOpen reports whether a run of the rollout has started and not ended.
func (c *checker) isOpen(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.openRollouts {
		if r.id == id {
			return true
		}
	}
	return false
}

// findRun returns the run of a rollout. Releases know it by the run ID of the test
// environment, which differs from that of the simulation. At its first use such an ID
// is assigned to the newest run of the calling release.
func (c *checker) findRun(ctx context.Context, id, run string) *rolloutRun {
	if run == "" {
		return c.findLastRun(id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rollouts {
		if r.id == id && r.runID == run {
			return r
		}
	}
	return c.resolveRunID(id, run, c.releaseOf(attemptOf(ctx)))
}

// resolveRunID returns the run that a release knows by a run ID of the test
// environment. The caller holds c.mu.
func (c *checker) resolveRunID(id, run, release string) *rolloutRun {
	if c.runsByTestID[run] == nil {
		for _, r := range c.rollouts {
			if r.id == id && r.req.Release == release {
				c.runsByTestID[run] = r
			}
		}
	}
	return c.runsByTestID[run]
}

// runOf returns the rollout that scheduled an attempt, or nil.
func (c *checker) runOf(a *attempt) *rolloutRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.rollouts, func(r *rolloutRun) bool { return r.runID == a.runID })
	if i < 0 {
		return nil
	}
	return c.rollouts[i]
}

// releaseOf returns the workflow ID of the release that an attempt belongs to.
func (c *checker) releaseOf(a *attempt) string {
	if a == nil {
		return ""
	}
	for _, r := range c.rollouts {
		if r.runID == a.runID {
			return r.req.Release
		}
	}
	return a.workflowID
}

// listClosed returns the rollouts that match a query, newest first: the completed
// ones, or all that have ended.
func (c *checker) listClosed(query string) (all []*rolloutRun) {
	c.mu.Lock()
	defer c.mu.Unlock()
	completed := strings.Contains(query, "'Completed'")
	for _, r := range slices.Backward(c.rollouts) {
		if !r.ended.IsZero() && (r.err == nil || !completed) && strings.Contains(query, "'"+r.id+"'") {
			all = append(all, r)
		}
	}
	return all
}

// closeStatus returns the status that Temporal has for a rollout that has ended.
func (r *rolloutRun) closeStatus() enumspb.WorkflowExecutionStatus {
	switch {
	case r.isTerminated():
		return enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	case r.err != nil:
		return enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
	}
	return enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
}
