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

// core is what a Sim is made of inside.
type internals struct {
	once       sync.Once
	openErr    error
	ctx        context.Context // ends on Close
	cancel     context.CancelFunc
	goroutines sync.WaitGroup // goroutines

	mu           sync.Mutex
	state        journalState
	closed       bool
	unsaved      bool            // the journal is behind
	journalErr   error           // of the last attempt to write it
	changedApps  map[string]bool // apps whose backends may have changed
	beforeUnlock []func()        // to be called with the lock held, before it is released
	afterUnlock  []func()        // to be called once it is released: everything that waits for a Runner
	timers       map[*int]Timer
	faults       []*Fault
	requests     []Request
	counts       map[string]int
	limiters     map[string]*limiter

	routeMu    sync.Mutex // held while Runner.Route is called; taken before mu
	lastRoutes map[string][]Backend
}

// world is everything that the journal keeps.
type journalState struct {
	Seq  uint64          `json:"seq"` // every name that is made up comes from it
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

// A machine is what Fly shows of one, and what it keeps to itself.
type machine struct {
	View           fly.Machine       `json:"view"`   // without its config
	Config         string            `json:"config"` // exactly as it was sent
	FormerVersions []string          `json:"former,omitempty"`
	Secrets        map[string]string `json:"secrets,omitempty"`
	Lease          *lease            `json:"lease,omitempty"`
	Restarts       int               `json:"restarts,omitempty"`
	NotLaunched    bool              `json:"down,omitempty"` // this version was not to be launched
	Lines          []logEntry        `json:"lines,omitempty"`
	ConfigHidden   bool              `json:"untold,omitempty"` // while its host can't be reached nothing is told of its config
	Behaviour      Behaviour         `json:"behaves,omitzero"`
	HasFault       bool              `json:"odd,omitempty"` // Behaves comes from a Fault, not from Behave
	History        VersionHistory    `json:"life,omitzero"`

	generation   int // another number after each order: what was planned before is void
	app          *app
	proc         Process
	logSource    Process  // whose log was read last
	logSeen      []string // what it said then
	cancelChecks context.CancelFunc
	changed      chan struct{} // closed at each change
	hiddenUntil  time.Time
	hiddenReads  int
	cachedJSON   []byte      // how reads show it; nil once something changed
	previous     fly.Machine // the version before, as reads showed it last
	staleUntil   time.Time   // stale reads show it until then
	parsed       struct {    // Config, as far as it is understood
		of     string
		config config
	}
}

// locked runs f with the lock held and settles what follows from it.
func (s *Sim) withLock(f func()) {
	s.mu.Lock()
	f()
	s.settleAndUnlock()
}

// settle makes the transitions that take no time, keeps the journal, releases
// the lock, tells the Runner who may have traffic, and only then gives it work:
// a machine is out of the routes before it is stopped.
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

// spawn runs f in a goroutine that Close waits for. The lock must be held.
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

// touch says that m changed: waiters look again, and the journal is written.
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

// view is m as Fly shows it.
func (m *machine) apiView() fly.Machine {
	v := m.View
	v.CreatedAt, v.UpdatedAt = v.CreatedAt.Truncate(time.Second), v.UpdatedAt.Truncate(time.Second) // as Fly says them
	v.Config, v.IncompleteConfig = []byte(m.Config), nil
	if v.HostStatus != "ok" {
		v.Config, v.IncompleteConfig = nil, incompleteConfig(v.Config)
		if m.ConfigHidden {
			v.IncompleteConfig = nil
		}
	}
	return v
}

// show is m's JSON, as Fly shows it. Nobody changes it.
func (m *machine) apiJSON() []byte {
	if m.cachedJSON == nil {
		m.cachedJSON = encodeMachine(m.apiView())
	}
	return m.cachedJSON
}

// newID makes up a name nobody has: hexadecimal digits from a counter, so that
// the same calls give the same names.
func (s *Sim) newID(kind string, digits int) string {
	s.state.Seq++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, s.state.Seq))
	return hex.EncodeToString(sum[:])[:digits]
}

// ulid makes up a version: 26 characters that sort by time.
func (s *Sim) newVersionID() string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b strings.Builder
	ms := uint64(s.now().UnixMilli())
	for shift := 45; shift >= 0; shift -= 5 {
		b.WriteByte(alphabet[ms>>shift&31])
	}
	s.state.Seq++
	sum := sha256.Sum256(fmt.Appendf(nil, "ulid %d", s.state.Seq))
	// The counter comes first, so that versions of one millisecond sort too.
	for shift := 15; shift >= 0; shift -= 5 {
		b.WriteByte(alphabet[s.state.Seq>>shift&31])
	}
	for _, x := range sum[:12] {
		b.WriteByte(alphabet[x&31])
	}
	return b.String()
}
