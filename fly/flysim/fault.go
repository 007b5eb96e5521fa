package flysim

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// A Fault makes matching requests go wrong. The hard one to survive is After:
// the change is made and the answer is lost.
type Fault struct {
	Route   string // as in Request.Route: "POST /v1/apps/{app}/machines/{id}"; "" is any
	App     string // "" is any; of a Fly release, the app it is of
	Machine string // "" is any
	Skip    int    // matching requests that go well first
	Times   int    // how many go wrong then; 0 is every one

	Delay  time.Duration // before anything else happens; with After, before the answer
	Status int           // answer with it instead; 0 answers normally
	Code   string        // Fly's status word in that answer
	Body   string        // that answer's body; "" is Fly's usual form
	Header http.Header   // more headers of that answer, e.g. Retry-After
	Drop   bool          // close the connection without an answer
	After  bool          // go wrong after the change was made rather than before

	// Effect is something that the platform does; For and Exit are its details.
	Effect Effect
	For    time.Duration
	Exit   int
	Exits  int    // Crashes: how often; 0 is each time
	Output string // what the failing checks and the log of that version say; "" is Fly's usual

	hits int
}

// An Effect is trouble with a machine that no status shows. It begins with the
// request that the Fault matches.
type Effect string

const (
	// NeverPasses: the version that this create or update makes never passes
	// its checks.
	NeverPasses Effect = "never passes"
	// Sours: it passes, and turns critical For after it started.
	TurnsCritical Effect = "sours"
	// Crashes: it ends with code Exit, For after it started: Exits times, or
	// each time.
	Crashes Effect = "crashes"
	// NeverStarts: it stays in a transient state.
	NeverStarts Effect = "never starts"
	// Reverts: Fly puts the version before it back and says started.
	Reverts Effect = "reverts"
	// LeaseLost: the machine's lease is gone before the request is looked at.
	LeaseLost Effect = "lease lost"
	// LeaseStolen: somebody else holds it, for For.
	LeaseStolen Effect = "lease stolen"
	// Unreachable: the machine's host can't be reached, for For or, without
	// it, until Recover.
	Unreachable Effect = "host unreachable"
	// NoCapacity: no host has room; nothing is changed.
	NoCapacity Effect = "no capacity"
	// HostClosed: the machine's host takes no changes for now; nothing is
	// changed.
	HostClosed Effect = "host closed"
	// ImageGone: the image of this create or update can't be pulled; nothing
	// is changed.
	ImageGone Effect = "image gone"
	// NotYet: a created machine is not found, for For or, without it, by the
	// first to ask for it.
	NotYet Effect = "not found just after create"
	// Stale: a read of one machine, or of the list, shows the version before of
	// each machine that was given another in the last seconds.
	Stale Effect = "stale read"
)

// LostAnswer is a Fault: the change is made, and the client hears a 504.
func LostAnswer(route string, times int) Fault {
	return Fault{Route: route, Times: times, Status: http.StatusGatewayTimeout, After: true}
}

// Inject adds f. Of the faults that match a request, the one that was added
// first and is not used up is suffered. end removes f; an effect that has begun
// stays.
func (s *Sim) Inject(f Fault) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(other *Fault) bool { return other == &f })
	}
}

// ClearFaults ends all trouble that is to come. Effects that have begun stay.
func (s *Sim) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault is the one that this request suffers, or nil.
func (s *Sim) matchFault(pattern, app, machine string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Route != "" && f.Route != pattern || f.App != "" && f.App != app || f.Machine != "" && f.Machine != machine {
			continue
		}
		if f.Times > 0 && f.hits >= f.Skip+f.Times {
			continue
		}
		f.hits++
		if f.hits > f.Skip {
			one := *f
			return &one
		}
	}
	return nil
}

// suffer does to a request what can be done outside of the machine. It says
// whether there is still an answer to give.
func (s *Sim) applyFault(ctx context.Context, w http.ResponseWriter, c *call, f *Fault) bool {
	if !s.sleep(ctx, f.Delay) || f.Drop {
		if !f.After {
			s.recordRequest(c, 0)
		}
		panic(http.ErrAbortHandler) // net/http's way to close a connection
	}
	if f.Status == 0 {
		return true
	}
	if !f.After {
		s.recordRequest(c, f.Status)
	}
	for k, v := range f.Header {
		w.Header()[http.CanonicalHeaderKey(k)] = v
	}
	body := []byte(f.Body)
	if f.Body == "" {
		code := f.Code
		if code == "" {
			code = "unknown"
		}
		body = errorBody("a fault that flysim was told to have", code)
	}
	writeAnswer(w, f.Status, body)
	return false
}

// effect is the one that this call brings, or "".
func (c *call) effect() Effect {
	if c.fault == nil {
		return ""
	}
	return c.fault.Effect
}

// leaseFault is what happens to a machine just before a call reaches it.
func (s *Sim) applyMachineEffect(c *call) {
	m := c.machine
	switch c.effect() {
	case LeaseLost:
		m.Lease = nil
	case LeaseStolen:
		ttl := c.fault.For
		if ttl == 0 {
			ttl = time.Minute
		}
		m.Lease = &lease{Nonce: s.newID("nonce", 12), Owner: "somebody-else@example.com", Expires: s.now().Add(ttl)}
	case Unreachable:
		s.setHostStatus(m, "unreachable")
		if c.fault.For > 0 {
			s.afterUnlock = append(s.afterUnlock, func() { s.recoverAfter(m, c.fault.For) })
		}
	}
}

func (s *Sim) recoverAfter(m *machine, d time.Duration) {
	timers, key := s.timers, new(int)
	s.mu.Lock()
	defer s.mu.Unlock()
	timers[key] = s.clock().AfterFunc(d, func() {
		s.withLock(func() {
			delete(timers, key)
			s.setHostStatus(m, "ok")
		})
	})
}

// setHost says how m's host is, for m and for the volumes it holds.
func (s *Sim) setHostStatus(m *machine, status string) {
	m.ConfigHidden = m.ConfigHidden && status != "ok"
	m.View.HostStatus = status
	for _, v := range m.app.Volumes {
		if v.Machine != nil && *v.Machine == m.View.ID {
			v.HostStatus = status
		}
	}
	s.markChanged(m)
}

// Lose makes the host of a machine unreachable until Recover. What runs there
// goes on running.
func (s *Sim) Lose(app, id string) {
	s.withMachine(app, id, func(m *machine) { s.setHostStatus(m, "unreachable") })
}

// LoseConfig makes the host of a machine unreachable like Lose. Until Recover, Fly
// tells of its config not even a part: config and incomplete_config are null.
func (s *Sim) LoseConfig(app, id string) {
	s.withMachine(app, id, func(m *machine) { m.ConfigHidden = true; s.setHostStatus(m, "unreachable") })
}

// Recover brings the host of a machine back.
func (s *Sim) Recover(app, id string) {
	s.withMachine(app, id, func(m *machine) { s.setHostStatus(m, "ok") })
}

// spoil gives the version that a call made the fate that its Fault has for it.
func (s *Sim) applyVersionEffect(c *call, m *machine) {
	if c.fault == nil {
		return
	}
	f := c.fault
	b := Behaviour{CheckOutput: f.Output}
	if f.Output != "" {
		b.Log = []string{f.Output}
	}
	switch f.Effect {
	case NeverPasses:
		b.NeverHealthy = true
	case TurnsCritical:
		b.CriticalAfter = max(f.For, 1)
	case Crashes:
		b.CrashExit, b.RunsFor, b.Exits = &f.Exit, f.For, f.Exits
	case NeverStarts:
		b.NeverStarts = true
	case NotYet:
		m.hiddenReads = 1
		if f.For > 0 {
			m.hiddenReads, m.hiddenUntil = 0, s.now().Add(f.For)
		}
		return
	default:
		return
	}
	m.Behaviour, m.HasFault = b, true
}

// hidden says whether a read must not find m yet.
func (s *Sim) isHidden(m *machine) bool {
	if m.hiddenReads > 0 {
		m.hiddenReads--
		return true
	}
	return s.now().Before(m.hiddenUntil)
}

// staleFor is how long after a change a stale read may still show the version
// before.
const staleFor = 10 * time.Second

// staleList returns the list of a call that suffers Stale.
func (s *Sim) staleMachines(c *call) []json.RawMessage {
	list := []json.RawMessage{}
	for _, m := range c.app.sortedMachines() {
		switch {
		case m.View.State == "destroyed" || s.isHidden(m) || !matchesMetadata(m.config().Metadata, c.r.URL.Query()):
		case s.now().Before(m.staleUntil):
			list = append(list, encodeMachine(m.previous))
		default:
			list = append(list, m.apiJSON())
		}
	}
	return list
}
