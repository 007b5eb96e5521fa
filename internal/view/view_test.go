package view_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

func rollingOut() release.Status {
	s := status()
	s.Phase, s.Since = release.RollingOut, at(100)
	s.Gate, s.Rollout = nil, "rollout/microbima/production"
	s.Spans[len(s.Spans)-1].To = at(100)
	s.Spans = append(s.Spans, release.Span{Phase: release.RollingOut, Environment: "production", From: at(100)})
	s.Environments[1] = production()
	s.Reviews = s.Reviews[:1]
	return s
}

func TestLive(t *testing.T) {
	golden(t, "live_rolling_out", view.Live(rollingOut(), at(106), view.Style{Width: 100}))
	building := status()
	building.Phase, building.Gate = release.Building, nil
	building.Spans, building.Spans[2].To = building.Spans[:3], time.Time{}
	building.Builds, building.Tests = building.Builds[:1], nil
	building.Reviews = nil
	building.Environments = []release.EnvironmentStatus{{Name: "staging"}, {Name: "production"}}
	building.Jobs = []release.Job{{Name: "test unit", Since: at(1)}, {Name: "build web-admin", Since: at(1)}}
	golden(t, "live_building", view.Live(building, at(9), view.Style{Width: 100}))
	golden(t, "live_gate", view.Live(status(), at(75), view.Style{Width: 100}))
	golden(t, "live_held", view.Live(held(), at(150), view.Style{Width: 100}))
	golden(t, "live_colour", view.Live(rollingOut(), at(106), view.Style{Width: 60, Colour: true}))
	golden(t, "live_nothing_yet", view.Live(release.Status{ID: "release/p/4f2d", Project: "p", Phase: release.Loading, Started: at(0), Spans: []release.Span{{Phase: release.Loading, From: at(0)}}}, at(1), view.Style{}))
}

// A view higher than the screen cannot be redrawn: the cursor cannot move back to its
// first line.
func TestLive_FitsScreen(t *testing.T) {
	for height := 3; height < 12; height++ {
		got := view.Live(rollingOut(), at(106), view.Style{Width: 40, Height: height})
		if n := strings.Count(got, "\n"); n >= height {
			t.Errorf("%d lines on a screen of %d:\n%s", n, height, got)
		}
		for line := range strings.SplitSeq(got, "\n") {
			if len([]rune(line)) > 40 {
				t.Errorf("wider than 40: %q", line)
			}
		}
	}
	if got := view.Live(held(), at(150), view.Style{Height: 15}); !strings.Contains(got, "abandon") || !strings.Contains(got, "left out: the terminal is too low") {
		t.Errorf("the choices were left out:\n%s", got)
	}
	if got := view.Live(rollingOut(), at(106), view.Style{Height: 10}); !strings.Contains(got, "e2") {
		t.Errorf("the updating machine was left out:\n%s", got)
	}
}

func TestReport(t *testing.T) {
	golden(t, "report_rolled_back", view.Report(rolledBack(), "214 history events", at(200), view.Style{}))
	golden(t, "report_gate", view.Report(status(), "", at(75), view.Style{}))
	s := status()
	s.Phase, s.Outcome = release.Done, release.Stopped
	s.Ended = at(9)
	s.Gate, s.Environments = nil, nil
	s.Cause = &release.Cause{Message: "test unit failed: exit code 1"}
	s.Tests[0] = release.TestResult{Name: "unit", ExitCode: 1, Took: release.Duration(time.Second), Log: "logs/x", Tail: "--- FAIL: TestGreeting\n\nFAIL\n"}
	s.Builds[1] = release.BuildResult{App: "web-admin", Tail: "main.go:3: undefined: x\n"}
	golden(t, "report_test_failed", view.Report(s, "", at(75), view.Style{}))
}

func TestPlan(t *testing.T) {
	golden(t, "plan", view.Plan(plan(), view.Style{}))
	golden(t, "plan_empty", view.Plan(release.Plan{Environment: "staging", Targets: plan().Targets[2:]}, view.Style{}))
}

func TestReview(t *testing.T) {
	s := status()
	golden(t, "review", view.Review(s, at(200), view.Style{}))
	s.Plan.Lineage = release.Lineage{Relation: release.Forward}
	golden(t, "review_first", view.Review(s, at(200), view.Style{}))
	s.Plan.Lineage = release.Lineage{Relation: release.UnknownRelation, Why: "git could not be reached: connection refused"}
	golden(t, "review_unknown_lineage", view.Review(s, at(200), view.Style{Whole: true}))
	golden(t, "gate", view.Gate(status(), "http://127.0.0.1:8233/x"))
}

// The status of a rollout is newer than its release's.
func TestMerge(t *testing.T) {
	s := rollingOut()
	s.Environments[1].Targets = nil
	e := production()
	rollout := release.Status{
		ID: "rollout/microbima/production", Release: s.ID, Phase: release.Verifying, Since: at(120), Environment: "production",
		Environments: []release.EnvironmentStatus{e}, Held: held().Held,
		Spans: []release.Span{{Phase: release.RollingOut, From: at(100), To: at(120)}, {Phase: release.Verifying, From: at(120)}},
	}
	got := view.Merge(s, &rollout)
	if got.Phase != release.Verifying || len(got.Environments[1].Targets) != 2 || got.Held == nil || got.ID != s.ID {
		t.Errorf("merged: %+v", got)
	}
	open := 0
	for _, span := range got.Spans {
		if span.To.IsZero() {
			open++
		}
	}
	if open != 1 {
		t.Errorf("%d phases last at once: %+v", open, got.Spans)
	}
	if len(s.Environments[1].Targets) != 0 {
		t.Error("the release's own status was changed")
	}
	if last := s.Spans[len(s.Spans)-1]; last.Phase != release.RollingOut || !last.To.IsZero() {
		t.Errorf("the release's own spans were changed: %+v", s.Spans)
	}
	foreign := rollout
	foreign.Release = "release/microbima/another"
	if got := view.Merge(s, &foreign); got.Phase != release.RollingOut || len(got.Environments[1].Targets) != 0 || got.Held != nil {
		t.Errorf("another release's rollout is shown as this one's: %+v", got)
	}
	ended := rollout
	ended.Phase = release.Done
	if got := view.Merge(s, &ended); got.Phase != release.RollingOut {
		t.Errorf("the rollout has ended, the release has not: it is %q", got.Phase)
	}
	if over := rolledBack(); view.Merge(over, &rollout).Phase != release.Done {
		t.Error("a rollout's status reopened a release that has ended")
	}
}

func TestList(t *testing.T) {
	golden(t, "list", view.List([]release.Entry{
		{ID: "release/microbima/4f2d1c0b9a8e", Subject: "Greet people by their name", By: "ada", Environment: "production", Phase: string(release.AwaitingApproval), Started: at(0)},
		{ID: "release/microbima/rollback-production", By: "bob", Outcome: string(release.RolledBack), Started: at(-4000), Ended: at(-3900)},
		{ID: "release/microbima/aaaa", By: "bob", Phase: string(release.HeldPhase), Started: at(-9000), Ended: at(-8000)},
	}, at(75), view.Style{}))
}

func TestTargetStates(t *testing.T) {
	config := func(level string) release.Config {
		return release.Config{Doc: []byte(`{"image":"x","env":{"LOG_LEVEL":"` + level + `"}}`)}
	}
	m := func(id string, image release.Image, level string) release.Machine {
		return release.Machine{ID: id, Group: "app", Region: "ams", State: "started", Image: image, Config: config(level), Release: "release/microbima/4f2d1c0b9a8e", Revision: revision().Commit, Updated: at(0)}
	}
	drifted := []release.Machine{m("e1", newAPI, "info"), m("e2", oldAPI, "debug"), m("e3", newAPI, "info")}
	drifted[2].Checks = []release.Check{{Name: "http", Status: "critical", Output: "connection refused"}}
	drifted[2].Release, drifted[2].Revision = "", ""
	drifted[2].Cordoned = true
	targets := []view.TargetState{
		{State: release.State{Target: api, FlyApp: "microbima-production-internal-api", URL: "https://api.fly.dev", Machines: []release.Machine{m("e1", newAPI, "info"), m("e2", newAPI, "info")}}},
		{State: release.State{Target: web, FlyApp: "microbima-production-web-admin", Machines: drifted, Foreign: []string{"e9 (console)"}}},
		{State: release.State{Target: release.Target{App: "public-api", Environment: "production"}, FlyApp: "microbima-production-public-api"}},
		{State: release.State{Target: release.Target{App: "public-api", Environment: "staging"}}, Unknown: "Fly refuses the token"},
	}
	for i := range targets {
		targets[i].Drift = view.Drift(targets[i].State)
	}
	golden(t, "targets", view.TargetStates(targets, at(3600), view.Style{}))
}

// Machines that flyctl changed still name the release before: Drift reports the change.
// The marks of flyctl's blue-green deploys are no drift.
func TestDrift_ChangedByFlyctl(t *testing.T) {
	m := func(id, client string) release.Machine {
		config := `{"metadata":{"fly_flyctl_bluegreen_launch_id":"` + id + `","fly_bluegreen_deployment_tag":"` + id + `"}}`
		return release.Machine{ID: id, Group: "app", State: "started", Image: newAPI, Config: release.Config{Doc: []byte(config)}, Release: "release/microbima/4f2d1c0b9a8e", Client: client}
	}
	for name, test := range map[string]struct {
		client string
		want   []string
	}{
		"ours":     {"", nil},
		"flyctl's": {"0.4.1", []string{"2 machines changed after that release, by another client: fly_flyctl_version is 0.4.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := view.Drift(release.State{Machines: []release.Machine{m("e1", test.client), m("e2", test.client)}}); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 340 * time.Millisecond: "0.3s", 9949 * time.Millisecond: "9.9s", 9950 * time.Millisecond: "9.9s", 59999 * time.Millisecond: "59s",
		185 * time.Second: "3m05s", 62 * time.Minute: "1h02m", 72 * time.Hour: "3 days",
	} {
		if got := view.Duration(d); got != want {
			t.Errorf("%s is written %s, want %s", d, got, want)
		}
	}
}

// A machine with an unchanged config is updated for one of three reasons, and the plan
// shows which.
func TestPlan_UpdateWithoutDifference(t *testing.T) {
	for want, change := range map[string]func(*release.Step){
		"only the image differs":                        func(s *release.Step) {},
		"the same image, now referenced by digest":      func(s *release.Step) { s.From = s.To },
		"no difference; the update applies new secrets": func(s *release.Step) { s.From, s.Before = s.To, s.After },
	} {
		p := plan()
		s := step(release.Update, api, "e1", oldAPI, newAPI)
		s.Before.Doc = []byte(strings.Replace(string(s.After.Doc), string(newAPI), string(oldAPI), 1))
		change(&s)
		p.Waves = []release.Wave{{Title: "update", Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{s}}}}}
		if got := view.Plan(p, view.Style{}); !strings.Contains(got, want) {
			t.Errorf("missing %q:\n%s", want, got)
		}
	}
}
