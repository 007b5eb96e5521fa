package release

import (
	"fmt"
	"slices"
	"time"
)

// An Exit describes how the process of a machine ended without a request to stop.
type Exit struct {
	Code     int       `json:"code"`
	OOM      bool      `json:"oom,omitempty"`      // out of memory
	Restarts int       `json:"restarts,omitempty"` // how often Fly had restarted it by then
	At       time.Time `json:"at"`
}

// isFailure reports whether x is a non-zero exit code or an out-of-memory kill, which
// every restart policy counts as a failure.
func (x *Exit) isFailure() bool { return x != nil && (x.Code != 0 || x.OOM) }

// String returns a description of the exit without its exit code.
func (x Exit) String() string {
	switch {
	case x.OOM && x.Restarts > 1:
		return fmt.Sprintf("its process repeatedly runs out of memory: Fly restarted it %d times", x.Restarts)
	case x.OOM:
		return "its process ran out of memory"
	case x.Restarts > 1:
		return fmt.Sprintf("its process ends again and again: it was started again %d times", x.Restarts)
	case x.Restarts == 1:
		return "its process ended, and Fly restarted it"
	}
	return "its process ended"
}

// crashLoopWindow is the time after its last exit within which a running process may
// still be in a crash loop. Fly restarts a process after a few seconds.
const crashLoopWindow = 2 * time.Minute

// IsRecent reports whether x happened within two minutes before at: whether the
// restarted process may still be in a crash loop.
func (x Exit) IsRecent(at time.Time) bool { return at.Sub(x.At) < crashLoopWindow }

// An ExitRule decides which exits count against a machine.
type ExitRule struct {
	// IsRestore is true if the goal is a baseline. A restored machine may exit once.
	IsRestore bool
	// ResumedMachines are the IDs of machines that a rollout without a report launched.
	// Their recent exits count, including those before this rollout.
	ResumedMachines []string
	// ReadAt is the time at which the machines were read.
	ReadAt time.Time
}

// countsAgainst reports whether m has an exit that counts, where want is the machine
// in the goal. An exit that want also has does not count, unless m is resumed. An exit
// with code 0 counts, unless the restart policy of the machine allows it to end.
func (r ExitRule) countsAgainst(m, want Machine) bool {
	if m.Exit == nil || m.IsAsleep() {
		return false
	}
	runsAgain := m.State == "started" && !m.Exit.IsRecent(r.ReadAt)
	switch {
	case want.Exit != nil:
		return !r.IsRestore && slices.Contains(r.ResumedMachines, m.ID) && !runsAgain
	case r.IsRestore:
		return m.State != "started" || m.Exit.Restarts > 1 && !runsAgain
	}
	return true
}

// HasCompleted reports whether m has completed its work: its process ended with exit
// code 0, and its restart policy leaves it stopped then.
func (m Machine) HasCompleted() bool {
	return m.State == "stopped" && m.Exit != nil && !m.Exit.isFailure() && m.Exit.Restarts == 0 && m.Config.Facts().staysStoppedOnSuccess()
}
