package driver

import (
	"sync"
	"time"

	"github.com/microbima/release/release"
)

const (
	// minHealthy and minUnhealthy are how many observations in a row make a verdict.
	minHealthy   = 2
	minUnhealthy = 3
	// unknownLimit is how long a target is observed whose verdict is not certain: Fly
	// may be away for an hour. Then the verdict is unknown, and an operator decides.
	unknownLimit = 90 * time.Minute
	// smokeTime is how long a machine without a check has to stay up before it is
	// believed: as long as flyctl watches one.
	smokeTime = 10 * time.Second
)

// A verdictTracker turns the results of successive observations of one target into a
// verdict. It has no clock: each result comes with the time since the first one began.
type verdictTracker struct {
	during time.Duration // the target must be observed for that long
	within time.Duration // before that, unhealthy is not final

	healthy, unhealthy int // observations in a row
	state              trackerState
}

// A trackerState says whether the verdict of the last observation stands.
type trackerState string

const (
	undecided trackerState = "undecided" // observe again
	certain   trackerState = "certain"   // healthy or unchecked, as long as each further observation is
	failed    trackerState = "failed"    // unhealthy
	timedOut  trackerState = "timed out" // the verdict is unknown
)

func newVerdictTracker(e Expectation, in Verification) *verdictTracker {
	t := &verdictTracker{during: in.For, within: in.Within}
	if !e.Back && e.Goal.IsBare(e.Changed) {
		t.during = max(t.during, smokeTime)
	}
	return t
}

// add takes in one observation, at elapsed since the first began. With isWaiting, the
// target is about to become better or worse, so a healthy one does not count.
func (t *verdictTracker) add(h release.Health, isWaiting bool, elapsed time.Duration) trackerState {
	switch h {
	case release.Healthy, release.Unchecked:
		t.healthy, t.unhealthy = t.healthy+1, 0
		if isWaiting {
			t.healthy = 0
		}
	case release.Unhealthy:
		t.healthy, t.unhealthy = 0, t.unhealthy+1
	default: // unknown: neither
		t.healthy = 0
	}
	switch {
	case t.unhealthy >= minUnhealthy && elapsed >= t.within:
		t.state = failed
	case t.healthy >= minHealthy && elapsed >= t.during:
		t.state = certain
	case elapsed > max(t.during, t.within)+unknownLimit:
		t.state = timedOut
	default:
		t.state = undecided
	}
	return t.state
}

// interval returns the delay before the next observation. To confirm a healthy target
// it is short: each machine was found healthy before.
func (t *verdictTracker) interval(poll time.Duration) time.Duration {
	if t.healthy > 0 && t.state != certain && t.during == 0 {
		return poll / 100
	}
	return 2 * poll
}

// A quorum is reached once all members agree at the same time, and then stays so.
type quorum struct {
	mu      sync.Mutex
	missing int
	reached chan struct{}
}

func newQuorum(n int) *quorum { return &quorum{missing: n, reached: make(chan struct{})} }

// vote changes one member's vote from was to is, and reports whether the quorum is
// reached.
func (q *quorum) vote(was, is bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.missing == 0 {
		return true
	}
	switch {
	case is && !was:
		q.missing--
	case was && !is:
		q.missing++
	}
	if q.missing == 0 {
		close(q.reached)
	}
	return q.missing == 0
}
