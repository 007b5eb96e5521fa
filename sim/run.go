package sim

import (
	"testing"
	"testing/synctest"
	"time"
)

// A Result is what came of a Case.
type Result struct {
	Releases      int
	Outcomes      map[string]int // releases by outcome; stranded is one, too
	TroubleCounts map[string]int // trouble that met something, by kind
	Holds         int            // how often a person was asked about a rollout
	Elapsed       time.Duration  // virtual
	FirstOutcome  string         // how the first release ended
	Requests      int
	Invalid       error    // the case is none: its files can't be read
	Violations    []string // guarantees that did not hold, a sentence each
	Timeline      []string // what happened, a line each
}

func newResult() Result {
	return Result{Outcomes: map[string]int{}, TroubleCounts: map[string]int{}}
}

// Run carries a case out in a bubble of its own.
func Run(t *testing.T, c Case) (result Result) {
	t.Helper()
	var s *simulation
	defer func() {
		if p := recover(); p != nil {
			if s == nil {
				panic(p)
			}
			s.addViolation("it stands still, or panics: %v", p)
			result = s.result
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		s = newWorld(c)
		if s.result.Invalid = s.createInitialMachines(); s.result.Invalid == nil {
			s.execute()
		}
	})
	return s.result
}

// forever is how long a case may take. Gates expire in hours, patience ends in
// hours: whatever is not over then waits for something that never comes.
const maxDuration = 14 * 24 * time.Hour

// happen carries the case out.
func (s *simulation) execute() {
	for _, t := range s.Troubles {
		t.findKind().begin(s, t)
	}
	s.callAfter(maxDuration, s.stopUnfinished)
	s.temporal.ExecuteWorkflow("releases")
	close(s.done)
	time.Sleep(2 * time.Minute) // what was cut off hears of it
	if err := s.temporal.GetWorkflowError(); err != nil {
		s.addViolation("the simulation failed: %v", err)
	}
	s.fly.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Elapsed, s.result.Requests, s.result.Holds = time.Since(s.started), s.fly.Counts()[""], s.checker.holds
}

// in has do called after d, in between whatever workflows do.
func (s *simulation) callAfter(d time.Duration, do func()) {
	time.AfterFunc(d, func() { s.temporal.RegisterDelayedCallback(do, 0) })
}

// giveUp ends a case that does not end.
func (s *simulation) stopUnfinished() {
	s.addViolation("not over after %s", maxDuration)
	s.temporal.CancelWorkflow()
}
