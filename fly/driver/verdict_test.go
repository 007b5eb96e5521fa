package driver

import (
	"testing"
	"time"

	"github.com/microbima/release/release"
)

// A verdict is certain after enough consecutive observations and after the minimum
// time.
func TestVerdictTracker(t *testing.T) {
	const healthy, unhealthy, unknown, unchecked = release.Healthy, release.Unhealthy, release.Unknown, release.Unchecked
	type observation struct {
		health  release.Health
		waiting bool
		elapsed time.Duration
		want    trackerState
	}
	const s = time.Second
	for name, test := range map[string]struct {
		during, within time.Duration
		observations   []observation
	}{
		"healthy twice is certain":    {0, 0, []observation{{healthy, false, 0, undecided}, {healthy, false, s, certain}, {healthy, false, 2 * s, certain}}},
		"unchecked counts as healthy": {0, 0, []observation{{unchecked, false, 0, undecided}, {healthy, false, s, certain}}},
		"a certain target may become uncertain": {0, 0, []observation{
			{healthy, false, 0, undecided}, {healthy, false, s, certain}, {unhealthy, false, 2 * s, undecided}, {healthy, false, 3 * s, undecided}, {healthy, false, 4 * s, certain},
		}},
		"unknown interrupts healthy":                           {0, 0, []observation{{healthy, false, 0, undecided}, {unknown, false, s, undecided}, {healthy, false, 2 * s, undecided}, {healthy, false, 3 * s, certain}}},
		"healthy before the end of the bake is not certain":    {10 * s, 0, []observation{{healthy, false, 0, undecided}, {healthy, false, 9 * s, undecided}, {healthy, false, 10 * s, certain}}},
		"a port at which no process listens yet is waited for": {0, 0, []observation{{unchecked, true, 0, undecided}, {unchecked, true, s, undecided}, {healthy, false, 2 * s, undecided}, {healthy, false, 3 * s, certain}}},
		"unhealthy three times is final":                       {0, 0, []observation{{unhealthy, false, 0, undecided}, {unhealthy, false, s, undecided}, {unhealthy, false, 2 * s, failed}}},
		"unknown does not interrupt unhealthy":                 {0, 0, []observation{{unhealthy, false, 0, undecided}, {unhealthy, false, s, undecided}, {unknown, false, 2 * s, undecided}, {unhealthy, false, 3 * s, failed}}},
		"healthy interrupts unhealthy":                         {0, 0, []observation{{unhealthy, false, 0, undecided}, {unhealthy, false, s, undecided}, {healthy, false, 2 * s, undecided}, {unhealthy, false, 3 * s, undecided}}},
		"unhealthy while it may still become healthy is not final": {0, 30 * s, []observation{
			{unhealthy, false, 0, undecided}, {unhealthy, false, 10 * s, undecided}, {unhealthy, false, 20 * s, undecided}, {unhealthy, false, 30 * s, failed},
		}},
		"unknown for too long is given up": {10 * s, 30 * s, []observation{{unknown, false, 0, undecided}, {unknown, false, 90*time.Minute + 30*s, undecided}, {unknown, false, 90*time.Minute + 31*s, timedOut}}},
		"healthy late is still certain":    {0, 0, []observation{{unknown, false, 90 * time.Minute, undecided}, {healthy, false, 90 * time.Minute, undecided}, {healthy, false, 91 * time.Minute, certain}}},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := verdictTracker{during: test.during, within: test.within}
			for i, o := range test.observations {
				if got := tracker.add(o.health, o.waiting, o.elapsed); got != o.want {
					t.Fatalf("observation %d (%s after %s): %s, want %s", i+1, o.health, o.elapsed, got, o.want)
				}
			}
		})
	}
}

// A healthy target is confirmed at once, except during a bake.
func TestVerdictTracker_Interval(t *testing.T) {
	for name, test := range map[string]struct {
		tracker verdictTracker
		want    time.Duration
	}{
		"to confirm a healthy target":   {verdictTracker{healthy: 1, state: undecided}, 10 * time.Millisecond},
		"while it bakes":                {verdictTracker{healthy: 1, during: time.Minute, state: undecided}, 2 * time.Second},
		"once the verdict is certain":   {verdictTracker{healthy: 2, state: certain}, 2 * time.Second},
		"of a target that is unhealthy": {verdictTracker{unhealthy: 1, state: undecided}, 2 * time.Second},
	} {
		if got := test.tracker.interval(time.Second); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// A machine without a health check must stay up for smokeTime.
func TestNewVerdictTracker_BareMachine(t *testing.T) {
	goal := release.State{Machines: []release.Machine{{ID: "m1", Group: "app"}}}
	for _, test := range []struct {
		expected Expectation
		want     time.Duration
	}{
		{Expectation{Goal: goal, Changed: []string{"app"}}, smokeTime},
		{Expectation{Goal: goal, Changed: []string{"app"}, Back: true}, 0},
		{Expectation{Goal: goal}, 0},
	} {
		if got := newVerdictTracker(test.expected, Verification{}).during; got != test.want {
			t.Errorf("%+v is observed for %s, want %s", test.expected, got, test.want)
		}
	}
}

// The quorum is reached once all members vote yes at the same time.
func TestQuorum(t *testing.T) {
	q := newQuorum(2)
	for i, v := range []struct{ was, is, want bool }{{false, true, false}, {true, false, false}, {false, true, false}, {false, true, true}, {true, false, true}} {
		if got := q.count(vote{v.was, v.is}); got != v.want {
			t.Errorf("vote %d: %t, want %t", i+1, got, v.want)
		}
	}
	<-q.reached
}
