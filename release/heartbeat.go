package release

import "time"

// HeartbeatInterval returns how often an activity with that heartbeat timeout
// sends a heartbeat. Temporal Cloud counts each as an action. A short timeout
// leaves room for one that is lost; a long one is for what only watches.
func HeartbeatInterval(timeout time.Duration) time.Duration {
	if timeout < 20*time.Second {
		return timeout / 2
	}
	return timeout * 4 / 5
}

// A Heartbeat is what an activity that waits reports in its heartbeats.
type Heartbeat struct {
	Waiting string `json:"waiting_for"` // the reason; "" once there is none
}
