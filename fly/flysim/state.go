package flysim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/microbima/release/fly"
)

// internals has the unexported fields of a Sim.
type internals struct {
	once       sync.Once
	openErr    error
	ctx        context.Context // cancelled by Close
	cancel     context.CancelFunc
	goroutines sync.WaitGroup // waited for by Close

	mu           sync.Mutex
	state        journalState
	closed       bool
	unsaved      bool            // the state has changed since the journal was written
	journalErr   error           // of the last write
	changedApps  map[string]bool // apps whose backends may have changed
	beforeUnlock []func()        // called with the lock held, before it is released
	afterUnlock  []func()        // called after the lock is released: everything that waits for a Runner
	timers       map[*int]Timer
	faults       []*Fault
	requests     []Request
	counts       map[string]int
	limiters     map[string]*limiter

	routeMu    sync.Mutex // held while Runner.Route is called; locked before mu
	lastRoutes map[string][]Backend
}

// journalState is the state that the journal stores.
type journalState struct {
	Seq  uint64          `json:"seq"` // counter from which every ID is derived
	Apps map[string]*app `json:"apps"`
}

type app struct {
	ID             string              `json:"id"`
	Number         int                 `json:"number"`
	Name           string              `json:"name"`
	Org            string              `json:"org"`
	Status         string              `json:"status"`
	CreatedAt      time.Time           `json:"created_at"`
	Machines       map[string]*machine `json:"machines"`
	Secrets        map[string]secret   `json:"secrets,omitempty"`
	SecretsVersion uint64              `json:"secrets_version,omitempty"`
	Volumes        []*volume           `json:"volumes,omitempty"`
	IPs            []ipAddress         `json:"ips,omitempty"`
	Releases       []*flyRelease       `json:"releases,omitempty"` // oldest first
}

type secret struct {
	Value     string    `json:"value"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// A machine is a Fly machine with the internal fields of flysim.
type machine struct {
	View           fly.Machine       `json:"view"`   // without config
	Config         string            `json:"config"` // exactly as it was sent
	FormerVersions []string          `json:"former,omitempty"`
	Secrets        map[string]string `json:"secrets,omitempty"`
	Lease          *lease            `json:"lease,omitempty"`
	Restarts       int               `json:"restarts,omitempty"`
	NotLaunched    bool              `json:"down,omitempty"` // the current version was created with skip_launch
	Lines          []logEntry        `json:"lines,omitempty"`
	ConfigHidden   bool              `json:"untold,omitempty"` // incomplete_config is null while the host is unreachable
	Behaviour      Behaviour         `json:"behaves,omitzero"`
	HasFault       bool              `json:"odd,omitempty"` // Behaviour was set by a Fault or a method, not by Behave
	History        VersionHistory    `json:"life,omitzero"`

	generation   int // changes with each order, which cancels what was scheduled before
	app          *app
	proc         Process
	logSource    Process  // the process whose log was read last
	logSeen      []string // its log at that time
	cancelChecks context.CancelFunc
	changed      chan struct{} // closed at each change
	hiddenUntil  time.Time
	hiddenReads  int
	cachedJSON   []byte      // response of reads; nil after a change
	previous     fly.Machine // the version before, as reads returned it last
	staleUntil   time.Time   // stale reads return previous until then
	parsed       struct {    // cache of the decoded Config
		of     string
		config config
	}
}

// withLock runs f with the lock held, then settleAndUnlock.
func (s *Sim) withLock(f func()) {
	s.mu.Lock()
	f()
	s.settleAndUnlock()
}

// settleAndUnlock makes the transitions that take no time, writes the journal,
// releases the lock, reports changed backends to the Runner, and only then
// starts or stops processes: a machine leaves the routes before it is stopped.
func (s *Sim) settleAndUnlock() {
	for len(s.beforeUnlock) > 0 {
		f := s.beforeUnlock[0]
		s.beforeUnlock = s.beforeUnlock[1:]
		f()
	}
	if s.unsaved {
		s.unsaved = false
		s.journalErr = s.saveJournal()
	}
	later, touched := s.afterUnlock, s.changedApps
	s.afterUnlock, s.changedApps = nil, map[string]bool{}
	s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(touched)) {
		s.updateRoute(name)
	}
	for _, f := range later {
		f()
	}
}

// startGoroutine runs f in a goroutine once the lock is released. Close waits
// for it. The lock must be held.
func (s *Sim) startGoroutine(f func()) {
	if s.closed {
		return
	}
	s.goroutines.Add(1)
	s.afterUnlock = append(s.afterUnlock, func() {
		go func() {
			defer s.goroutines.Done()
			f()
		}()
	})
}

// markChanged records a change of m: it wakes waiters, and the journal will be
// written.
func (s *Sim) markChanged(m *machine) {
	s.unsaved = true
	s.changedApps[m.app.Name] = true
	m.cachedJSON = nil
	close(m.changed)
	m.changed = make(chan struct{})
}

func (s *Sim) setState(m *machine, state string) {
	m.View.State = state
	m.View.UpdatedAt = s.now()
	s.markChanged(m)
}

const keptEvents = 40

func (s *Sim) addEvent(m *machine, kind, status, source string, req *fly.EventRequest) {
	e := fly.Event{ID: s.newVersionID(), Type: kind, Status: status, Source: source, Timestamp: s.now().UnixMilli(), Request: req}
	events := append([]fly.Event{e}, m.View.Events...)
	m.View.Events = events[:min(len(events), keptEvents)]
	m.cachedJSON = nil
}

// apiView returns m as the API returns it.
func (m *machine) apiView() fly.Machine {
	v := m.View
	v.CreatedAt, v.UpdatedAt = v.CreatedAt.Truncate(time.Second), v.UpdatedAt.Truncate(time.Second) // the API returns whole seconds
	v.Config, v.IncompleteConfig = []byte(m.Config), nil
	if v.HostStatus != "ok" {
		v.Config, v.IncompleteConfig = nil, incompleteConfig(v.Config)
		if m.ConfigHidden {
			v.IncompleteConfig = nil
		}
	}
	return v
}

// apiJSON returns m as the API returns it, encoded. It must not be modified.
func (m *machine) apiJSON() []byte {
	if m.cachedJSON == nil {
		m.cachedJSON = encodeMachine(m.apiView())
	}
	return m.cachedJSON
}

// newID returns a new ID of hexadecimal digits. It is derived from a counter,
// so that the same calls give the same IDs.
func (s *Sim) newID(kind string, digits int) string {
	s.state.Seq++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, s.state.Seq))
	return hex.EncodeToString(sum[:])[:digits]
}

// newVersionID returns a ULID: 26 characters that sort by time.
func (s *Sim) newVersionID() string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b strings.Builder
	ms := uint64(s.now().UnixMilli())
	for shift := 45; shift >= 0; shift -= 5 {
		b.WriteByte(alphabet[ms>>shift&31])
	}
	s.state.Seq++
	sum := sha256.Sum256(fmt.Appendf(nil, "ulid %d", s.state.Seq))
	// The counter comes first, so that versions of one millisecond are sorted
	// as well.
	for shift := 15; shift >= 0; shift -= 5 {
		b.WriteByte(alphabet[s.state.Seq>>shift&31])
	}
	for _, x := range sum[:12] {
		b.WriteByte(alphabet[x&31])
	}
	return b.String()
}
