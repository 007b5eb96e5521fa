package driver

import (
	"slices"
	"sync"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// checkTimes has how long the checks of each group's machines took to pass. It delays
// the first read of the next machine of the group, which saves requests and changes no
// result.
type checkTimes struct {
	mu   sync.Mutex
	took map[groupKey]time.Duration
}

type groupKey struct {
	target release.Target
	group  string
}

func (w awaitedMachine) groupKey() groupKey { return groupKey{w.step.Target, w.step.Group} }

// expected returns the shortest known time from the start of a machine until it is
// healthy.
func (c *checkTimes) expected(w awaitedMachine) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.took[w.groupKey()]
}

// record records how long m took, by Fly's clock: from its last start to the last
// change of its checks.
func (c *checkTimes) record(w awaitedMachine, m fly.Machine) {
	i := slices.IndexFunc(m.Events, func(e fly.Event) bool { return e.Type == "start" })
	if i < 0 || !w.runs {
		return
	}
	var took time.Duration
	for _, check := range m.Checks {
		took = max(took, check.UpdatedAt.Sub(m.Events[i].At()))
	}
	if took < 0 || took > 30*time.Second {
		took = 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.took == nil {
		c.took = map[groupKey]time.Duration{}
	}
	if before, ok := c.took[w.groupKey()]; ok {
		took = min(took, before) // an early read costs a request, a late one costs time
	}
	c.took[w.groupKey()] = took
}
