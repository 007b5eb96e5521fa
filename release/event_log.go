package release

import (
	"encoding/json"
	"fmt"
	"time"
)

// An EventLog has the events of one workflow run and their fold. Record is the only way
// to change either.
type EventLog struct {
	events []Event // outlines
	status Status
}

// Record appends e with the next number and the time at, and applies it to the status.
func (l *EventLog) Record(at time.Time, e Event) {
	e.Number, e.At = len(l.events)+1, at
	l.events = append(l.events, e.Outline())
	l.status.Apply(e)
}

// Status returns the fold of the events, with machine configs and output tails. Callers
// must not change what it points to.
func (l *EventLog) Status() Status { return l.status }

// maxPageBytes limits the events of one page as JSON. Temporal limits the result of a
// query to 2 MB.
const maxPageBytes = 1 << 20

// An EventQuery is the input of the query EventsQuery.
type EventQuery struct {
	After int `json:"after"` // number of the last event that the caller has; 0 for none
}

// An EventPage is a part of the events of a workflow run, in order.
type EventPage struct {
	Events []Event `json:"events"`
	More   bool    `json:"more,omitempty"` // further events follow
}

// Page returns the events after those that the caller has: as many as maxPageBytes
// allows, and at least one if there is one. It returns an error if q.After is negative
// or an event cannot be encoded.
func (l *EventLog) Page(q EventQuery) (EventPage, error) {
	if q.After < 0 {
		return EventPage{}, fmt.Errorf("field after must be 0 or more, got %d", q.After)
	}
	rest := l.events[min(q.After, len(l.events)):]
	size := 0
	for i, e := range rest {
		doc, err := json.Marshal(e)
		if err != nil {
			return EventPage{}, fmt.Errorf("encode event %d (%s): %w", e.Number, e.Kind, err)
		}
		if size += len(doc); i > 0 && size > maxPageBytes {
			return EventPage{Events: rest[:i], More: true}, nil
		}
	}
	return EventPage{Events: rest}, nil
}
