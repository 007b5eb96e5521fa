package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"

	"go.temporal.io/api/serviceerror"

	"github.com/microbima/release/release"
)

// A RecordedEvent is an event with the workflow run that recorded it: a release or one
// of its rollouts.
type RecordedEvent struct {
	Workflow string `json:"workflow"` // workflow ID
	Run      string `json:"run"`
	release.Event
}

// An eventStream reads the events of one workflow run and folds them.
type eventStream struct {
	client  *Client
	id, run string
	seen    int            // number of the last event read
	status  release.Status // fold of the events read
	// refusal is the error of the last query if the worker refused it: an older worker does
	// not have the query, or the workflow task fails. hasUnknown is true if this program
	// does not know the kind of an event. In both cases the fold misses something.
	refusal    error
	hasUnknown bool
}

// readNew returns the events since the last call, also if it fails later.
func (s *eventStream) readNew(ctx context.Context) (events []RecordedEvent, err error) {
	for more := true; more; {
		page, err := s.client.queryEvents(ctx, s.id, s.run, release.EventQuery{After: s.seen})
		s.refusal = nil
		if failed := new(serviceerror.QueryFailed); errors.As(err, &failed) {
			s.refusal = err
			return events, nil
		}
		if err != nil {
			return events, err
		}
		for _, e := range page.Events {
			s.seen = e.Number
			s.hasUnknown = !s.status.Apply(e) || s.hasUnknown
			events = append(events, RecordedEvent{s.id, s.run, e})
		}
		more = page.More
	}
	return events, nil
}

// readStatus returns the fold of the events read so far. It queries the status if the
// fold misses something.
func (s *eventStream) readStatus(ctx context.Context) (status release.Status, err error) {
	if s.refusal != nil || s.hasUnknown {
		return s.client.query(ctx, s.id, s.run)
	}
	doc, err := json.Marshal(s.status) // a copy: later events change the fold in place
	if err == nil {
		err = json.Unmarshal(doc, &status)
	}
	return status, err
}

// A feed reads the events of a release and of its rollouts in one order: those of a
// rollout come between its start and its end.
type feed struct {
	main    eventStream
	rollout *eventStream    // the running rollout, or nil
	unsent  []RecordedEvent // read and not yet taken
	missed  error           // why events of an ended workflow could not be read, or nil
}

// readStatus reads the new events of the release or of its running rollout and returns
// the fold. For other workflows it queries the status.
func (f *feed) readStatus(ctx context.Context, id, run string) (release.Status, error) {
	switch {
	case id == f.main.id:
		if run != f.main.run { // the first call, or the release was reset
			f.main, f.rollout = eventStream{client: f.main.client, id: id, run: run}, nil
		}
		if err := f.readMain(ctx); err != nil {
			return release.Status{}, err
		}
		return f.main.readStatus(ctx)
	case f.rollout != nil && f.rollout.id == id:
		if err := f.readRollout(ctx); err != nil {
			return release.Status{}, err
		}
		return f.rollout.readStatus(ctx)
	}
	return f.main.client.query(ctx, id, run)
}

// readMain reads the new events of the release. At the end of a rollout it first reads
// the last events of that rollout. If it cannot, it leaves them out, because the result
// of the rollout is part of the next event, and records why.
func (f *feed) readMain(ctx context.Context) error {
	events, err := f.main.readNew(ctx)
	for _, e := range events {
		switch e.Kind {
		case release.EventRolloutStarted:
			f.rollout = &eventStream{client: f.main.client, id: e.Rollout.ID, run: e.Rollout.Run}
		case release.EventRolloutEnded:
			if err := f.readRollout(ctx); f.rollout != nil {
				f.recordMissed(err, f.rollout.refusal)
			}
			f.rollout = nil
		}
		f.unsent = append(f.unsent, e)
	}
	return err
}

// readRollout reads the new events of the running rollout.
func (f *feed) readRollout(ctx context.Context) error {
	if f.rollout == nil {
		return nil
	}
	events, err := f.rollout.readNew(ctx)
	f.unsent = append(f.unsent, events...)
	return err
}

// readEnd reads the last events of the release, which has ended, and records why if it
// cannot.
func (f *feed) readEnd(ctx context.Context, id, run string) {
	_, err := f.readStatus(ctx, id, run)
	f.recordMissed(err, f.main.refusal)
}

// recordMissed records the first error after which events are missing for good.
func (f *feed) recordMissed(err, refusal error) {
	f.missed = cmp.Or(f.missed, err, refusal)
}

// takeEvents returns the events that were read since the last call.
func (f *feed) takeEvents() []RecordedEvent {
	events := f.unsent
	f.unsent = nil
	return events
}

func (c *Client) queryEvents(ctx context.Context, id, run string, after release.EventQuery) (page release.EventPage, err error) {
	call, cancel := context.WithTimeout(ctx, c.workerTimeout)
	defer cancel()
	answer, err := c.temporal.QueryWorkflow(call, id, run, release.EventsQuery, after)
	if err != nil {
		return page, err
	}
	return page, answer.Get(&page)
}
