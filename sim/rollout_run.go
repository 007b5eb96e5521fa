package sim

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

// A rolloutRun is one run of a Rollout.
type rolloutRun struct {
	id, runID, environment string
	req                    release.RolloutRequest
	started, ended         time.Time
	before                 map[string][]fly.Machine // by Fly app, when it began
	closed                 chan struct{}
	report                 *release.Report
	encoded                []byte // report as JSON, once written is done
	encodeOnce             sync.Once
	err                    error
	staleReason            string               // why its plan did not fit when it began
	lastChange             time.Time            // when it last gave a machine another config
	lastVerified           time.Time            // all was found well then
	knownListTimes         map[string]time.Time // how old the newest list of each app was then
	history                historyRecord
	baselineRead           time.Time                // its baseline was read by then
	found                  map[string][]fly.Machine // before, but for a rollout that goes on after one that was terminated
}

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

// stale says why the plan does not fit what Fly runs, by our own reading.
func (r *rolloutRun) compareWithPlan() string {
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

func (r *rolloutRun) leavesMixed(environment string) bool {
	return r.environment == environment && !r.ended.IsZero() && (r.err != nil || r.report != nil && (r.report.Outcome == release.Kept || r.hasKeptOld()))
}

// keepsOld says whether a person let the old stay beside the new.
func (r *rolloutRun) hasKeptOld() bool {
	return r.report != nil && strings.Contains(strings.Join(r.report.Notes, "\n"), "what is left of the old stays")
}

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

// isOpen reports whether a run of that rollout has begun and has not ended.
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

// findRun returns a run of a rollout. The test environment gives releases other run
// IDs than the simulation: when such an ID is used first, it means the newest run of
// the release that asks, and it means that run from then on.
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

// nameRun returns the run that an ID of the test environment means to a release. The
// caller holds w.mu.
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

// closed returns the rollouts that a query asks for, newest first: those that have
// completed, or all that have ended.
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

// status is how Temporal says that a rollout has ended.
func (r *rolloutRun) closeStatus() enumspb.WorkflowExecutionStatus {
	switch {
	case r.isTerminated():
		return enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	case r.err != nil:
		return enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
	}
	return enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
}
