package driver

import (
	"sync"
	"time"

	"github.com/microbima/release/release"
)

const (
	// minHealthy and minUnhealthy are the numbers of consecutive observations that make
	// a verdict.
	minHealthy   = 2
	minUnhealthy = 3
	// unknownLimit is how long a target without a certain verdict is observed, because
	// Fly may be unavailable for an hour. Then the verdict is unknown, and an operator
	// decides.
	unknownLimit = 90 * time.Minute
	// smokeTime is how long a machine without a check must stay up, as in flyctl.
	smokeTime = 10 * time.Second
)

// A verdictTracker computes a verdict from successive observations of one target. It
// has no clock: each observation has the time since the first.
type verdictTracker struct {
	during time.Duration // minimum time of observation
	within time.Duration // before that time, unhealthy is not final

	healthy, unhealthy int // observations in a row
	state              trackerState
}

// A trackerState is the result of the observations so far.
type trackerState string

const (
	undecided trackerState = "undecided" // observe again
	certain   trackerState = "certain"   // healthy or unchecked, as long as each further observation is
	failed    trackerState = "failed"    // unhealthy
	timedOut  trackerState = "timed out" // the verdict is unknown
)

func newVerdictTracker(e Expectation, in Verification) *verdictTracker {
	t := &verdictTracker{during: in.For, within: in.Within}
	if !e.Back && e.Goal.HasUncheckedMachine(e.Changed) {
		t.during = max(t.during, smokeTime)
	}
	return t
}

// add adds one observation, at elapsed since the first. isWaiting means that the target
// is about to change, so that healthy does not count.
func (t *verdictTracker) add(h release.Health, isWaiting bool, elapsed time.Duration) trackerState {
	switch h {
	case release.Healthy, release.Unchecked:
		t.healthy = t.healthy + 1
		t.unhealthy = 0
		if isWaiting {
			t.healthy = 0
		}
	case release.Unhealthy:
		t.healthy = 0
		t.unhealthy = t.unhealthy + 1
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

// interval returns the delay before the next observation. It is short to confirm a
// healthy target.
func (t *verdictTracker) interval(poll time.Duration) time.Duration {
	if t.healthy > 0 && t.state != certain && t.during == 0 {
		return poll / 100
	}
	return 2 * poll
}

// A quorum is reached once all members vote yes at the same time. Then it stays
// reached.
type quorum struct {
	mu      sync.Mutex
	missing int
	reached chan struct{}
}

func newQuorum(n int) *quorum { return &quorum{missing: n, reached: make(chan struct{})} }

// A vote is the vote of one member before and now.
type vote struct{ was, is bool }

// count counts the vote of one member, and reports whether the quorum is reached.
func (q *quorum) count(v vote) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.missing == 0 {
		return true
	}
	switch {
	case v.is && !v.was:
		q.missing--
	case v.was && !v.is:
		q.missing++
	}
	if q.missing == 0 {
		close(q.reached)
	}
	return q.missing == 0
}
