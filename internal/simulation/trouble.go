package simulation

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A Trouble is a failure or an outside change that happens once or a few times.
type Trouble struct {
	Kind string `json:"kind"`
	// A trouble with a Route begins with a request. Others begin At after the start of
	// the simulation or, with In, At after a release or rollout first enters that
	// phase.
	At Duration      `json:"at,omitempty"`
	In release.Phase `json:"in,omitempty"`

	For      Duration `json:"for,omitempty"`
	App      string   `json:"app,omitempty"`     // a Fly app; "" means any
	Machine  int      `json:"machine,omitempty"` // index in the app's machines, sorted by ID
	Route    string   `json:"route,omitempty"`   // a key of routePatterns
	Skip     int      `json:"skip,omitempty"`
	Times    int      `json:"times,omitempty"`
	Status   int      `json:"status,omitempty"`
	After    bool     `json:"after,omitempty"`
	Delay    Duration `json:"delay,omitempty"`
	Activity string   `json:"activity,omitempty"`
	Exits    int      `json:"exits,omitempty"`
}

// A troubleKind is a kind of trouble.
type troubleKind struct {
	name   string
	weight int
	// A release must be promoted despite transient trouble, without any question to an
	// operator.
	isTransient bool
	// The effect of lasting trouble on a machine may last until its next update, and may
	// prevent a rollback.
	isLasting bool
	draw      func(*rand.Rand, Case, *Trouble)
	begin     func(*simulation, Trouble)
}

// findKind returns the kind of t. It panics if there is no such kind.
func (t Trouble) findKind() troubleKind {
	i := slices.IndexFunc(troubleKinds, func(k troubleKind) bool { return k.name == t.Kind })
	if i < 0 {
		panic("unknown kind of trouble: " + t.Kind)
	}
	return troubleKinds[i]
}

// findMachine returns the machine that t names, and whether the app has any.
func (s *simulation) findMachine(t Trouble) (fly.Machine, bool) {
	all := s.checker.listMachines(t.App)
	if len(all) == 0 {
		return fly.Machine{}, false
	}
	return all[t.Machine%len(all)], true
}

// scheduleTrouble calls do when t begins.
func (s *simulation) scheduleTrouble(t Trouble, do func()) {
	if t.In == "" {
		time.AfterFunc(time.Duration(t.At), func() { s.beginTrouble(t, do) })
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, pendingTrouble{t, do})
}

// A pendingTrouble begins with a phase.
type pendingTrouble struct {
	Trouble
	do func()
}

// beginTrouble counts t and calls do, unless all trouble is over.
func (s *simulation) beginTrouble(t Trouble, do func()) {
	s.mu.Lock()
	over := s.troubleOver
	if !over {
		s.result.TroubleCounts[t.Kind]++
	}
	s.mu.Unlock()
	if over {
		return
	}
	s.logEvent("%s (%s)", t.Kind, t.App)
	do()
}

// beginPendingTroubles schedules the troubles that begin with phase p.
func (s *simulation) beginPendingTroubles(p release.Phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = slices.DeleteFunc(s.pending, func(x pendingTrouble) bool {
		if x.In != p {
			return false
		}
		time.AfterFunc(time.Duration(x.At), func() { s.beginTrouble(x.Trouble, x.do) })
		return true
	})
}

// String returns t as JSON.
func (t Trouble) String() string {
	doc, err := json.Marshal(t)
	if err != nil {
		return t.Kind
	}
	return string(doc)
}
