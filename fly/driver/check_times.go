package driver

import (
	"slices"
	"sync"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// checkTimes are how long the checks of a group's machines took to pass, so that the
// next machine of the group is first read when that is useful. They only save
// requests: a time that is unknown or wrong changes no result.
type checkTimes struct {
	mu   sync.Mutex
	took map[groupKey]time.Duration
}

type groupKey struct {
	target release.Target
	group  string
}

func (w awaited) groupKey() groupKey { return groupKey{w.step.Target, w.step.Group} }

// expected returns how long after its start a machine should be healthy, at the
// earliest.
func (c *checkTimes) expected(w awaited) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.took[w.groupKey()]
}

// record takes in how long m took, by Fly's clock: from its newest start to the last
// change of its checks.
func (c *checkTimes) record(w awaited, m fly.Machine) {
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
		took = min(took, before) // too early costs a read, too late costs time
	}
	c.took[w.groupKey()] = took
}
