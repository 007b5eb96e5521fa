package client

import (
	"context"
	"reflect"
	"time"

	"go.temporal.io/api/enums/v1"

	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/internal/view"
)

const (
	// gatherInterval is how long new events are gathered before the workflow is
	// queried again: each query costs an action.
	gatherInterval = 150 * time.Millisecond
	// waitsInterval is how often the waits of activities are read. A retry leaves no
	// event, and the read is no action.
	waitsInterval = 3 * time.Second
)

// A Change is news of a release that is watched.
type Change struct {
	// Snapshot is the release now, unless one of the other fields is set.
	Snapshot Snapshot
	// Unreachable: Temporal does not answer. The watch continues.
	Unreachable error
	// Reachable: Temporal answers again.
	Reachable bool
}

// Watch sends a Change now and whenever a release or its rollout changes. It closes
// the channel when the release is over or ctx ends. It follows the histories, and
// queries the workflow only when there are new events. A server or a worker that
// does not answer is waited for, except at first: that is the error.
func (c *Client) Watch(ctx context.Context, id, run string) (<-chan Change, error) {
	first, err := c.Get(ctx, id, run)
	if err != nil {
		return nil, err
	}
	over, setOver := context.WithCancel(context.Background())
	w := &watcher{
		client: c, id: id, run: run, partial: first.Partial,
		changes: make(chan Change, 1), news: make(chan struct{}, 1), connection: make(chan error), over: over, setOver: setOver,
	}
	if !first.Partial {
		w.last = first
	}
	w.changes <- Change{Snapshot: first}
	go w.loop(ctx, first.Run)
	return w.changes, nil
}

// A watcher follows one release. Its loop alone reads and writes the fields.
type watcher struct {
	client       *Client
	id, run      string
	last         Snapshot // the last one that is not partial
	partial      bool     // the last one that was read is
	rollout      string   // that is followed
	leaveRollout context.CancelFunc
	changes      chan Change
	news         chan struct{}
	connection   chan error // Temporal does not answer; nil: it does again
	over         context.Context
	setOver      func() // the release has ended
}

func (w *watcher) loop(ctx context.Context, run string) {
	defer close(w.changes)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go w.poll(ctx, w.id, run, true)
	if w.partial {
		w.wakeLater(ctx)
	}
	waits := time.NewTicker(waitsInterval)
	defer waits.Stop()
	for ctx.Err() == nil && (w.partial || !w.last.IsOver()) {
		w.followRollout(ctx)
		select {
		case <-ctx.Done():
		case err := <-w.connection:
			w.send(ctx, Change{Unreachable: err, Reachable: err == nil})
		case <-waits.C:
			w.readWaits(ctx)
		case <-w.news:
			w.read(ctx)
		}
	}
}

func (w *watcher) send(ctx context.Context, change Change) {
	select {
	case w.changes <- change:
	case <-ctx.Done():
	}
}

// followRollout follows the rollout under way too, if there is another one now.
func (w *watcher) followRollout(ctx context.Context) {
	if w.last.Rollout == w.rollout {
		return
	}
	if w.leaveRollout != nil {
		w.leaveRollout()
	}
	ctx, w.leaveRollout = context.WithCancel(ctx)
	if w.rollout = w.last.Rollout; w.rollout != "" {
		go w.poll(ctx, w.rollout, "", false)
	}
}

// poll follows a workflow's history until it is closed, and wakes the loop at each
// event. The first failure is not reported: a server may have lost a long poll
// because a worker died.
func (w *watcher) poll(ctx context.Context, id, run string, main bool) {
	for unreachable, failed := false, false; ctx.Err() == nil; _ = sleep.For(ctx, retryInterval) {
		it := w.client.temporal.GetWorkflowHistory(ctx, id, run, true, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		var err error
		for it.HasNext() && err == nil {
			if _, err = it.Next(); err != nil {
				break
			}
			failed = false
			w.wake()
			if unreachable {
				unreachable = false
				w.report(ctx, nil)
			}
		}
		switch {
		case err == nil && main:
			w.setOver()
			w.wake()
			return
		case err == nil:
			w.wake() // it is closed; the release may not have noticed yet
		case !main || ctx.Err() != nil || unreachable:
		case !failed:
			failed = true
		default:
			unreachable = true
			w.report(ctx, w.client.Wrap(ctx, "follow "+view.Ref(id), err))
		}
	}
}

func (w *watcher) report(ctx context.Context, err error) {
	select {
	case w.connection <- err:
	case <-ctx.Done():
	}
}

// wake asks the loop to read the release. Several calls before it does are one.
func (w *watcher) wake() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

func (w *watcher) wakeLater(ctx context.Context) {
	go func() {
		_ = sleep.For(ctx, retryInterval)
		w.wake()
	}()
}

// read gathers news, and sends where the release is.
func (w *watcher) read(ctx context.Context) {
	select {
	case <-time.After(gatherInterval):
	case <-w.over.Done(): // there will be no more news
	case <-ctx.Done():
	}
	s, err := w.client.Get(ctx, w.id, w.run)
	if err != nil { // it answered before: it will again
		w.wakeLater(ctx)
		return
	}
	if w.partial = s.Partial; w.partial {
		w.wakeLater(ctx)
	} else {
		w.last = s
	}
	w.send(ctx, Change{Snapshot: s})
}

// readWaits sends the last Snapshot with the waits of its activities, if those have
// changed.
func (w *watcher) readWaits(ctx context.Context) {
	if w.partial {
		return // it is read every second
	}
	described, err := w.client.temporal.DescribeWorkflowExecution(ctx, w.id, w.last.Run)
	if err != nil {
		return // it is read again, and poll reports a server that does not answer
	}
	s := w.last
	w.client.addWaits(ctx, &s, described)
	if reflect.DeepEqual(s.Waits, w.last.Waits) && reflect.DeepEqual(s.TaskFailure, w.last.TaskFailure) {
		return
	}
	w.last = s
	w.send(ctx, Change{Snapshot: s})
}
