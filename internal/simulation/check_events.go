package simulation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// A recordedRun is what the queries of a workflow return at its end.
type recordedRun struct {
	status release.Status
	events []release.Event
}

// readRecorded calls the query handlers of a workflow. It returns an error if one is
// missing or fails.
func readRecorded(handlers map[string]any) (run recordedRun, err error) {
	readStatus, isStatus := handlers[release.StatusQuery].(func() (release.Status, error))
	readPage, isPage := handlers[release.EventsQuery].(func(release.EventQuery) (release.EventPage, error))
	if !isStatus || !isPage {
		return run, fmt.Errorf("there are the queries %T and %T", handlers[release.StatusQuery], handlers[release.EventsQuery])
	}
	if run.status, err = readStatus(); err != nil {
		return run, err
	}
	for more := true; more; {
		page, err := readPage(release.EventQuery{After: len(run.events)})
		if err != nil {
			return run, err
		}
		run.events, more = append(run.events, page.Events...), page.More
	}
	return run, nil
}

// checkEvents checks that the events of a workflow are numbered in order of their times,
// and that the status and the report are their fold.
func (c *checker) checkEvents(id string, run recordedRun, report *release.Report) {
	var folded release.Status
	for i, e := range run.events {
		if e.Number != i+1 || i > 0 && e.At.Before(run.events[i-1].At) {
			c.sim.addViolation("event %d of %s has number %d and time %s", i+1, id, e.Number, e.At)
		}
		if !folded.Apply(e) {
			c.sim.addViolation("event %d of %s has the unknown kind %q", i+1, id, e.Kind)
		}
	}
	c.checkSameStatus(id, "its status is not the fold of its events", run.status.Outline(), folded)
	if report != nil {
		c.checkSameStatus(id, "its report is not the fold of its events", report.Status.Outline(), folded)
	}
}

// checkSameStatus reports a violation if two statuses differ as JSON.
func (c *checker) checkSameStatus(id, problem string, got, want release.Status) {
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		c.sim.addViolation("%s: %s: %s, want %s (%v, %v)", id, problem, a, b, errA, errB)
	}
}

// recordFailedCleanup records that a release reports something that could not be
// removed.
func (c *checker) recordFailedCleanup(id string, events []release.Event) {
	if !hasEvent(events, release.EventCleanupFailed) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failedCleanups[id] = true
}

// recordRemarks records whether a rollout reports something that could not be done or
// read.
func (c *checker) recordRemarks(r *rolloutRun) {
	c.hasIncompleteReport = c.hasIncompleteReport || hasEvent(r.events, release.EventCleanupFailed) || hasEvent(r.events, release.EventStateUnread)
}

// checkStrandedError checks that the error of a stranded rollout names what is left on
// Fly since the operator gave up: an error has no report.
func (c *checker) checkStrandedError(r *rolloutRun, err error) {
	for _, e := range slices.Backward(r.events) {
		switch {
		case e.Kind == release.EventHoldEnded:
			return
		case e.Kind == release.EventCleanupFailed && !strings.Contains(err.Error(), e.Note):
			c.sim.addViolation("%s is stranded, and its error does not have the note %q: %v", r.id, e.Note, err)
		}
	}
}

func hasEvent(events []release.Event, kind release.EventKind) bool {
	return slices.ContainsFunc(events, func(e release.Event) bool { return e.Kind == kind })
}

// hasMachineEvent reports whether an event of that kind is about a machine.
func (r *rolloutRun) hasMachineEvent(kind release.EventKind, machine string) bool {
	return slices.ContainsFunc(r.events, func(e release.Event) bool { return e.Kind == kind && e.Machine == machine })
}
