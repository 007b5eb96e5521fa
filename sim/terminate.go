package sim

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// terminated is the kind of trouble in which Temporal terminates a rollout, and
// its release as well with Trouble.After: the workflows run no further, not even to
// clean up, and what their activities do meanwhile is heard by nobody.
const terminated = "rollout terminated"

// execute carries a Release or a Rollout out until it ends or is terminated.
func (o *observedWorkflow) execute(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (result any, err error) {
	if !o.hasTrouble(terminated) {
		return o.Next.ExecuteWorkflow(ctx, in)
	}
	ended, cut := false, false
	workflow.Go(ctx, func(ctx workflow.Context) {
		result, err = o.Next.ExecuteWorkflow(ctx, in)
		ended = true
	})
	order := workflow.GetSignalChannel(ctx, terminated)
	apart, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if waiting := workflow.Await(apart, func() bool {
		cut = cut || order.ReceiveAsync(nil)
		return ended || cut
	}); waiting != nil {
		return nil, waiting
	}
	if ended {
		return result, err
	}
	o.staff.terminate(o.run)
	return nil, &temporal.TerminatedError{}
}

// terminate ends the open rollout of an app's environment, if there is one, and
// whole its release, too.
func (w *world) terminate(app string, whole bool) {
	_, env, _ := w.app(app)
	w.watch.mu.Lock()
	r := w.watch.open[env.Name]
	w.watch.mu.Unlock()
	if r == nil {
		return
	}
	w.in(0, func() {
		w.tell("%s is terminated", r.id)
		if err := w.env.SignalWorkflowByID(r.id, terminated, nil); err != nil {
			w.tell("%s is not terminated: %v", r.id, err)
		}
		if !whole || w.crowd.over[r.req.Release] {
			return
		}
		w.tell("%s is terminated", r.req.Release)
		if err := w.env.SignalWorkflowByID(r.req.Release, terminated, nil); err != nil {
			w.tell("%s is not terminated: %v", r.req.Release, err)
		}
	})
}

// terminate has the activities of a run hear, at their next heartbeat, that it is
// over. None is tried again.
func (s *staff) terminate(run string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead[run] = true
	for a := range s.work {
		if a.run != run {
			continue
		}
		a.once.Do(func() { close(a.gone) })
		drawn := s.w.line.draw(terminated + a.String())
		time.AfterFunc(time.Duration(binary.BigEndian.Uint32(drawn[:4])%8_000)*time.Millisecond, func() { a.end(errElsewhere) })
	}
}

func (s *staff) isDead(run string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead[run]
}

// isTerminated says whether a rollout was.
func (r *rolloutRun) isTerminated() bool { return isTerminated(r.err) }

// isTerminated says whether err is that of a workflow that was terminated.
func isTerminated(err error) bool {
	var t *temporal.TerminatedError
	return errors.As(err, &t)
}

// inherit returns what ran in an environment before a rollout that was terminated
// and that nothing has settled since, or nil.
func (w *watch) inherit(environment string) (before map[string][]fly.Machine) {
	if w.w.hasTrouble(historyLost) {
		return nil // nobody knows
	}
	for _, r := range w.runs {
		switch {
		case r.environment != environment || r.ended.IsZero():
		case r.err != nil && before == nil && !r.changed.IsZero(): // terminated, or stranded
			before = r.before
		case r.report != nil && !r.report.Outcome.ChangedNothing():
			before = nil
		}
	}
	return before
}

// mustOfferTheWay: a takeover asks about what nobody has settled since, and offers to
// go back where a history tells what ran before. The caller holds w.mu.
func (w *watch) mustOfferTheWay(r *rolloutRun, h release.Held) {
	if r.isLate(w.runs) {
		w.w.violate("%s asks what to do about a rollout that was terminated, and another has changed %s since", r.id, r.environment)
	}
	isGoingBack := strings.HasPrefix(h.Why, "the baseline could not be brought back: ")
	if w.inherit(r.environment) != nil && !isGoingBack && !slices.Contains(h.Choices, release.GoBack) {
		w.w.violate("%s takes over from a rollout that has changed machines, and does not offer to go back: %q, %s", r.id, h.Choices, h.Why)
	}
}

// isLate reports whether r takes over after another release's rollout has changed the
// environment: what was to be settled is.
func (r *rolloutRun) isLate(runs []*rolloutRun) bool {
	return r.req.TakeOver && slices.ContainsFunc(runs, func(other *rolloutRun) bool {
		return other.environment == r.environment && other.req.Release != r.req.Release && other.report != nil && !other.report.Outcome.ChangedNothing() &&
			slices.ContainsFunc(runs, func(lost *rolloutRun) bool { return lost.run == r.req.Follows && !other.begun.Before(lost.ended) })
	})
}

// follows says whether r began while activities of a rollout that was terminated may
// not have ended yet.
func (w *watch) follows(r *rolloutRun) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.runs, func(before *rolloutRun) bool {
		return before.environment == r.environment && before.isTerminated() && !before.ended.After(r.begun) && r.begun.Sub(before.ended) < 15*time.Second
	})
}

// A record is the history of a rollout, as far as anybody reads it.
type record struct{ events []*historypb.HistoryEvent }

func (r *record) add(e *historypb.HistoryEvent) int64 {
	e.EventId, e.EventTime = int64(len(r.events)+1), timestamppb.New(time.Now())
	r.events = append(r.events, e)
	return e.EventId
}

func payloads(values ...any) *commonpb.Payloads {
	out, err := converter.GetDefaultDataConverter().ToPayloads(values...)
	if err != nil {
		panic(err) // plain data
	}
	return out
}

// recorded are the activities that somebody looks for in a history.
var recorded = []string{"RecordBaseline", "TakeLeases", "OpenRollout", "ApplyStep", "Wake"}

// endsWithoutReport reports whether a rollout of the case may: it is terminated, or
// abandoned.
func (w *world) endsWithoutReport() bool {
	return w.hasTrouble(terminated) || w.lasting() || slices.Contains(w.Answers, release.Abandon)
}

// starts records that a rollout begins.
func (w *watch) starts(r *rolloutRun) {
	if !w.records {
		return
	}
	r.record.add(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: "Rollout"}, Input: payloads(r.req),
		}}})
}

// schedules records that a rollout schedules an activity of that ID.
func (w *watch) schedules(run, id, name string, args []any) {
	if !w.records || !slices.Contains(recorded, name) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		if r.run == run {
			w.scheduled[id] = scheduled{r, r.record.add(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
				Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{
					ActivityId: id, ActivityType: &commonpb.ActivityType{Name: name}, Input: payloads(args...),
				}}})}
		}
	}
}

// A scheduled activity is one of a rollout's, and its event there.
type scheduled struct {
	*rolloutRun
	event int64
}

// completes records the result of an activity of that ID.
func (w *watch) completes(id string, value any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.scheduled[id]
	if !ok || !s.ended.IsZero() {
		return
	}
	done := &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: s.event}
	if value != nil {
		done.Result = payloads(value)
	}
	s.record.add(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
		Attributes: &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{ActivityTaskCompletedEventAttributes: done}})
}

// closes records that a rollout was terminated.
func (r *rolloutRun) closes() {
	r.record.add(&historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionTerminatedEventAttributes{WorkflowExecutionTerminatedEventAttributes: &historypb.WorkflowExecutionTerminatedEventAttributes{
			Reason: "simulated", Identity: "ben",
		}}})
}

// An eventIterator reads a record.
type eventIterator struct {
	left []*historypb.HistoryEvent
	lost bool // it is no longer kept
}

// HasNext implements client.HistoryEventIterator.
func (i *eventIterator) HasNext() bool { return len(i.left) > 0 || i.lost }

// Next implements client.HistoryEventIterator.
func (i *eventIterator) Next() (*historypb.HistoryEvent, error) {
	if len(i.left) == 0 {
		return nil, serviceerror.NewNotFound("workflow history not found")
	}
	e := i.left[0]
	i.left = i.left[1:]
	return e, nil
}

// mustHaveAsked: a release whose rollout was terminated after its first change
// does not end as one that changed nothing, unless the environment was settled
// since, and not before a person was asked.
func (w *watch) mustHaveAsked(id string, report *release.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		if r.req.Release != id || !r.isTerminated() || r.changed.IsZero() {
			continue
		}
		if report != nil && report.Outcome == release.Stopped && w.inherit(r.environment) != nil {
			w.w.violate("%s says stopped, and its rollout was terminated after its first change", id)
		}
		if !w.w.crowd.wasAsked(r.id) && !w.w.crowd.aborted[id] {
			w.w.violate("%s ended, its rollout was terminated after its first change, and nobody was asked", id)
		}
		if report != nil && report.Outcome == release.Kept && !strings.Contains(strings.Join(report.Notes, "\n"), "could be removed") {
			w.mustSleep(r)
		}
	}
}

// mustSleep holds a rollout that was terminated to having left no machine running
// that it had only started for a look. The caller holds w.mu.
func (w *watch) mustSleep(r *rolloutRun) {
	for app, before := range r.before {
		a, _, _ := w.w.app(app)
		if w.w.hasTrouble(historyLost) || a.AutoStop || !w.foreign[app].IsZero() {
			continue // others start machines, too
		}
		for _, now := range w.machines(app) {
			i := slices.IndexFunc(before, func(m fly.Machine) bool { return m.ID == now.ID })
			if i >= 0 && before[i].State == "stopped" && !driver.Describe(before[i]).Crashed && runs(now) {
				w.w.violate("%s was kept, and machine %s of %s, which was stopped, is left %s", r.id, now.ID, app, now.State)
			}
		}
	}
}

// mustNotWait holds a rollout that did not get its leases to having been kept out by
// somebody who is still there: a rollout that has ended keeps nobody out.
func (w *watch) mustNotWait(in activities.LeaseInput, err error) {
	if !strings.Contains(err.Error(), "is leased by") || strings.Contains(err.Error(), "is leased by somebody else: ") {
		return // or who holds it could not be read
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var last string
	for _, m := range in.Machines {
		held := w.w.fly.Leases(m.FlyApp)[m.Machine]
		run, ours := release.HolderRun(held.Description)
		ended := slices.ContainsFunc(w.runs, func(r *rolloutRun) bool { return r.run == run && !r.ended.IsZero() })
		switch {
		case held.Nonce == "" || held.Description == in.Holder:
		case !ours || !ended:
			return // somebody else is there
		default:
			last = held.Description
		}
	}
	if last != "" {
		w.w.violate("%s is kept out by the lease of %s, which has ended: %v", in.Holder, last, err)
	}
}
