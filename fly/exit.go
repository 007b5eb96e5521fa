package fly

import (
	"encoding/json"
	"slices"
	"time"
)

// UnrequestedExit returns an exit of this version of m that nobody asked for:
// the newest whose exit code is not 0, else the newest. False: there is none. An
// exit counts from the first start of this version on, or from the last start
// that somebody asked for. One before that start is of the version before: Fly
// may tell of it after the update. Events of other kinds, a move to another host
// among them, are no exits.
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
		first = len(events) // Fly no longer tells of the start
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

// Crashed reports whether m is stopped because its process ended with an error: Fly
// starts it no more, and nobody has stopped it.
func (m Machine) Crashed() bool {
	last, ended := m.LastExit()
	return ended && m.State == "stopped" && !last.Requested && last.isFailure()
}

// eventsOfVersion returns the events since this version of m was made, newest
// first, and whether they are all there: Fly keeps only the newest.
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

// failed reports whether x is an exit that no restart policy takes for success.
func (x Exit) isFailure() bool { return x.Code != 0 || x.OOM }

// UnmarshalJSON decodes an exit. Fly has written exited_at as RFC 3339 and as
// milliseconds since 1970.
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
