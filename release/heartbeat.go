package release

import "time"

// HeartbeatInterval returns how often an activity with that heartbeat timeout sends a
// heartbeat: half of a timeout below 20 seconds, so that one lost heartbeat is
// tolerated, else 80 % of it, because Temporal Cloud bills each heartbeat.
func HeartbeatInterval(timeout time.Duration) time.Duration {
	if timeout < 20*time.Second {
		return timeout / 2
	}
	return timeout * 4 / 5
}

// A Heartbeat is the detail that a waiting activity sends in its heartbeats.
type Heartbeat struct {
	Waiting string `json:"waiting_for"` // the reason; "" when it no longer waits
}
