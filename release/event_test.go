package release_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/release"
)

var (
	foldTime    = time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC)
	foldTarget  = release.Target{App: "web", Environment: "staging"}
	foldPlan    = release.Plan{Environment: "staging", Hash: "0123456789ab", Lineage: release.Lineage{Relation: release.Forward}}
	foldTargets = []release.TargetStatus{{Target: foldTarget, FlyApp: "shop-web", Machines: []release.MachineStatus{
		{ID: "e1", Name: "one", State: "started", Progress: release.ProgressWaiting}, {Name: "web-2", Progress: release.ProgressWaiting},
	}}}
	foldRollout = release.WorkflowBegun(release.Begun{ID: "rollout/shop/staging", Release: "release/shop/4f2d"})
	foldRelease = release.WorkflowBegun(release.Begun{ID: "release/shop/4f2d", Run: "run-1", Protocol: 3, Project: "shop", By: "ada", Revision: release.Revision{Commit: "4f2d"}})
)

// foldCases has for each kind of event: the events before it, the event, and the part of
// the status that it sets, as JSON.
var foldCases = []struct {
	before []release.Event
	event  release.Event
	field  func(release.Status) any
	want   string
}{
	{nil, foldRelease, func(s release.Status) any { return []any{s.ID, s.Run, s.Protocol, s.Project, s.By, s.Revision.Commit} }, `["release/shop/4f2d","run-1",3,"shop","ada","4f2d"]`},
	{[]release.Event{release.PhaseEntered(release.Loading, "")}, release.PhaseEntered(release.Planning, "staging"),
		func(s release.Status) any { return s.Spans },
		`[{"phase":"loading","from":"2026-03-09T14:00:01Z","to":"2026-03-09T14:00:02Z"},{"phase":"planning","environment":"staging","from":"2026-03-09T14:00:02Z"}]`},
	{[]release.Event{foldRollout}, release.PlanMade(foldPlan), func(s release.Status) any {
		return []any{s.Plan.Hash, s.Environments[0].Plan, s.Environments[0].Lineage.Relation}
	}, `["0123456789ab","0123456789ab","forward"]`},
	{[]release.Event{release.AbortRequested(release.Abort{By: "bob", Reason: "wrong commit"})}, release.CauseFound(release.Cause{Message: "aborted", Aborted: true}),
		func(s release.Status) any { return s.Cause.Message }, `"aborted by bob: wrong commit"`},
	{[]release.Event{release.CauseFound(release.Cause{Message: "aborted", Aborted: true})}, release.AbortRequested(release.Abort{By: "bob"}),
		func(s release.Status) any { return []any{s.Cause.Message, s.Abort.By} }, `["aborted by bob","bob"]`},
	{nil, release.Noted("a remark"), notes, `["a remark"]`},
	{nil, release.CleanupFailed("a lease is left"), notes, `["a lease is left"]`},
	{nil, release.PlanStale("staging", "planned staging again"), notes, `["planned staging again"]`},
	{nil, release.StateUnread("staging", "could not read"), notes, `["could not read"]`},
	{nil, release.MachineLeftAwake(foldTarget, "e1", "e1 runs"), notes, `["e1 runs"]`},
	{nil, release.MachineWasRecreated(release.Recreated{Target: foldTarget, ID: "e1", NewID: "e2"}), notes, `null`},
	{[]release.Event{foldRelease, release.PlanMade(foldPlan)}, release.OutcomeReached("staging", release.Unchanged, foldTargets),
		func(s release.Status) any {
			return []any{s.Environments[0].Outcome, len(s.Environments[0].Targets), s.Plan}
		}, `["unchanged",1,null]`},
	{[]release.Event{release.PhaseEntered(release.Loading, "")}, release.WorkflowEnded(release.Stopped), func(s release.Status) any {
		return []any{s.Outcome, s.Phase, s.Ended, s.Spans[0].To}
	}, `["stopped","done","2026-03-09T14:00:02Z","2026-03-09T14:00:02Z"]`},
	{nil, release.PathExtended([]string{"staging", "production"}, "extended by bob"),
		func(s release.Status) any { return []any{s.Environments[1].Name, s.Notes} }, `["production",["extended by bob"]]`},
	{nil, release.RestoreFound("staging", release.Revision{Commit: "aaaa"}, release.StateRef{Run: "run-9"}),
		func(s release.Status) any { return []any{s.Revision.Commit, s.Restores.Run} }, `["aaaa","run-9"]`},
	{nil, release.JobStarted("test unit"), func(s release.Status) any { return s.Jobs }, `[{"name":"test unit","since":"2026-03-09T14:00:01Z"}]`},
	{[]release.Event{release.JobStarted("test unit"), release.JobStarted("build web")}, release.JobEnded("test unit"),
		func(s release.Status) any { return []any{len(s.Jobs), s.Jobs[0].Name} }, `[1,"build web"]`},
	{nil, release.TestFinished(release.TestResult{Name: "unit", Tail: "FAIL"}), func(s release.Status) any { return s.Tests[0].Tail }, `"FAIL"`},
	{nil, release.BuildFinished(release.BuildResult{App: "web"}), func(s release.Status) any { return s.Builds[0].App }, `"web"`},
	{nil, release.ScanFinished(release.ScanResult{Name: "web"}), func(s release.Status) any { return s.Scans[0].Name }, `"web"`},
	{[]release.Event{release.ImagesCopied("staging", 3)}, release.ImagesCopied("staging", 4), func(s release.Status) any { return s.Environments[0].CopiedBytes }, `7`},
	{nil, release.GateOpened(release.GateStatus{Plan: "01", Approvals: 2}), func(s release.Status) any { return s.Gate.Approvals }, `2`},
	{[]release.Event{release.GateOpened(release.GateStatus{Plan: "01"})}, release.GateClosed("staging"), func(s release.Status) any { return s.Gate }, `null`},
	{[]release.Event{release.GateOpened(release.GateStatus{Plan: "01"}), reviewBy("cleo", "late")}, reviewBy("bob", ""),
		func(s release.Status) any { return []any{s.Gate.Approved, len(s.Reviews)} }, `[["bob"],2]`},
	{nil, release.QueueJoined("staging", "release x holds it", "release/shop/x"), func(s release.Status) any { return s.Queue }, `"release x holds it"`},
	{[]release.Event{release.QueueJoined("staging", "release x holds it", "")}, release.QueueLeft("staging"), func(s release.Status) any { return s.Queue }, `""`},
	{nil, release.RolloutStarted("staging", release.RolloutRef{ID: "rollout/shop/staging", Run: "run-2"}), func(s release.Status) any { return s.Rollout }, `"rollout/shop/staging"`},
	{[]release.Event{foldRelease, release.PlanMade(foldPlan), release.PhaseEntered(release.RollingOut, "staging")},
		release.RolloutEnded("staging", release.RolloutRef{ID: "rollout/shop/staging", Run: "run-2"}, &release.RolloutResult{
			Environment: &release.EnvironmentStatus{Outcome: release.Promoted, Plan: "01"}, Notes: []string{"a remark"}, Spans: []release.Span{{Phase: release.Verifying}},
		}),
		func(s release.Status) any {
			e := s.Environments[0]
			return []any{s.Rollout, e.Outcome, e.Plan, e.Run, e.Lineage.Relation, len(s.Spans), s.Spans[0].Phase, s.Notes, s.Plan}
		}, `["","promoted","01","run-2","forward",1,"verifying",["a remark"],null]`},
	{nil, release.TargetsPlanned("staging", foldTargets, []string{"nothing checks it"}),
		func(s release.Status) any { return []any{len(s.Environments[0].Targets), s.Environments[0].Warnings} }, `[1,["nothing checks it"]]`},
	{[]release.Event{release.TargetsPlanned("staging", foldTargets, nil)}, release.ReleasesOpened("staging", map[string]int{"shop-web": 12}),
		func(s release.Status) any { return s.Environments[0].Targets[0].FlyRelease }, `12`},
	{[]release.Event{release.TargetsPlanned("staging", foldTargets, nil)},
		release.MachineChanged(foldTarget, "web-2", release.MachineStatus{ID: "e2", Name: "web-2", Verb: release.Create, Progress: release.ProgressDone}),
		machines, `["e1 one waiting","e2 web-2 ready"]`},
	{[]release.Event{release.TargetsPlanned("staging", foldTargets, nil)}, release.MachineChanged(foldTarget, "release-command-1", release.MachineStatus{Name: "release-command-1", Progress: release.ProgressRunning}),
		machines, `["e1 one waiting"," web-2 waiting"," release-command-1 doing"]`},
	{[]release.Event{release.TargetsPlanned("staging", foldTargets, nil), release.ReleasesOpened("staging", map[string]int{"shop-web": 12}),
		release.MachineChanged(foldTarget, "e1", release.MachineStatus{ID: "e1", Name: "one", Verb: release.Update, Progress: release.ProgressFailed})},
		release.MachinesObserved("staging", []release.TargetStatus{{Target: foldTarget, Machines: []release.MachineStatus{{ID: "e1", Name: "one", State: "stopped"}}}}),
		func(s release.Status) any {
			return []any{machines(s), s.Environments[0].Targets[0].Machines[0].State, s.Environments[0].Targets[0].FlyRelease}
		}, `[["e1 one failed"],"stopped",12]`},
	{nil, release.CommandRan(release.CommandResult{Target: foldTarget, ExitCode: 3}), func(s release.Status) any { return s.Environments[0].Commands[0].ExitCode }, `3`},
	{[]release.Event{release.VerdictReached(release.Verdict{Target: foldTarget, Health: release.Unknown})}, release.VerdictReached(release.Verdict{Target: foldTarget, Health: release.Healthy}),
		func(s release.Status) any {
			return []any{len(s.Environments[0].Verdicts), s.Environments[0].Verdicts[0].Health}
		}, `[1,"healthy"]`},
	{nil, release.RolloutHeld("staging", release.Hold{Why: "no capacity", Number: 1}), func(s release.Status) any { return s.Held.Number }, `1`},
	{[]release.Event{release.RolloutHeld("staging", release.Hold{Number: 1})}, release.HoldEnded("staging", &release.Resolution{Choice: release.ChoiceKeep, By: "bob"}, "held, then keep by bob"),
		func(s release.Status) any { return []any{s.Held, s.Notes} }, `[null,["held, then keep by bob"]]`},
}

func notes(s release.Status) any { return s.Notes }

func machines(s release.Status) any {
	var all []string
	for _, m := range s.Environments[0].Targets[0].Machines {
		all = append(all, fmt.Sprintf("%s %s %s", m.ID, m.Name, m.Progress))
	}
	return all
}

func reviewBy(name, ignored string) release.Event {
	return release.ReviewReceived("staging", release.ReceivedReview{Review: release.Review{Approve: true, By: name}, IgnoredReason: ignored})
}

// Each kind of event sets its part of the status, and the fold changes no event.
func TestStatus_Apply(t *testing.T) {
	missing := map[release.EventKind]bool{}
	for _, kind := range release.EventKinds() {
		missing[kind] = true
	}
	for _, test := range foldCases {
		t.Run(string(test.event.Kind), func(t *testing.T) {
			delete(missing, test.event.Kind)
			var s release.Status
			events := append(test.before[:len(test.before):len(test.before)], test.event)
			before := asJSON(t, events)
			for i, e := range events {
				e.At = foldTime.Add(time.Duration(i+1) * time.Second)
				if !s.Apply(e) {
					t.Fatalf("%q is not a known kind", e.Kind)
				}
			}
			if got := asJSON(t, test.field(s)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if after := asJSON(t, events); after != before {
				t.Errorf("the fold has changed its events:\n%s\n%s", before, after)
			}
		})
	}
	for kind := range missing {
		t.Errorf("no case for %q", kind)
	}
}

// An event of a newer program is not lost silently.
func TestStatus_ApplyUnknownKind(t *testing.T) {
	s := release.Status{ID: "release/shop/4f2d"}
	if s.Apply(release.Event{Kind: "paused", Note: "a remark"}) || !reflect.DeepEqual(s, release.Status{ID: "release/shop/4f2d"}) {
		t.Errorf("an unknown kind was applied: %+v", s)
	}
}

// The log keeps no machine config and no output tail. Its status has both.
func TestEventLog_Outlines(t *testing.T) {
	config := release.Config{Doc: json.RawMessage(`{"image":"secret-config"}`)}
	plan := foldPlan
	plan.Waves = []release.Wave{{Lanes: []release.Lane{{Steps: []release.Step{{Verb: release.Update, Before: config, After: config}}}}}}
	var log release.EventLog
	for _, e := range []release.Event{foldRelease, release.PlanMade(plan),
		release.TestFinished(release.TestResult{Name: "unit", Tail: "long output"}), release.BuildFinished(release.BuildResult{App: "web", Tail: "long output"}),
		release.ScanFinished(release.ScanResult{Name: "web", Tail: "long output"})} {
		log.Record(foldTime, e)
	}
	page, err := log.Page(release.EventQuery{})
	if text := asJSON(t, page); err != nil || strings.Contains(text, "secret-config") || strings.Contains(text, "long output") {
		t.Errorf("the events have configs or outputs (%v): %s", err, text)
	}
	s := log.Status()
	if text := asJSON(t, s); strings.Count(text, "secret-config") != 2 || strings.Count(text, "long output") != 3 {
		t.Errorf("the status lacks configs or outputs: %s", text)
	}
	var folded release.Status
	for _, e := range page.Events {
		folded.Apply(e)
	}
	if got, want := asJSON(t, folded), asJSON(t, s.Outline()); got != want {
		t.Errorf("the fold of the page is %s, want %s", got, want)
	}
}

// A page has at most 1 MB, unless a single event is larger, and the next page continues
// after it.
func TestEventLog_Page(t *testing.T) {
	var log release.EventLog
	for _, kilobytes := range []int{1, 400, 400, 400, 1500, 1, 1} {
		log.Record(foldTime, release.Noted(strings.Repeat("x", kilobytes<<10)))
	}
	var sizes []int
	next := 0
	for more := true; more; {
		page, err := log.Page(release.EventQuery{After: next})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if next++; e.Number != next || !e.At.Equal(foldTime) {
				t.Errorf("event %d has number %d and time %s", next, e.Number, e.At)
			}
		}
		sizes, more = append(sizes, len(page.Events)), page.More
	}
	if want := []int{3, 1, 1, 2}; !reflect.DeepEqual(sizes, want) {
		t.Errorf("pages of %v events, want %v", sizes, want)
	}
	if page, err := log.Page(release.EventQuery{After: 99}); err != nil || len(page.Events) > 0 || page.More {
		t.Errorf("after the last event: %v, %v", page, err)
	}
	if _, err := log.Page(release.EventQuery{After: -1}); err == nil || !strings.Contains(err.Error(), "must be 0 or more, got -1") {
		t.Errorf("a negative number: %v", err)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	doc, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}
