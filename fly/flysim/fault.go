package flysim

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// A Fault makes matching requests fail. The hardest to handle is After: the
// change is made and the response is lost.
type Fault struct {
	Route   string // as in Request.Route: "POST /v1/apps/{app}/machines/{id}"; "" is any
	App     string // "" is any; of a Fly release, the app it is of
	Machine string // "" is any
	Skip    int    // matching requests that succeed first
	Times   int    // how many fail then; 0: all

	Delay  time.Duration // before the request is processed; with After, before the response
	Status int           // status of the response; 0: the normal response
	Code   string        // Fly's status code in that response
	Body   string        // body of that response; "": Fly's usual form
	Header http.Header   // more headers of that response, e.g. Retry-After
	Drop   bool          // close the connection without a response
	After  bool          // fail after the change was made, rather than before

	// Effect is a failure of the platform; For and Exit are its parameters.
	Effect Effect
	For    time.Duration
	Exit   int
	Exits  int    // Crashes: how often; 0: each time
	Output string // output of the failing checks and log line of that version; "": Fly's usual

	hits int
}

// An Effect is a failure of a machine rather than of a request. It begins with
// the request that the Fault matches.
type Effect string

const (
	// NeverPasses: the checks of the created or updated version never pass.
	NeverPasses Effect = "never passes"
	// TurnsCritical: the checks pass, and turn critical For after the start.
	TurnsCritical Effect = "sours"
	// Crashes: the process exits with code Exit, For after the start: Exits
	// times, or each time.
	Crashes Effect = "crashes"
	// NeverStarts: the machine stays in a transient state.
	NeverStarts Effect = "never starts"
	// Reverts: Fly restores the previous version and reports it as started.
	Reverts Effect = "reverts"
	// LeaseLost: the machine's lease is deleted before the request is
	// processed.
	LeaseLost Effect = "lease lost"
	// LeaseStolen: another owner holds the lease, for For.
	LeaseStolen Effect = "lease stolen"
	// Unreachable: the machine's host is unreachable, for For or, without it,
	// until Recover.
	Unreachable Effect = "host unreachable"
	// NoCapacity: no host has capacity; nothing is changed.
	NoCapacity Effect = "no capacity"
	// HostClosed: the machine's host accepts no changes for now; nothing is
	// changed.
	HostClosed Effect = "host closed"
	// ImageGone: the image of this create or update can't be pulled; nothing is
	// changed.
	ImageGone Effect = "image gone"
	// NotYet: a created machine is not found, for For or, without it, by the
	// first read.
	NotYet Effect = "not found just after create"
	// Stale: a read of one machine or of the list returns the previous version
	// of each machine that was updated in the last seconds.
	Stale Effect = "stale read"
)

// LostAnswer returns a Fault with which the change is made and the client gets
// a 504.
func LostAnswer(route string, times int) Fault {
	return Fault{Route: route, Times: times, Status: http.StatusGatewayTimeout, After: true}
}

// Inject adds f. If several faults match a request, the first added that is not
// used up applies. end removes f; an effect that has begun stays.
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

// ClearFaults removes all faults. Effects that have begun stay.
func (s *Sim) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// matchFault returns the fault that applies to this request, or nil.
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

// applyFault delays, drops or answers a request as f says. It returns whether
// the normal response is still to be sent.
func (s *Sim) applyFault(ctx context.Context, w http.ResponseWriter, c *call, fault *Fault) bool {
	if !s.sleep(ctx, fault.Delay) || fault.Drop {
		if !fault.After {
			s.recordRequest(c, 0)
		}
		panic(http.ErrAbortHandler) // net/http's way to close a connection
	}
	if fault.Status == 0 {
		return true
	}
	if !fault.After {
		s.recordRequest(c, fault.Status)
	}
	for k, v := range fault.Header {
		w.Header()[http.CanonicalHeaderKey(k)] = v
	}
	body := []byte(fault.Body)
	if fault.Body == "" {
		code := fault.Code
		if code == "" {
			code = "unknown"
		}
		body = errorBody("fault injected into flysim", code)
	}
	writeAnswer(w, fault.Status, body)
	return false
}

// effect returns the effect of the call's fault, or "".
func (c *call) effect() Effect {
	if c.fault == nil {
		return ""
	}
	return c.fault.Effect
}

// applyMachineEffect applies effects that precede the call: on the lease and on
// the host.
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

// setHostStatus sets the host status of m and of the volumes attached to it.
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

// Lose makes the host of a machine unreachable until Recover. The machine
// continues to run.
func (s *Sim) Lose(app, id string) {
	s.withMachine(app, id, func(m *machine) { s.setHostStatus(m, "unreachable") })
}

// LoseConfig makes the host of a machine unreachable like Lose. Until Recover,
// config and incomplete_config are both null.
func (s *Sim) LoseConfig(app, id string) {
	s.withMachine(app, id, func(m *machine) { m.ConfigHidden = true; s.setHostStatus(m, "unreachable") })
}

// Recover makes the host of a machine reachable again.
func (s *Sim) Recover(app, id string) {
	s.withMachine(app, id, func(m *machine) { s.setHostStatus(m, "ok") })
}

// applyVersionEffect sets the behaviour that the call's fault has for the new
// version.
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

// isHidden reports whether a read must not find m yet. It counts the read.
func (s *Sim) isHidden(m *machine) bool {
	if m.hiddenReads > 0 {
		m.hiddenReads--
		return true
	}
	return s.now().Before(m.hiddenUntil)
}

// staleFor is how long after a change a stale read may return the previous
// version.
const staleFor = 10 * time.Second

// staleMachines returns the list for a call with the effect Stale.
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
