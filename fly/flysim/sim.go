package flysim

import (
	"context"
	"encoding/json"
	"time"
)

// A Sim simulates Fly. The zero value is ready for use and has no apps. Its
// exported fields may be set before the first use. It is safe for concurrent
// use.
type Sim struct {
	// Clock provides the time; nil is the real clock, which inside a
	// testing/synctest bubble is that of the bubble.
	Clock Clock
	// Latency has the simulated durations. The zero value takes no time.
	Latency Latency
	// Limits enforces Fly's published rate limits: requests beyond them get a
	// 429.
	Limits bool
	// Runner runs started machines. With nil they have no process: they are
	// started after Latency.Boot and pass their checks after Latency.Check.
	Runner Runner
	// Behave returns the behaviour of a machine that has no process. nil, and
	// the zero Behaviour: the machine works.
	Behave func(app string, config json.RawMessage) Behaviour
	// Images returns the digest of an image reference, and whether the image
	// exists. nil: every image exists.
	Images func(ref string) (digest string, ok bool)
	// Token, if set, is the only accepted token; others get a 401.
	Token string
	// CheckEvery, if set, is the maximum of the interval and grace period of a
	// real check, to shorten the wait in local use.
	CheckEvery time.Duration
	// Journal, if set, is the file with the state: it is read before first use,
	// if it exists, and written after each change.
	Journal string

	internals
}

// A Clock returns the time and schedules functions, each of which runs in its
// own goroutine.
type Clock interface {
	Now() time.Time
	AfterFunc(d time.Duration, f func()) Timer
}

// A Timer is a scheduled call that can be cancelled.
type Timer interface{ Stop() bool }

// Latency has the durations of a Fly's operations. flyctl's transcripts suggest
// API 30ms, Change 400ms, Boot 2s, Check 1s, Stop 1s, Destroy 500ms.
type Latency struct {
	API     time.Duration // any call
	Change  time.Duration // in addition, for a create or an update
	Boot    time.Duration // from the response until started
	Check   time.Duration // from started until the first result of a check
	Stop    time.Duration
	Destroy time.Duration
	Command time.Duration // how long a release command without a process runs
	Restart time.Duration // between a crash and the next start; 0: 100ms, doubling up to 10s
}

// A Behaviour says how a machine without a process behaves.
type Behaviour struct {
	NeverStarts   bool          // stays in "starting"
	NeverHealthy  bool          // its checks never pass
	CrashExit     *int          // its process exits with this code after RunsFor
	RunsFor       time.Duration // from the start until the exit
	Exits         int           // how often it exits before it stays up; 0: each time
	CriticalAfter time.Duration // its checks turn critical this long after the start; 0: never
	BootTakes     time.Duration // instead of Latency.Boot, if set
	NoListener    bool          // listens on no port
	CheckOutput   string        // output of a failing check
	Log           []string      // lines printed at the start
}

// A Runner runs started machines. Its methods are called without the Sim's lock
// held, and must not wait for the Sim.
type Runner interface {
	// Start starts m, which runs until it ends or is stopped. ctx only limits
	// the start. An error means that m can't be started, for example because
	// its image or its program does not exist.
	Start(ctx context.Context, m Instance) (Process, error)
	// Route is called with all backends of an app, sorted by machine ID,
	// whenever they change: the started, uncordoned machines whose checks pass.
	// A machine is removed before it is stopped.
	Route(app string, backends []Backend)
	// URL returns the URL of the app; "" if it has none.
	URL(app string) string
}

// An Instance is one version of a machine, to be started.
type Instance struct {
	App, ID, Name, Region string
	InstanceID            string            // the version
	Group                 string            // process group
	Config                json.RawMessage   // as it was sent
	Secrets               map[string]string // the app's, as of the last create or update
	Cordoned              bool
}

// A Process is a running machine.
type Process interface {
	// Addr returns the host:port at which the machine's internal port is
	// reachable.
	Addr(port int) string
	// ListeningPorts returns the TCP ports on which the machine itself listens: those
	// of its internal ports, and the others where the system tells them.
	ListeningPorts(internal []int) []int
	// Stop sends signal ("SIGINT"; "" is the default), kills the process after
	// timeout, and returns when it has ended.
	Stop(ctx context.Context, signal string, timeout time.Duration) error
	// Done is closed when the process has ended; ExitCode is valid from then
	// on.
	Done() <-chan struct{}
	ExitCode() int
	// Log returns the last lines of the output, oldest first.
	Log() []string
}

// A Backend is a machine that may get traffic, and the internal port of its
// service.
type Backend struct {
	Machine string
	Process Process
	Port    int
}
