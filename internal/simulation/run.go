package simulation

import (
	"testing"
	"testing/synctest"
	"time"
)

// A Result is the result of a Case.
type Result struct {
	Releases      int
	Outcomes      map[string]int // number of releases by outcome, including stranded
	TroubleCounts map[string]int // number of troubles that took effect, by kind
	Holds         int            // how often a rollout was held
	Elapsed       time.Duration  // in virtual time
	FirstOutcome  string         // outcome of the first release
	Requests      int
	Invalid       error    // the files of the case can't be read
	Violations    []string // one sentence for each broken guarantee
	Timeline      []string // one line for each event
}

func newResult() Result {
	return Result{Outcomes: map[string]int{}, TroubleCounts: map[string]int{}}
}

// Run executes a case in its own bubble of virtual time.
func Run(t *testing.T, c Case) (result Result) {
	t.Helper()
	var s *simulation
	defer func() {
		if p := recover(); p != nil {
			if s == nil {
				panic(p)
			}
			s.addViolation("deadlock or panic: %v", p)
			result = s.result
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		s = newSimulation(c)
		if s.result.Invalid = s.createInitialMachines(); s.result.Invalid == nil {
			s.execute()
		}
	})
	return s.result
}

// maxDuration is the longest virtual time that a case may take. Gates and retries end
// within hours, so a case that takes longer waits for an event that never happens.
const maxDuration = 14 * 24 * time.Hour

// execute begins the troubles and executes all releases.
func (s *simulation) execute() {
	for _, t := range s.Troubles {
		t.findKind().begin(s, t)
	}
	s.callAfter(maxDuration, s.stopUnfinished)
	s.temporal.ExecuteWorkflow("releases")
	close(s.done)
	time.Sleep(2 * time.Minute) // until cancelled activities have returned
	if err := s.temporal.GetWorkflowError(); err != nil {
		s.addViolation("the simulation failed: %v", err)
	}
	s.fly.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Elapsed, s.result.Requests, s.result.Holds = time.Since(s.started), s.fly.Counts()[""], s.checker.holds
}

// callAfter calls do after d, between two steps of the workflows.
func (s *simulation) callAfter(d time.Duration, do func()) {
	time.AfterFunc(d, func() { s.temporal.RegisterDelayedCallback(do, 0) })
}

// stopUnfinished reports a violation and cancels the case, because it has not ended in
// time.
func (s *simulation) stopUnfinished() {
	s.addViolation("not done after %s", maxDuration)
	s.temporal.CancelWorkflow()
}
