package fly

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// A Machine is a Fly machine as the Machines API shows it.
type Machine struct {
	ID         string          `json:"id"` // 14 hex digits
	Name       string          `json:"name"`
	State      string          `json:"state"` // started, stopped, replacing, …
	Region     string          `json:"region"`
	InstanceID string          `json:"instance_id"` // version: a ULID that changes with each update
	ImageRef   ImageRef        `json:"image_ref"`
	Config     json.RawMessage `json:"config,omitempty"`
	// IncompleteConfig replaces Config when HostStatus is not "ok". No machine
	// can be created from it.
	IncompleteConfig json.RawMessage `json:"incomplete_config,omitempty"`
	Cordoned         bool            `json:"cordoned,omitempty"`
	Checks           []Check         `json:"checks,omitempty"` // none before the first result
	Events           []Event         `json:"events,omitempty"` // newest first
	HostStatus       string          `json:"host_status,omitempty"`
	PrivateIP        string          `json:"private_ip,omitempty"`
	CreatedAt        time.Time       `json:"created_at,omitzero"`
	UpdatedAt        time.Time       `json:"updated_at,omitzero"`
	Nonce            string          `json:"nonce,omitempty"` // of the lease that a create with LeaseTTL took
}

// nullToNil returns doc, or nil if it is the JSON null.
func nullToNil(doc json.RawMessage) json.RawMessage {
	if string(bytes.TrimSpace(doc)) == "null" {
		return nil
	}
	return doc
}

// An ImageRef is a parsed reference to the image of a machine.
type ImageRef struct {
	Registry   string            `json:"registry,omitempty"`
	Repository string            `json:"repository,omitempty"`
	Tag        string            `json:"tag,omitempty"`
	Digest     string            `json:"digest,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// String returns the whole reference: registry/repository:tag@digest.
func (r ImageRef) String() string {
	s := r.Repository
	if r.Registry != "" {
		s = r.Registry + "/" + s
	}
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// A Check is the last result of one health check.
type Check struct {
	Name      string    `json:"name"`   // as in the config, or servicecheck-00-http-8080
	Status    string    `json:"status"` // passing, warning, critical
	Output    string    `json:"output,omitempty"`
	UpdatedAt time.Time `json:"updated_at,omitzero"` // of the last change of Status
}

// An Event is an event in the life of a machine.
type Event struct {
	ID        string        `json:"id,omitempty"`
	Type      string        `json:"type"`   // launch, start, update, exit, stop, …
	Status    string        `json:"status"` // the resulting state
	Source    string        `json:"source,omitempty"`
	Timestamp int64         `json:"timestamp"` // milliseconds since 1970
	Request   *EventRequest `json:"request,omitempty"`
}

// At returns the time of the event.
func (e Event) At() time.Time { return time.UnixMilli(e.Timestamp) }

// An EventRequest has the details of an event: for an exit, how it ended.
type EventRequest struct {
	ExitEvent    *ExitEvent    `json:"exit_event,omitempty"`
	MonitorEvent *MonitorEvent `json:"MonitorEvent,omitempty"`
	RestartCount int           `json:"restart_count,omitempty"`
}

// A MonitorEvent is the older form of an ExitEvent.
type MonitorEvent struct {
	ExitEvent *ExitEvent `json:"exit_event,omitempty"`
}

// An ExitEvent says how a machine's main process ended, as Fly sends it.
type ExitEvent struct {
	ExitCode      int       `json:"exit_code"`
	GuestExitCode int       `json:"guest_exit_code"`
	GuestSignal   int       `json:"guest_signal"`
	OOMKilled     bool      `json:"oom_killed"`
	RequestedStop bool      `json:"requested_stop"`
	Restarting    bool      `json:"restarting"`
	Signal        int       `json:"signal"`
	ExitedAt      time.Time `json:"exited_at,omitzero"`
}

// An Exit says how and when a machine's main process ended.
type Exit struct {
	Code         int
	OOM          bool // out of memory
	Requested    bool // by a stop
	Restarting   bool // Fly restarts the process
	RestartCount int
	At           time.Time
}

// Metadata returns the config's metadata, for example the process group of the
// machine and the release that created it. Without a config it reads the
// incomplete one. It may be nil.
func (m Machine) Metadata() map[string]string {
	doc := m.Config
	if len(doc) == 0 {
		doc = m.IncompleteConfig
	}
	var c struct {
		Metadata map[string]string `json:"metadata"`
	}
	if json.Unmarshal(doc, &c) != nil {
		return nil
	}
	return c.Metadata
}

// IsOlder reports whether m was read before version was created: versions are
// ULIDs, which sort by time. It is false if either is not a ULID.
func (m Machine) IsOlder(version string) bool { return OlderVersion(m.InstanceID, version) }

// OlderVersion reports whether version a of a machine was created before b. It
// is false if either is not a ULID.
func OlderVersion(a, b string) bool {
	older, err := ulid.ParseStrict(a)
	newer, otherErr := ulid.ParseStrict(b)
	return err == nil && otherErr == nil && older.Compare(newer) < 0
}

// VersionTime returns when this version of m was created, by Fly's clock: the
// first 48 bits of InstanceID, a ULID, are milliseconds since 1970. Secrets
// updated later are staged: m does not have them. It is zero if InstanceID is
// not a ULID.
func (m Machine) VersionTime() time.Time {
	id, err := ulid.ParseStrict(m.InstanceID)
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(id.Time())
}

// LastExit returns how m ended if it has not been started since: the newest
// exit, if it is newer than the newest start, launch and update.
func (m Machine) LastExit() (Exit, bool) {
	for _, e := range m.Events {
		switch e.Type {
		case "exit":
			return e.parseExit()
		case "start", "launch", "update":
			return Exit{}, false
		}
	}
	return Exit{}, false
}

// LastCrash returns the newest unrequested exit of this version of m with a
// code other than 0, even if Fly has restarted the process since.
func (m Machine) LastCrash() (Exit, bool) {
	for _, e := range m.Events {
		switch e.Type {
		case "exit":
			if x, ok := e.parseExit(); ok && !x.Requested && (x.Code != 0 || x.OOM) {
				return x, true
			}
		case "launch", "update":
			return Exit{}, false
		}
	}
	return Exit{}, false
}

// Launched reports whether this version of m was ever started, even if it has
// ended since: whether a start or an exit is newer than the newest launch and
// update, and not older than the version.
func (m Machine) Launched() bool {
	for _, e := range m.Events {
		switch e.Type {
		case "start", "exit":
			return !e.At().Before(m.VersionTime())
		case "launch", "update":
			return false
		}
	}
	return false
}

func (e Event) parseExit() (Exit, bool) {
	r := e.Request
	if r == nil {
		return Exit{}, false
	}
	x := r.ExitEvent
	if x == nil && r.MonitorEvent != nil {
		x = r.MonitorEvent.ExitEvent
	}
	if x == nil {
		return Exit{}, false
	}
	at := x.ExitedAt
	if at.IsZero() {
		at = e.At()
	}
	return Exit{Code: x.ExitCode, OOM: x.OOMKilled, Requested: x.RequestedStop, Restarting: x.Restarting, RestartCount: r.RestartCount, At: at}, true
}

// normalizeMachine returns a received machine without nulls and fake checks.
// Fly sends both config and incomplete_config with every machine, and null for
// the one that does not apply. It adds checks for old clients, which are
// dropped.
func normalizeMachine(m Machine) Machine {
	m.Config, m.IncompleteConfig = nullToNil(m.Config), nullToNil(m.IncompleteConfig)
	var checks []Check
	for _, c := range m.Checks {
		if !strings.HasPrefix(c.Name, "bg_deployments_compat") {
			checks = append(checks, c)
		}
	}
	m.Checks = checks
	return m
}
