package sim

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A Trouble is something that goes wrong, once or a few times.
type Trouble struct {
	Kind string `json:"kind"`
	// It begins with a request (Route), or at a time: At after the simulation
	// began or, with In, after a release or rollout was in that phase first.
	At Duration      `json:"at,omitempty"`
	In release.Phase `json:"in,omitempty"`

	For      Duration `json:"for,omitempty"`
	App      string   `json:"app,omitempty"`     // a Fly app; "" is any
	Machine  int      `json:"machine,omitempty"` // index in the app's machines, by ID
	Route    string   `json:"route,omitempty"`   // a name of routes
	Skip     int      `json:"skip,omitempty"`
	Times    int      `json:"times,omitempty"`
	Status   int      `json:"status,omitempty"`
	After    bool     `json:"after,omitempty"`
	Delay    Duration `json:"delay,omitempty"`
	Activity string   `json:"activity,omitempty"`
	Exits    int      `json:"exits,omitempty"`
}

// A kind of trouble.
type troubleKind struct {
	name   string
	weight int
	// passes: a release is promoted in spite of it, and nobody is asked.
	isTransient bool
	// lasts: what it does to a machine may stay so until its next update, and
	// keep a baseline from coming back.
	isLasting bool
	draw      func(*rand.Rand, Case, *Trouble)
	begin     func(*simulation, Trouble)
}

func (t Trouble) findKind() troubleKind {
	i := slices.IndexFunc(troubleKinds, func(k troubleKind) bool { return k.name == t.Kind })
	if i < 0 {
		panic("no such kind of trouble: " + t.Kind)
	}
	return troubleKinds[i]
}

// machine is the one that t names, if the app has any.
func (s *simulation) findMachine(t Trouble) (fly.Machine, bool) {
	all := s.checker.listMachines(t.App)
	if len(all) == 0 {
		return fly.Machine{}, false
	}
	return all[t.Machine%len(all)], true
}

// at does something when t begins.
func (s *simulation) scheduleTrouble(t Trouble, do func()) {
	if t.In == "" {
		time.AfterFunc(time.Duration(t.At), func() { s.beginTrouble(t, do) })
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, pendingTrouble{t, do})
}

// A pending trouble waits for its phase.
type pendingTrouble struct {
	Trouble
	do func()
}

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

// troubled begins what waits for phase p.
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

// String is t as JSON, for people who look for a bug.
func (t Trouble) String() string {
	doc, err := json.Marshal(t)
	if err != nil {
		return t.Kind
	}
	return string(doc)
}
