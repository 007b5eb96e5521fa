package flysim

import (
	"context"
	"encoding/json"
	"time"
)

// A Sim is a Fly. The zero value is an empty one, ready for use; its fields
// may be set before the first use. It is safe for concurrent use.
type Sim struct {
	// Clock is the time it lives in; nil is the real one, which inside a
	// testing/synctest bubble is the bubble's.
	Clock Clock
	// Latency says how long things take. Zero: no time at all.
	Latency Latency
	// Limits refuses requests beyond Fly's published limits with 429.
	Limits bool
	// Runner runs started machines for real. nil: machines are make-believe,
	// started after Latency.Boot and passing after Latency.Check.
	Runner Runner
	// Behave says how a make-believe machine with that config behaves. nil,
	// and the zero Behaviour, is a good one.
	Behave func(app string, config json.RawMessage) Behaviour
	// Images says which digest an image reference has, and whether there is
	// such an image. nil: every image exists.
	Images func(ref string) (digest string, ok bool)
	// Token, if set, is the only one accepted; others are answered with 401.
	Token string
	// CheckEvery, if set, is the longest interval and grace period of a real
	// check, so that a laptop need not wait as long as a platform may.
	CheckEvery time.Duration
	// Journal, if set, is the file in which everything is kept: it is read
	// before first use, if it exists, and written after each change.
	Journal string

	internals
}

// A Clock tells the time and calls back. Functions that it calls run in their
// own goroutine.
type Clock interface {
	Now() time.Time
	AfterFunc(d time.Duration, f func()) Timer
}

// A Timer is a call that may still be called off.
type Timer interface{ Stop() bool }

// Latency says how long a Fly takes. Measured with flyctl's transcripts in
// mind: API 30ms, Change 400ms, Boot 2s, Check 1s, Stop 1s, Destroy 500ms.
type Latency struct {
	API     time.Duration // any call
	Change  time.Duration // more, for a create or an update
	Boot    time.Duration // from the answer until started
	Check   time.Duration // from started until the first result of a check
	Stop    time.Duration
	Destroy time.Duration
	Command time.Duration // how long a make-believe release command runs
	Restart time.Duration // between a crash and the next start; 0: 100ms, doubling up to 10s
}

// A Behaviour is how a make-believe machine behaves.
type Behaviour struct {
	NeverStarts   bool          // stays in "starting"
	NeverHealthy  bool          // its checks never pass
	CrashExit     *int          // its process ends with this code once started
	RunsFor       time.Duration // how long before it does
	Exits         int           // how often it does before it stays; 0: each time
	CriticalAfter time.Duration // its checks turn critical this long after it started; 0: never
	BootTakes     time.Duration // instead of Latency.Boot, if set
	NoListener    bool          // listens nowhere
	CheckOutput   string        // what a failing check says
	Log           []string      // what it prints when it starts
}

// A Runner runs started machines for real. Its methods are called without
// the Sim's lock held, and must not wait for the Sim.
type Runner interface {
	// Start runs m until it ends or is stopped. ctx bounds the start only.
	// An error means that it could not be started at all: no such image, no
	// such program.
	Start(ctx context.Context, m Instance) (Process, error)
	// Route is told whenever the set of started, uncordoned, passing machines
	// of an app changes: all of them, sorted by ID. A machine is out of the
	// set before it is stopped.
	Route(app string, backends []Backend)
	// URL is where the app is served; "" if nowhere.
	URL(app string) string
}

// An Instance is one version of a machine, about to run.
type Instance struct {
	App, ID, Name, Region string
	InstanceID            string            // the version
	Group                 string            // process group
	Config                json.RawMessage   // as it was sent
	Secrets               map[string]string // the app's, as of the last create or update
	Cordoned              bool
}

// A Process is a machine that runs.
type Process interface {
	// Addr is the host:port where the machine's internal port is reachable.
	Addr(port int) string
	// Listens reports whether it is the machine itself that listens there.
	Listens(port int) bool
	// Stop asks it to end with signal ("SIGINT", "" is the usual one), kills
	// it after timeout, and returns when it has ended.
	Stop(ctx context.Context, signal string, timeout time.Duration) error
	// Done is closed when it has ended; ExitCode is known from then on.
	Done() <-chan struct{}
	ExitCode() int
	// Log is its last lines, oldest first.
	Log() []string
}

// A Backend is a machine that may be sent traffic, and the internal port of
// its service.
type Backend struct {
	Machine string
	Process Process
	Port    int
}
