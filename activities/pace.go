package activities

import (
	"slices"
	"sync"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A pace remembers how long the checks of a group's machines took to pass, so
// that the next machine of the group is looked at when that is worth it. It only
// saves requests: what it doesn't know, or has wrong, is looked at all the same.
type pace struct {
	mu   sync.Mutex
	took map[paceKey]time.Duration
}

type paceKey struct {
	target release.Target
	group  string
}

func (w waiting) paceKey() paceKey { return paceKey{w.in.Step.Target, w.in.Step.Group} }

// checks is how long after its start a machine is expected to be healthy: never
// longer than a few seconds too late.
func (p *pace) checks(w waiting) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.took[w.paceKey()]
}

// learn takes in how long m took, by Fly's own clock: from its newest start to
// the last change of its checks.
func (p *pace) learn(w waiting, m fly.Machine) {
	i := slices.IndexFunc(m.Events, func(e fly.Event) bool { return e.Type == "start" })
	if i < 0 || !w.runs {
		return
	}
	var took time.Duration
	for _, c := range m.Checks {
		took = max(took, c.UpdatedAt.Sub(m.Events[i].At()))
	}
	if took < 0 || took > 30*time.Second {
		took = 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.took == nil {
		p.took = map[paceKey]time.Duration{}
	}
	if before, ok := p.took[w.paceKey()]; ok {
		took = min(took, before) // rather too early than too late
	}
	p.took[w.paceKey()] = took
}
