package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/microbima/release/release"
)

// pin notes that the pin with that workflow ID is open, until the function that
// it returns is called.
func (w *watch) pin(id string) (open func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pins[id] = time.Now()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.pins, id)
	}
}

// pinned returns since when the pin with that workflow ID is open.
func (w *watch) pinned(id string) (since time.Time, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	since, open = w.pins[id]
	return since, open
}

// unpin is what somebody does who lets releases change everything again.
func (c *crowd) unpin() {
	c.w.watch.mu.Lock()
	ids := slices.Sorted(maps.Keys(c.w.watch.pins))
	c.w.watch.mu.Unlock()
	for _, id := range ids {
		if err := c.w.env.SignalWorkflowByID(id, release.UnpinSignal, release.Unpinning{By: "ben", Reason: "simulated"}); err != nil {
			c.w.violate("%s could not be taken away: %v", id, err)
		}
	}
}

// isOvertaken reports whether the environment was found to be at a newer version
// than the rollout was for, or a machine ran one when it began.
func (w *watch) isOvertaken(r *rolloutRun) bool {
	w.mu.Lock()
	found := slices.ContainsFunc(w.runs, func(is *rolloutRun) bool { // says that the environment is at its revision
		return is.environment == r.environment && is.report != nil && (is.report.Outcome == release.Unchanged || is.report.Outcome == release.Promoted && is.req.Whole) && versionOf(is.req.Revision.Commit) > versionOf(r.req.Revision.Commit)
	})
	w.mu.Unlock()
	return found || r.olderThanWhatRan()
}

// olderThanWhatRan reports whether a machine ran a newer version than the
// rollout was for, when it began.
func (r *rolloutRun) olderThanWhatRan() bool {
	for _, machines := range r.found {
		for _, m := range machines {
			if v := versionOf(m.Metadata()[release.MetaRevision]); v > versionOf(r.req.Revision.Commit) {
				return true
			}
		}
	}
	return false
}
