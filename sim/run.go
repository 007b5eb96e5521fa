package sim

import (
	"testing"
	"testing/synctest"
	"time"
)

// A Result is what came of a Case.
type Result struct {
	Releases   int
	Outcomes   map[string]int // releases by outcome; stranded is one, too
	Happened   map[string]int // trouble that met something, by kind
	Helds      int            // how often a person was asked about a rollout
	Took       time.Duration  // virtual
	First      string         // how the first release ended
	Requests   int
	Invalid    error    // the case is none: its files can't be read
	Violations []string // guarantees that did not hold, a sentence each
	Story      []string // what happened, a line each
}

func newResult() Result {
	return Result{Outcomes: map[string]int{}, Happened: map[string]int{}}
}

// Run carries a case out in a bubble of its own.
func Run(t *testing.T, c Case) (result Result) {
	t.Helper()
	var w *world
	defer func() {
		if p := recover(); p != nil {
			if w == nil {
				panic(p)
			}
			w.violate("it stands still, or panics: %v", p)
			result = w.result
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(c)
		if w.result.Invalid = w.furnish(); w.result.Invalid == nil {
			w.happen()
		}
	})
	return w.result
}

// forever is how long a case may take. Gates expire in hours, patience ends in
// hours: whatever is not over then waits for something that never comes.
const forever = 14 * 24 * time.Hour

// happen carries the case out.
func (w *world) happen() {
	for _, t := range w.Troubles {
		t.kind().begin(w, t)
	}
	w.in(forever, w.giveUp)
	w.env.ExecuteWorkflow("releases")
	close(w.over)
	time.Sleep(2 * time.Minute) // what was cut off hears of it
	if err := w.env.GetWorkflowError(); err != nil {
		w.violate("the simulation failed: %v", err)
	}
	w.fly.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Took, w.result.Requests, w.result.Helds = time.Since(w.begun), w.fly.Counts()[""], w.watch.helds
}

// in has do called after d, in between whatever workflows do.
func (w *world) in(d time.Duration, do func()) {
	time.AfterFunc(d, func() { w.env.RegisterDelayedCallback(do, 0) })
}

// giveUp ends a case that does not end.
func (w *world) giveUp() {
	w.violate("not over after %s", forever)
	w.env.CancelWorkflow()
}
