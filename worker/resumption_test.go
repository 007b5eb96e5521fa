package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/microbima/release/release"
)

// A loss is what a killed worker had in hand: an attempt of an activity, or the
// next task of a workflow.
type loss struct {
	id, run  string
	phase    release.Phase
	activity string // ID; "": a workflow task
	attempt  int32
	killed   time.Time
}

func (l loss) String() string {
	if l.activity == "" {
		return fmt.Sprintf("%s (%s): its next task", l.id, l.phase)
	}
	return fmt.Sprintf("%s (%s): attempt %d of activity %s", l.id, l.phase, l.attempt, l.activity)
}

// open describes the workflows that are under way: releases and their rollouts.
func (s *siege) open(ctx context.Context) (all []*workflowservice.DescribeWorkflowExecutionResponse) {
	type execution struct{ id, run string }
	var under []execution
	s.mu.Lock()
	for _, run := range s.running {
		under = append(under, execution{run.GetID(), run.GetRunID()})
	}
	s.mu.Unlock()
	for _, k := range kinds() {
		for _, env := range k.shop.environments() {
			under = append(under, execution{release.RolloutID(k.name, env), ""})
		}
	}
	for _, u := range under {
		if d, err := s.c.DescribeWorkflowExecution(ctx, u.id, u.run); err == nil && d.WorkflowExecutionInfo.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			all = append(all, d)
		}
	}
	return all
}

// losses are what the worker had in hand that was killed just now. A release
// that waits for people has nothing in hand: it is sent a decision that doesn't
// count, as people do who can't know.
func (s *siege) losses(ctx context.Context) (lost []loss) {
	killed := time.Now()
	for _, d := range s.open(ctx) {
		is := d.WorkflowExecutionInfo.Execution
		l := loss{id: is.WorkflowId, run: is.RunId, phase: phaseOf(d.WorkflowExecutionInfo), killed: killed}
		var mine []loss
		for _, a := range d.PendingActivities {
			// Leases last for minutes: refreshing them may wait for as long, and
			// nothing waits for it.
			if a.State == enums.PENDING_ACTIVITY_STATE_STARTED && a.ActivityType.GetName() != "KeepLeases" {
				one := l
				one.activity, one.attempt = a.ActivityId, a.Attempt
				mine = append(mine, one)
			}
		}
		switch {
		case len(mine) > 0:
		case d.PendingWorkflowTask != nil:
			mine = append(mine, l)
		case l.phase == release.Awaiting:
			nobody := release.Decision{By: "nobody", Plan: strings.Repeat("0", 64)}
			if err := s.c.SignalWorkflow(ctx, l.id, l.run, release.ApproveSignal, nobody); err == nil {
				mine = append(mine, l)
			}
		}
		lost = append(lost, mine...)
	}
	return lost
}

func phaseOf(info *workflowpb.WorkflowExecutionInfo) (p release.Phase) {
	if p = release.Loading; info.SearchAttributes.GetIndexedFields()[release.AttrPhase] == nil {
		return p // it has not said anything yet
	}
	if err := converter.GetDefaultDataConverter().FromPayload(info.SearchAttributes.IndexedFields[release.AttrPhase], &p); err != nil {
		return "unknown"
	}
	return p
}

// resume waits until all that was lost has begun again, and keeps how long that
// took from when the new worker was started.
func (s *siege) resume(ctx context.Context, begun time.Time, lost []loss) {
	for end := begun.Add(time.Minute); len(lost) > 0 && wait(ctx, 250*time.Millisecond) == nil; {
		lost = slices.DeleteFunc(lost, func(l loss) bool {
			at, err := s.again(ctx, l)
			if err != nil {
				return false
			}
			took := max(0, at.Sub(begun))
			s.resumes(l.phase, took)
			if took > resumesWithin {
				s.judged("", fmt.Errorf("it took %.1f s after the start of a worker until %s began again", took.Seconds(), l))
			}
			return true
		})
		if time.Now().After(end) {
			s.judged("", fmt.Errorf("a minute after the start of a worker did not begin again: %v", lost))
			return
		}
	}
}

var errNotYet = errors.New("not yet")

// again is when what was lost began again.
func (s *siege) again(ctx context.Context, l loss) (time.Time, error) {
	if l.activity != "" {
		d, err := s.c.DescribeWorkflowExecution(ctx, l.id, l.run)
		if err != nil {
			return time.Time{}, err
		}
		for _, a := range d.PendingActivities {
			switch {
			case a.ActivityId != l.activity:
			case a.Attempt > l.attempt && a.State == enums.PENDING_ACTIVITY_STATE_STARTED:
				return a.LastStartedTime.AsTime(), nil
			default:
				return time.Time{}, errNotYet
			}
		}
	}
	all, err := historyOf(ctx, s.c, l.id, l.run)
	if err != nil {
		return time.Time{}, err
	}
	return l.in(all.events)
}

// in finds in a history when what was lost began again, or, where nobody needed
// it any more, when that was found out.
func (l loss) in(events []*historypb.HistoryEvent) (time.Time, error) {
	ids := map[int64]bool{} // of the events that are about the activity
	for _, e := range events {
		at := e.EventTime.AsTime()
		switch {
		case l.activity == "" && at.After(l.killed) && e.EventType == enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			return at, nil
		case l.activity == "":
		case e.GetActivityTaskScheduledEventAttributes().GetActivityId() == l.activity:
			ids[e.EventId] = true
		case ids[e.GetActivityTaskStartedEventAttributes().GetScheduledEventId()]:
			if e.GetActivityTaskStartedEventAttributes().Attempt > l.attempt {
				return at, nil
			}
		case ids[e.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId()],
			ids[e.GetActivityTaskCanceledEventAttributes().GetScheduledEventId()],
			ids[e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId()],
			ids[e.GetActivityTaskFailedEventAttributes().GetScheduledEventId()]:
			return at, nil
		}
	}
	return time.Time{}, errNotYet
}

// lengths are how many events each open workflow has.
func (s *siege) lengths(ctx context.Context) map[string]int64 {
	n := map[string]int64{}
	for _, d := range s.open(ctx) {
		n[d.WorkflowExecutionInfo.Execution.RunId] = d.WorkflowExecutionInfo.HistoryLength
	}
	return n
}

// goesOn waits until something has happened that had not before the server was
// killed.
func (s *siege) goesOn(ctx context.Context, begun time.Time, before map[string]int64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := s.until(ctx, func(ctx context.Context) error {
		if err := s.serves(ctx); err != nil {
			return err
		}
		for run, n := range s.lengths(ctx) {
			if n > before[run] {
				return nil
			}
		}
		return errNotYet
	})
	s.wentOn(theServer, time.Since(begun))
	return err
}

// report is all that was seen, as tables, and in the last line as figures.
func report(seed uint64, sums []*tally) string {
	var b strings.Builder
	phases := []release.Phase{release.Loading, release.Preflight, release.Building, release.Planning, release.Awaiting, release.Queued,
		release.RollingOut, release.Verifying, release.Baking, release.CleaningUp, release.RollingBack, release.HeldPhase, release.Done}
	who := []string{theWorker, theServer, theFly}
	outcomes := []release.Outcome{release.Promoted, release.RolledBack, release.Stopped, release.Unchanged}
	row := func(on, what string, took []time.Duration) {
		if slices.Sort(took); len(took) > 0 {
			at := func(part float64) float64 { return took[int(part*float64(len(took)-1)+0.5)].Seconds() }
			fmt.Fprintf(&b, "%-11s  %-24s %5d %6.1f %6.1f %6.1f %6.1f\n", on, what, len(took), at(0), at(0.5), at(0.95), at(1))
		}
	}
	fmt.Fprintf(&b, "seed %d\n\n%-11s  %6s %6s %6s   %8s %11s %7s %9s   %10s\n", seed,
		"kills", theWorker, theServer, theFly, outcomes[0], outcomes[1], outcomes[2], outcomes[3], "violations")
	killed, releases, wrong, all := map[string]int{}, 0, 0, []time.Duration{}
	for _, s := range sums {
		fmt.Fprintf(&b, "%-11s  %6d %6d %6d   %8d %11d %7d %9d   %10d\n", s.on, s.kills[theWorker], s.kills[theServer], s.kills[theFly],
			s.releases[outcomes[0]], s.releases[outcomes[1]], s.releases[outcomes[2]], s.releases[outcomes[3]], len(s.wrong))
		for _, w := range who {
			killed[w] += s.kills[w]
		}
		for _, o := range outcomes {
			releases += s.releases[o]
		}
		wrong += len(s.wrong)
	}
	fmt.Fprintf(&b, "\n%-11s  %-24s %5s %6s %6s %6s %6s\n", "resumption", "seconds, from the start of the new worker", "", "", "", "", "")
	fmt.Fprintf(&b, "%-11s  %-24s %5s %6s %6s %6s %6s\n", "", "phase", "n", "min", "median", "p95", "max")
	for _, s := range sums {
		var here []time.Duration
		for _, p := range phases {
			row(s.on, string(p), s.resumed[p])
			here = append(here, s.resumed[p]...)
		}
		row(s.on, "all phases", here)
		all = append(all, here...)
	}
	fmt.Fprintf(&b, "\n%-11s  %s\n", "going on", "seconds, from the start of the new process until something happens")
	for _, s := range sums {
		row(s.on, theServer, s.went[theServer])
		row(s.on, theFly, s.went[theFly])
	}
	longest := time.Duration(0)
	if len(all) > 0 {
		longest = slices.Max(all)
	}
	fmt.Fprintf(&b, "\nkills=%d worker=%d server=%d fly=%d releases=%d violations=%d resumption-max=%.1fs",
		killed[theWorker]+killed[theServer]+killed[theFly], killed[theWorker], killed[theServer], killed[theFly], releases, wrong, longest.Seconds())
	return b.String()
}
