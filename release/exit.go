package release

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// An Exit is how a machine's process ended without being asked to.
type Exit struct {
	Code     int       `json:"code"`
	OOM      bool      `json:"oom,omitempty"`      // out of memory
	Restarts int       `json:"restarts,omitempty"` // how often Fly has started it again by then
	At       time.Time `json:"at"`
}

// isFailure reports whether the exit is one that no restart policy takes for success.
func (x *Exit) isFailure() bool { return x != nil && (x.Code != 0 || x.OOM) }

// String returns what the process did, without its exit code.
func (x Exit) String() string {
	switch {
	case x.OOM && x.Restarts > 1:
		return fmt.Sprintf("its process runs out of memory again and again: it was started again %d times", x.Restarts)
	case x.OOM:
		return "its process ran out of memory"
	case x.Restarts > 1:
		return fmt.Sprintf("its process ends again and again: it was started again %d times", x.Restarts)
	case x.Restarts == 1:
		return "its process ended, and Fly started it again"
	}
	return "its process ended"
}

// crashLoopWindow is within what time of its last exit a running process counts as one
// that ends again and again. Fly starts it again after seconds.
const crashLoopWindow = 2 * time.Minute

// IsRecent reports whether x was within the last two minutes at that time: whether
// a process that runs again may still be in a crash loop.
func (x Exit) IsRecent(at time.Time) bool { return at.Sub(x.At) < crashLoopWindow }

// An ExitRule decides which unrequested exits count against a machine.
type ExitRule struct {
	// Back: the goal is a baseline. A restored machine may exit once.
	Back bool
	// Resumed are the IDs of machines that a rollout without a report launched. Their
	// recent exits count, also those before this rollout.
	Resumed []string
	// At is when the machines were read.
	At time.Time
}

// countsAgainst reports whether m, which should be like want, has an exit that counts. One
// that want has, too, does not, unless m is resumed. An exit with code 0 counts,
// unless the machine's restart policy lets it end.
func (r ExitRule) countsAgainst(m, want Machine) bool {
	if m.Exit == nil || m.Rests() {
		return false
	}
	runsAgain := m.State == "started" && !m.Exit.IsRecent(r.At)
	switch {
	case want.Exit != nil:
		return !r.Back && slices.Contains(r.Resumed, m.ID) && !runsAgain
	case r.Back:
		return m.State != "started" || m.Exit.Restarts > 1 && !runsAgain
	}
	return true
}

// Ended reports whether the process of m has ended with exit code 0 and its
// restart policy lets it: a machine whose work is done.
func (m Machine) Ended() bool {
	return m.State == "stopped" && m.Exit != nil && !m.Exit.isFailure() && m.Exit.Restarts == 0 && staysStoppedOnSuccess(m.Config)
}

// NeverRestarts reports whether Fly leaves a machine of that config stopped
// whatever its process ended with.
func NeverRestarts(config json.RawMessage) bool { return parseRestartPolicy(config) == "no" }

// staysStoppedOnSuccess reports whether the restart policy of a config leaves a machine
// stopped whose process ended with exit code 0. Fly's default, on-failure, does.
func staysStoppedOnSuccess(config json.RawMessage) bool {
	return parseRestartPolicy(config) != "always"
}

func parseRestartPolicy(config json.RawMessage) string {
	var c struct{ Restart struct{ Policy string } }
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	return c.Restart.Policy
}

// hasAutostart reports whether Fly's proxy starts a machine of that config for a
// request. That is Fly's default.
func hasAutostart(config json.RawMessage) bool {
	var c struct{ Services []struct{ Autostart *bool } }
	if json.Unmarshal(config, &c) != nil {
		return false
	}
	for _, s := range c.Services {
		if s.Autostart == nil || *s.Autostart {
			return true
		}
	}
	return false
}

// Serves reports whether a machine of that config has services: whether Fly's
// proxy sends it traffic.
func Serves(config json.RawMessage) bool { return servicesFound.get(config, detectServices) }

var servicesFound docCache[bool]

func detectServices(config json.RawMessage) bool {
	var c struct{ Services []json.RawMessage }
	return json.Unmarshal(config, &c) == nil && len(c.Services) > 0
}
