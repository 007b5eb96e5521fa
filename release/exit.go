package release

import (
	"encoding/json"
	"fmt"
	"time"
)

// An Exit is how a machine's process ended without being asked to.
type Exit struct {
	Code     int       `json:"code"`
	OOM      bool      `json:"oom,omitempty"`      // out of memory
	Restarts int       `json:"restarts,omitempty"` // how often Fly has started it again by then
	At       time.Time `json:"at"`
}

// failed reports whether the exit is one that no restart policy takes for success.
func (x *Exit) failed() bool { return x != nil && (x.Code != 0 || x.OOM) }

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

// Ended reports whether the process of m has ended with exit code 0 and its
// restart policy lets it: a machine whose work is done.
func (m Machine) Ended() bool {
	return m.State == "stopped" && m.Exit != nil && !m.Exit.failed() && m.Exit.Restarts == 0 && endsWell(m.Config)
}

// NeverRestarts reports whether Fly leaves a machine of that config stopped
// whatever its process ended with.
func NeverRestarts(config json.RawMessage) bool { return restartPolicy(config) == "no" }

// endsWell reports whether the restart policy of a config leaves a machine
// stopped whose process ended with exit code 0. Fly's default, on-failure, does.
func endsWell(config json.RawMessage) bool { return restartPolicy(config) != "always" }

func restartPolicy(config json.RawMessage) string {
	var c struct{ Restart struct{ Policy string } }
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	return c.Restart.Policy
}

// autostarts reports whether Fly's proxy starts a machine of that config for a
// request. That is Fly's default.
func autostarts(config json.RawMessage) bool {
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
func Serves(config json.RawMessage) bool { return servesIn.of(config, hasServices) }

var servesIn memo[bool]

func hasServices(config json.RawMessage) bool {
	var c struct{ Services []json.RawMessage }
	return json.Unmarshal(config, &c) == nil && len(c.Services) > 0
}
