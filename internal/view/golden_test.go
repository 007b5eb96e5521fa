package view_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/microbima/release/release"
)

var update = flag.Bool("update", false, "update the golden files")

// golden compares got with testdata/<name>.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run this test with -update to write it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nrun this test with -update if the change is intended", path, diff)
	}
}

func at(seconds float64) time.Time {
	return time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

const (
	oldAPI = release.Image("registry.fly.io/api@sha256:1111111111111111111111111111111111111111111111111111111111111111")
	newAPI = release.Image("registry.fly.io/api@sha256:2222222222222222222222222222222222222222222222222222222222222222")
	oldWeb = release.Image("registry.fly.io/web@sha256:3333333333333333333333333333333333333333333333333333333333333333")
	newWeb = release.Image("registry.fly.io/web@sha256:4444444444444444444444444444444444444444444444444444444444444444")
)

var (
	api = release.Target{App: "internal-api", Environment: "production"}
	web = release.Target{App: "web-admin", Environment: "production"}
)

func revision() release.Revision {
	return release.Revision{Commit: "4f2d1c0b9a8e7d6c5b4a39281706f5e4d3c2b1a0", Tree: "77", Subject: "Greet people by their name", Author: "Ada"}
}

func staging() release.EnvironmentStatus {
	a, w := api, web
	a.Environment, w.Environment = "staging", "staging"
	return release.EnvironmentStatus{
		Name: "staging", Outcome: release.Promoted, Plan: "aaaa", Rollout: "rollout/microbima/staging",
		Targets: []release.TargetStatus{
			{Target: a, FlyApp: "microbima-staging-internal-api", URL: "https://s-api.fly.dev", Image: newAPI, Changed: true, Machines: []release.MachineStatus{
				{ID: "s1", Name: "s-one", Group: "app", Region: "ams", Image: newAPI, State: "started", Verb: release.Create, Progress: release.ProgressDone, Since: at(20), Until: at(23)}}},
			{Target: w, FlyApp: "microbima-staging-web-admin", URL: "https://s-web.fly.dev", Image: newWeb, Changed: false, Machines: []release.MachineStatus{
				{ID: "s2", Name: "s-two", Group: "app", Region: "ams", Image: newWeb, State: "started", Progress: release.ProgressUnchanged}}},
		},
		Verdicts: []release.Verdict{{Target: a, Health: release.Healthy, Machines: 1, Probed: "GET /health: 200", At: at(41)}, {Target: w, Health: release.Healthy, Machines: 1, At: at(41)}},
	}
}

func production() release.EnvironmentStatus {
	return release.EnvironmentStatus{
		Name: "production", Plan: plan().Hash, Rollout: "rollout/microbima/production",
		Targets: []release.TargetStatus{
			{Target: api, FlyApp: "microbima-production-internal-api", URL: "https://api.fly.dev", Image: newAPI, Changed: true, Machines: []release.MachineStatus{
				{ID: "e1", Name: "one", Group: "app", Region: "ams", Image: newAPI, State: "started", Verb: release.Update, Progress: release.ProgressDone, Since: at(100), Until: at(103.4)},
				{ID: "e2", Name: "two", Group: "app", Region: "fra", Image: oldAPI, State: "replacing", Verb: release.Update, Progress: release.ProgressRunning, Since: at(103.5)}}},
			{Target: web, FlyApp: "microbima-production-web-admin", URL: "https://web.fly.dev", Image: newWeb, Changed: true, Machines: []release.MachineStatus{
				{ID: "e3", Name: "three", Group: "app", Region: "ams", Image: oldWeb, State: "started", Progress: release.ProgressWaiting},
				{Name: "app-12345678-1", Group: "app", Region: "fra", Progress: release.ProgressWaiting}}},
		},
	}
}

func step(v release.Verb, target release.Target, machine string, from, to release.Image) release.Step {
	s := release.Step{Verb: v, Target: target, FlyApp: "microbima-" + target.Environment + "-" + target.App, Machine: machine, Group: "app", Region: "ams", From: from, To: to}
	s.After.Doc = []byte(`{"image":"` + string(to) + `","env":{"LOG_LEVEL":"debug","SAMPLE":"0.1"},"guest":{"memory_mb":1024},"metadata":{"fly_process_group":"app"}}`)
	if v == release.Update {
		s.Before.Doc = []byte(`{"image":"` + string(from) + `","env":{"LOG_LEVEL":"info"},"guest":{"memory_mb":512},"metadata":{"fly_process_group":"app","release_id":"x"}}`)
	}
	return s
}

func plan() release.Plan {
	return release.Plan{
		Environment: "production", Revision: revision().Commit, Run: "run-1",
		Lineage: release.Lineage{
			Relation: release.Diverged, Running: []string{"00112233445566778899aabbccddeeff00112233"}, AddedCount: 2, RemovedCount: 1,
			Added:   []release.Revision{revision(), {Commit: "1234567890abcdef1234567890abcdef12345678", Subject: "Log less", Author: "Bob"}},
			Removed: []release.Revision{{Commit: "fedcba0987654321fedcba0987654321fedcba09", Subject: "Log more", Author: "Bob"}},
		},
		Hash: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		Targets: []release.TargetPlan{
			{Target: api, FlyApp: "microbima-production-internal-api", Strategy: release.Rolling, MaxUnavailable: 1, Image: newAPI, Changed: true, MachineVersions: map[string]string{"e1": "1", "e2": "2"},
				Notes: []string{"picks up staged secrets: DATABASE_URL (set until 2026-03-09 13:00 UTC); a rollback can't bring their old values back"}},
			{Target: web, FlyApp: "microbima-production-web-admin", Level: 1, Strategy: release.Rolling, MaxUnavailable: 1, Image: newWeb, Changed: true, MachineVersions: map[string]string{"e3": "3"},
				Addresses: []string{"v6", "shared_v4"}},
			{Target: release.Target{App: "public-api", Environment: "production"}, FlyApp: "microbima-production-public-api", Level: 1, Image: newWeb, MachineVersions: map[string]string{"e9": "9"}},
		},
		Waves: []release.Wave{
			{Title: "run release command", Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{
				{Verb: release.Run, Target: api, Machine: "release-command-1", Group: release.ReleaseCommandGroup, To: newAPI, Command: "migrate up"}}}}},
			{Title: "update", Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{step(release.Update, api, "e1", oldAPI, newAPI), step(release.Update, api, "e2", oldAPI, newAPI)}}}},
			{Title: "update, create", Settle: release.Duration(10 * time.Second), Lanes: []release.Lane{
				{MaxConcurrent: 1, Steps: []release.Step{step(release.Update, web, "e3", oldWeb, newWeb)}},
				{MaxConcurrent: 8, Steps: []release.Step{step(release.Create, web, "app-12345678-1", "", newWeb)}}}},
		},
	}
}

// status is a release while it waits at production's gate.
func status() release.Status {
	p := plan()
	return release.Status{
		ID: "release/microbima/4f2d1c0b9a8e", Run: "run-1", Project: "microbima", Revision: revision(), By: "ada",
		Phase: release.AwaitingApproval, Since: at(60), Started: at(0), Environment: "production",
		Environments: []release.EnvironmentStatus{staging(), {Name: "production"}},
		Tests:        []release.TestResult{{Name: "unit", Passed: true, Took: release.Duration(4200 * time.Millisecond), Log: "logs/unit.log", Tail: "ok\n"}},
		Builds:       []release.BuildResult{{App: "internal-api", Image: newAPI, Took: release.Duration(2 * time.Second)}, {App: "web-admin", Image: newWeb, Took: release.Duration(3 * time.Second)}},
		Spans: []release.Span{
			{Phase: release.Loading, From: at(0), To: at(0.3)}, {Phase: release.Preflight, From: at(0.3), To: at(1)},
			{Phase: release.Building, From: at(1), To: at(15)},
			{Phase: release.RollingOut, Environment: "staging", From: at(16), To: at(40)},
			{Phase: release.Verifying, Environment: "staging", From: at(40), To: at(41)},
			{Phase: release.AwaitingApproval, Environment: "production", From: at(60)},
		},
		Plan: &p, Gate: &release.GateStatus{Environment: "production", Plan: p.Hash, Approvals: 2, Approved: []string{"ada"}, Until: at(86460)},
		Reviews: []release.ReceivedReview{
			{Review: release.Review{Approve: true, By: "ada", Plan: p.Hash}, At: at(61), Via: "update"},
			{Review: release.Review{Approve: true, By: "", Plan: "ffffffffffff"}, At: at(62), Via: "signal", IgnoredReason: "it is for another plan"},
		},
	}
}

// held is a release whose rollback failed and is held.
func held() release.Status {
	s := status()
	s.Phase, s.Since = release.HeldPhase, at(140)
	s.Gate = nil
	s.Environments[1] = production()
	s.Environments[1].Targets[0].Machines[1].Progress = release.ProgressFailed
	s.Held = &release.Hold{
		Why:      "Fly refuses to bring machine e2 back: no capacity in fra",
		Machines: []string{"machine e1 of internal-api/production runs the new image", "machine e2 of internal-api/production is stopped"},
		Choices:  []release.Choice{release.ChoiceRetry, release.ChoiceKeep, release.ChoiceAbandon},
		Number:   1,
	}
	return s
}

// rolledBack is a release that has ended as rolled back.
func rolledBack() release.Status {
	s := status()
	code := 3
	s.Phase, s.Outcome, s.Gate = release.Done, release.RolledBack, nil
	s.Since, s.Ended = at(150), at(150)
	s.Environments[1] = production()
	e := &s.Environments[1]
	e.Outcome = release.RolledBack
	e.Commands = []release.CommandResult{{Target: api, Command: "migrate up", Machine: "e7", ExitCode: 0, Took: release.Duration(1200 * time.Millisecond), Log: []string{"migrating 3 tables", "done"}}}
	e.Targets[0].FlyRelease = 12
	for i := range e.Targets {
		for j := range e.Targets[i].Machines {
			m := &e.Targets[i].Machines[j]
			m.Verb, m.Progress, m.Until = release.Update, release.ProgressDone, at(149)
			m.State, m.Image = "started", oldAPI
		}
	}
	s.Spans[len(s.Spans)-1].To = at(90)
	s.Spans = append(s.Spans,
		release.Span{Phase: release.RollingOut, Environment: "production", From: at(90), To: at(120)},
		release.Span{Phase: release.RollingBack, Environment: "production", From: at(120), To: at(150)})
	s.Cause = &release.Cause{Message: "machine e2 of internal-api/production: never passed its check", Failures: []release.Failure{{
		Target: api, Machine: "e2", Name: "two", Group: "app", Reason: "never passed its check", Check: "servicecheck-00-http-8080",
		Output: "connect: connection refused", ExitCode: &code, Log: []string{"listening on :8080", "panic: no database"},
	}}}
	s.Notes = []string{"machine e9 (nine) of web-admin/production is not in the plan: it was left alone"}
	return s
}
