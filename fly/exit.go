package fly

import (
	"encoding/json"
	"slices"
	"time"
)

// UnrequestedExit returns an exit of this version of m that nobody requested:
// the newest with an exit code other than 0, else the newest. It returns false
// if there is none. Exits count from the first start of this version, or from
// the last start that a user requested. An earlier exit belongs to the version
// before: Fly may report it after the update. Other events, such as a move to
// another host, are not exits.
func (m Machine) UnrequestedExit() (exit Exit, found bool) {
	events, whole := m.versionEvents()
	first := slices.IndexFunc(events, func(e Event) bool { return e.Type == "start" && e.Source == "user" })
	for i := len(events) - 1; i >= 0 && first < 0; i-- {
		if events[i].Type == "start" {
			first = i
		}
	}
	if first < 0 && whole {
		return Exit{}, false // never started
	}
	if first < 0 {
		first = len(events) // Fly has dropped the start event
	}
	for _, e := range events[:first] {
		x, ok := e.parseExit()
		if e.Type != "exit" || !ok || x.Requested {
			continue
		}
		if !found || !exit.isFailure() && x.isFailure() {
			exit, found = x, true
		}
	}
	return exit, found
}

// Crashed reports whether m is stopped because its process failed: Fly does not
// start it again, and nobody stopped it.
func (m Machine) Crashed() bool {
	last, ended := m.LastExit()
	return ended && m.State == "stopped" && !last.Requested && last.isFailure()
}

// versionEvents returns the events since this version of m was created, newest
// first, and whether they are complete: Fly keeps only the newest.
func (m Machine) versionEvents() (events []Event, whole bool) {
	made := m.VersionTime()
	for i, e := range m.Events {
		if e.Type == "launch" || e.Type == "update" {
			return m.Events[:i], true
		}
	}
	for i, e := range m.Events {
		if e.At().Before(made) {
			return m.Events[:i], true
		}
	}
	return m.Events, made.IsZero()
}

// isFailure reports whether x counts as a failure for every restart policy.
func (x Exit) isFailure() bool { return x.Code != 0 || x.OOM }

// UnmarshalJSON decodes an exit event. Fly has sent exited_at as RFC 3339 and
// as milliseconds since 1970.
func (x *ExitEvent) UnmarshalJSON(doc []byte) error {
	type plain ExitEvent
	in := struct {
		*plain
		ExitedAt json.RawMessage `json:"exited_at"`
	}{plain: (*plain)(x)}
	if err := json.Unmarshal(doc, &in); err != nil {
		return err
	}
	var ms int64
	if json.Unmarshal(in.ExitedAt, &ms) == nil && ms > 0 {
		x.ExitedAt = time.UnixMilli(ms)
		return nil
	}
	if len(in.ExitedAt) == 0 {
		return nil
	}
	return json.Unmarshal(in.ExitedAt, &x.ExitedAt)
}
