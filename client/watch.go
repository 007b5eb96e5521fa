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
	// gatherInterval is the time for which new events are collected before the next
	// query, because Temporal bills each query as an action.
	gatherInterval = 150 * time.Millisecond
	// waitsInterval is the interval for reading the waits of activities. Retries create
	// no events. The reads are not billed as actions.
	waitsInterval = 3 * time.Second
)

// A Change is a change of a watched release.
type Change struct {
	// Snapshot is the new snapshot, unless Unreachable or Reachable is set.
	Snapshot Snapshot
	// Events are the events since the last Change, if WatchOptions ask for them.
	Events []RecordedEvent
	// MissedEvents is why some events of an ended release or rollout could not be read,
	// for example because no worker responds.
	MissedEvents error
	// Unreachable is set if Temporal does not respond. The watch continues.
	Unreachable error
	// Reachable is true if Temporal responds again.
	Reachable bool
}

// WatchOptions configure Watch.
type WatchOptions struct {
	// Events asks for the events of the release and of its rollouts, from the first one.
	// The status is then their fold, and is not queried: its plan has no configs.
	Events bool
}

// Watch sends a Change immediately and for each change of a release or its rollout. It
// closes the channel when the release has ended or ctx is done. It polls the histories,
// and queries the workflow only after new events. It returns an error if the first read
// fails. Later it retries while the server or the workers do not respond. If no worker
// responds when the release has ended, the last Change has MissedEvents.
func (c *Client) Watch(ctx context.Context, id, run string, o WatchOptions) (<-chan Change, error) {
	over, setOver := context.WithCancel(context.Background())
	w := &watcher{
		client: c, id: id, run: run, read: c.query,
		changes: make(chan Change, 1), news: make(chan struct{}, 1), connection: make(chan error), over: over, setOver: setOver,
	}
	if o.Events {
		w.feed = &feed{main: eventStream{client: c, id: id}}
		w.read = w.feed.readStatus
	}
	first, err := w.readChange(ctx)
	if err != nil {
		return nil, err
	}
	w.partial = first.Snapshot.Partial
	if !w.partial {
		w.last = first.Snapshot
	}
	w.changes <- first
	go w.runLoop(ctx, first.Snapshot.Run)
	return w.changes, nil
}

// A watcher follows one release. Only runLoop uses last, partial, rollout and leaveRollout.
type watcher struct {
	client       *Client
	id, run      string
	read         statusReader
	feed         *feed    // nil unless events are asked for
	last         Snapshot // last complete snapshot
	partial      bool     // whether the last snapshot is partial
	rollout      string   // workflow ID of the followed rollout
	leaveRollout context.CancelFunc
	changes      chan Change
	news         chan struct{}
	connection   chan error // why Temporal does not respond, or nil when it does again
	over         context.Context
	setOver      func() // called when the release has ended
}

func (w *watcher) runLoop(ctx context.Context, run string) {
	defer close(w.changes)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go w.pollHistory(ctx, w.id, run, true)
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
			w.sendChange(ctx, Change{Unreachable: err, Reachable: err == nil})
		case <-waits.C:
			w.readWaits(ctx)
		case <-w.news:
			w.readSnapshot(ctx)
		}
	}
}

func (w *watcher) sendChange(ctx context.Context, change Change) {
	select {
	case w.changes <- change:
	case <-ctx.Done():
	}
}

// followRollout starts to poll the running rollout if it has changed.
func (w *watcher) followRollout(ctx context.Context) {
	if w.last.Rollout == w.rollout {
		return
	}
	if w.leaveRollout != nil {
		w.leaveRollout()
	}
	ctx, w.leaveRollout = context.WithCancel(ctx)
	if w.rollout = w.last.Rollout; w.rollout != "" {
		go w.pollHistory(ctx, w.rollout, "", false)
	}
}

// pollHistory polls the history of a workflow until it closes, and wakes the loop after each
// event. It does not report the first failure, because a server may drop a long poll when a
// worker dies.
func (w *watcher) pollHistory(ctx context.Context, id, run string, main bool) {
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
			w.wake() // it has closed; the release may process that later
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

// wake makes the loop read the release. Several calls before the read count as one.
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

// readSnapshot waits for further events, then reads the release and sends a Change.
func (w *watcher) readSnapshot(ctx context.Context) {
	select {
	case <-time.After(gatherInterval):
	case <-w.over.Done(): // no more events
	case <-ctx.Done():
	}
	change, err := w.readChange(ctx)
	if err != nil { // retried
		w.wakeLater(ctx)
		return
	}
	if w.partial = change.Snapshot.Partial; w.partial {
		w.wakeLater(ctx)
	} else {
		w.last = change.Snapshot
	}
	w.sendChange(ctx, change)
}

// readChange reads the release and its new events.
func (w *watcher) readChange(ctx context.Context) (Change, error) {
	s, err := w.client.readSnapshot(ctx, w.id, w.run, w.read)
	if err != nil || w.feed == nil || s.Partial {
		return Change{Snapshot: s}, err
	}
	if s.IsOver() { // the snapshot is the report
		w.feed.readEnd(ctx, w.id, s.Run)
	}
	return Change{Snapshot: s, Events: w.feed.takeEvents(), MissedEvents: w.feed.missed}, nil
}

// readWaits sends the last Snapshot with the current waits of its activities if they have
// changed.
func (w *watcher) readWaits(ctx context.Context) {
	if w.partial {
		return // it is read every second
	}
	described, err := w.client.temporal.DescribeWorkflowExecution(ctx, w.id, w.last.Run)
	if err != nil {
		return // retried; pollHistory reports an unreachable server
	}
	s := w.last
	w.client.addWaits(ctx, &s, described)
	if reflect.DeepEqual(s.Waits, w.last.Waits) && reflect.DeepEqual(s.TaskFailure, w.last.TaskFailure) {
		return
	}
	w.last = s
	w.sendChange(ctx, Change{Snapshot: s})
}
