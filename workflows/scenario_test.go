package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/simulation"
	"github.com/microbima/release/internal/virtualtime"
	"github.com/microbima/release/release"
	"github.com/microbima/release/workflows"
)

// Routes for faults.
const (
	create = "POST /v1/apps/{app}/machines"
	update = "POST /v1/apps/{app}/machines/{id}"
	list   = "GET /v1/apps/{app}/machines"
	get    = "GET /v1/apps/{app}/machines/{id}"
)

// digestOf returns the digest of the image of a version of an app.
func digestOf(app, version string) string {
	return fmt.Sprintf("sha256:%064x", fmt.Sprintf("%.10s-%.8s", app, version))
}

func commitOf(version string) string { return strings.Repeat(fmt.Sprintf("%x", version), 40)[:40] }

// A repo is a repository in memory with two apps, of which web needs api. Its tests run
// in a folder with the files.
type repo struct {
	strategy string
	gate     string
	test     string
	maxDown  string
	// deploy, service and toml go into the fly.toml of every app, or only of app
	// "only": lines of [deploy] and [http_service], and sections. env has lines of
	// production in release.toml.
	deploy, service, toml, only, env string
	staging                          string // lines of staging
	// bare: web has no health check; app are lines of [apps.web] in release.toml.
	bare        bool
	app         string
	unreachable bool // its history cannot be read
	leftOut     []release.OmittedFile
}

func (r repo) files() fstest.MapFS {
	toml := func(app, env string) *fstest.MapFile {
		deploy, service, toml := r.deploy, r.service, r.toml
		if r.only != "" && r.only != app {
			deploy, service, toml = "", "", ""
		}
		more, checks, _ := strings.Cut(service, "[[")
		if checks != "" {
			toml += "[[" + checks
		}
		check := `
[[http_service.checks]]
path = "/health"
interval = "5s"
timeout = "2s"
grace_period = "1s"
`
		if r.bare && app == "web" {
			check = "\n"
		}
		return &fstest.MapFile{Data: []byte(fmt.Sprintf(`app = "shop-%s-%s"
primary_region = "ams"
[deploy]
strategy = %q
max_unavailable = %s
wait_timeout = "1m"
%s[env]
LEVEL = %q
[http_service]
internal_port = 8080
%s%s%s`, env, app, cmpOr(r.strategy, "rolling"), cmpOr(r.maxDown, "0.33"), deploy, env, more, check, toml))}
	}
	return fstest.MapFS{
		"api/main.go": {Data: []byte("package main")},
		"web/main.go": {Data: []byte("package main")},
		"release.toml": {Data: []byte(`project = "shop"
[test]
run = "` + cmpOr(r.test, "true") + `"
timeout = "1m"
[apps.api]
go = "./api"
[apps.web]
go = "./web"
needs = ["api"]
` + r.app + `
[environments.staging]
` + r.staging + `
[environments.production]
after = "staging"
bake = "4m"
` + r.env + `
gate = ` + cmpOr(r.gate, `{ approvals = 1, timeout = "24h" }`) + "\n")},
		"infra/fly/api/staging/fly.toml":    toml("api", "staging"),
		"infra/fly/api/production/fly.toml": toml("api", "production"),
		"infra/fly/web/staging/fly.toml":    toml("web", "staging"),
		"infra/fly/web/production/fly.toml": toml("web", "production"),
	}
}

func (r repo) Files(context.Context, string, string) (fs.FS, error) {
	return checkout{r.files(), r.leftOut}, nil
}

// A checkout is a file system that reports which files are incomplete.
type checkout struct {
	fs.FS
	leftOut []release.OmittedFile
}

func (c checkout) LeftOut() ([]release.OmittedFile, error) { return c.leftOut, nil }

func (r repo) Checkout(ctx context.Context, _, _ string, fn func(string) error) error { return fn(".") }

// Lineage compares the versions v1, v2 and v3. All other commits have diverged.
func (r repo) Lineage(_ context.Context, _, commit string, running []string) (release.Lineage, error) {
	if r.unreachable {
		return release.Lineage{}, errors.New("git fetch: no route to host")
	}
	return simulation.StraightLineage([]string{commitOf("v1"), commitOf("v2"), commitOf("v3")}, commit, running), nil
}

// A digestBuilder is a builder that returns the digest of the version and builds nothing.
type digestBuilder struct {
	fails error
	takes time.Duration
	over  <-chan struct{} // the end of the scenario
}

func (b digestBuilder) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	if b.takes > 0 {
		select {
		case <-time.After(b.takes):
		case <-ctx.Done():
			return image.Built{}, ctx.Err()
		case <-b.over:
		}
	}
	version := "v1"
	for _, v := range []string{"v1", "v2", "v3", "x9"} {
		if src.Revision.Commit == commitOf(v) {
			version = v
		}
	}
	return image.Built{Image: release.Image(req.Repository + "@" + digestOf(req.Name, version))}, b.fails
}

func (digestBuilder) Ready(context.Context, release.Recipe) error { return nil }

// A scenario is one release against one simulated Fly.
type scenario struct {
	t   *testing.T
	env *testsuite.TestWorkflowEnvironment
	sim *flysim.Sim
	act *activities.Activities
	req release.Request
	// ledger has the earlier rollouts.
	temporal *fakeTemporal
	over     <-chan struct{} // closed when the scenario has ended
	// mayBeHeld: the test answers if the rollout is held.
	mayBeHeld bool
	// refused has the errors of the update validator, by review.
	refused map[release.Review]string
	taken   int // updates of raw JSON that were accepted
}

// newScenario returns a scenario. It must be called in a synctest bubble.
func newScenario(t *testing.T, r repo) *scenario {
	t.Helper()
	suite := new(testsuite.WorkflowTestSuite)
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	s := &scenario{t: t, refused: map[release.Review]string{}, env: suite.NewTestWorkflowEnvironment(), sim: &flysim.Sim{
		Latency: flysim.Latency{API: 30 * time.Millisecond, Change: 400 * time.Millisecond, Boot: 2 * time.Second, Check: time.Second, Stop: time.Second},
	}}
	t.Cleanup(s.sim.Close)
	for _, app := range []string{"api", "web"} {
		for _, env := range []string{"staging", "production"} {
			s.sim.CreateApp("shop-"+env+"-"+app, "")
		}
	}
	s.act = &activities.Activities{
		Fly: &fly.Client{FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly", HTTP: &http.Client{Transport: s.sim.Transport()}, Unlimited: true},
		Git: r, Go: digestBuilder{}, Registry: "registry.fly.io", Logs: t.TempDir(), Edge: &http.Client{Transport: edge{s.sim}},
		Environ: []string{"PATH=/usr/bin:/bin"},
	}
	s.env.RegisterWorkflow(workflows.Release)
	s.env.RegisterWorkflow(workflows.Rollout)
	s.env.RegisterWorkflow(workflows.Pin)
	s.env.RegisterActivity(s.act)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	s.over = over
	s.temporal = &fakeTemporal{}
	s.act.Temporal = s.temporal
	virtualtime.KeepTime(s.env, over, s.temporal)
	s.req = release.Request{Protocol: release.Protocol, Project: "shop", Repository: "https://example.com/shop.git", By: "ana", Revision: revision("v1")}
	return s
}

func revision(version string) release.Revision {
	return release.Revision{Commit: commitOf(version), Tree: commitOf(version), Subject: "version " + version}
}

// An edge replies as Fly's proxy: 200 if a machine is healthy, otherwise 503.
type edge struct{ sim *flysim.Sim }

func (e edge) RoundTrip(req *http.Request) (*http.Response, error) {
	app, _, _ := strings.Cut(req.URL.Host, ".")
	status := http.StatusServiceUnavailable
	for _, m := range e.sim.Machines(app) {
		if (driver.Describe(m)).IsHealthy() && !m.Cordoned {
			status = http.StatusOK
		}
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: http.NoBody, Request: req}, nil
}

// installVersion releases version to both environments, so that an earlier release
// exists.
func (s *scenario) installVersion(version string) {
	s.t.Helper()
	before := s.act.Git.(repo)
	before.test, before.gate = "", ""
	first := newScenario(s.t, before)
	first.sim, first.act.Fly, first.act.Edge = s.sim, s.act.Fly, s.act.Edge
	first.req.Revision = revision(version)
	first.onApproval(func() { first.approve() })
	if rep := first.run(); rep.Outcome != release.Promoted {
		s.t.Fatalf("preparing: %s: %+v", rep.Outcome, rep.Cause)
	}
	s.temporal.runs = first.temporal.runs
}

// status queries the status of the release.
func (s *scenario) status() (st release.Status) {
	v, err := s.env.QueryWorkflow(release.StatusQuery)
	if err == nil {
		err = v.Get(&st)
	}
	if err != nil {
		s.t.Error(err)
	}
	return st
}

// onApproval calls answer each time the release waits for approval of another plan.
func (s *scenario) onApproval(answer func()) {
	asked, pause := "", time.Second
	var poll func()
	poll = func() {
		st := s.status()
		if st.Gate != nil && st.Gate.Plan != asked {
			asked, pause = st.Gate.Plan, time.Second
			answer()
		}
		if st.Rollout != "" && !s.mayBeHeld {
			s.giveUpIfHeld(st.Rollout)
		}
		if pause = min(pause*5/4, time.Hour); st.Phase != release.Done {
			s.env.RegisterDelayedCallback(poll, pause)
		}
	}
	s.env.RegisterDelayedCallback(poll, pause)
}

// giveUpIfHeld fails the test and abandons a rollout that is held unexpectedly.
func (s *scenario) giveUpIfHeld(id string) {
	v, err := s.env.QueryWorkflowByID(id, release.StatusQuery)
	var st release.Status
	if err != nil || v.Get(&st) != nil || st.Held == nil {
		return
	}
	s.t.Errorf("held: %s: %q", st.Held.Why, st.Held.Machines)
	if err := s.env.SignalWorkflowByID(id, release.ResolveSignal, release.Resolution{Choice: release.ChoiceAbandon, By: "the scenario"}); err != nil {
		s.t.Error(err)
	}
}

// onPhase calls do once the release or its rollout enters that phase in that
// environment.
func (s *scenario) onPhase(p release.Phase, environment string, do func()) {
	var poll func()
	poll = func() {
		st := s.status()
		over := st.Phase == release.Done
		if st.Rollout != "" && st.Phase != p {
			if v, err := s.env.QueryWorkflowByID(st.Rollout, release.StatusQuery); err == nil && v.Get(&st) != nil {
				s.t.Error("the rollout returned no status")
			}
		}
		if st.Phase == p && st.Environment == environment {
			do()
			return
		}
		if !over {
			s.env.RegisterDelayedCallback(poll, 200*time.Millisecond)
		}
	}
	s.env.RegisterDelayedCallback(poll, 200*time.Millisecond)
}

// approve approves the current plan.
func (s *scenario) approve() {
	s.review(release.Review{Approve: true, By: "ben", Plan: s.status().Plan.Hash[:8]})
}

// review sends a review as an update. Errors of the validator go to s.refused.
func (s *scenario) review(d release.Review) {
	s.env.UpdateWorkflow(release.ReviewName(d.Approve), fmt.Sprint(d.By, d.Plan, d.Approve), &testsuite.TestUpdateCallback{
		OnAccept:   func() {},
		OnReject:   func(err error) { s.refused[d] = err.Error() },
		OnComplete: func(any, error) {},
	}, d.Input())
}

// update sends raw JSON as an update, as the Temporal UI does.
func (s *scenario) update(name, doc string) {
	s.env.UpdateWorkflow(name, fmt.Sprint(name, doc), &testsuite.TestUpdateCallback{
		OnAccept: func() { s.taken++ }, OnReject: func(error) {}, OnComplete: func(any, error) {},
	}, converter.NewRawValue(payload(doc)))
}

// signal sends raw JSON, as the Temporal UI does.
func (s *scenario) signal(name, doc string) {
	s.env.SignalWorkflow(name, converter.NewRawValue(payload(doc)))
}

// run runs the release and fails on an error.
func (s *scenario) run() release.Report {
	s.t.Helper()
	rep, err := s.runErr()
	if err != nil {
		s.t.Fatal(err)
	}
	return rep
}

// runErr runs the release and returns its report or its error.
func (s *scenario) runErr() (rep release.Report, err error) {
	s.t.Helper()
	s.env.ExecuteWorkflow(workflows.Release, s.req)
	time.Sleep(5 * time.Second) // until canceled activities have ended
	if !s.env.IsWorkflowCompleted() {
		s.t.Fatal("the release never ended")
	}
	if err := s.env.GetWorkflowError(); err != nil {
		return rep, err
	}
	return rep, s.env.GetWorkflowResult(&rep)
}

// mustRun fails unless every machine of environment runs that version and is healthy.
func (s *scenario) mustRun(environment, version string) {
	s.t.Helper()
	for _, app := range []string{"api", "web"} {
		machines := s.sim.Machines("shop-" + environment + "-" + app)
		if len(machines) != 2 {
			s.t.Errorf("%s/%s has %d machines, want 2", app, environment, len(machines))
		}
		for _, m := range machines {
			if got, want := m.ImageRef.Digest, digestOf(app, version); got != want {
				s.t.Errorf("machine %s of %s/%s runs %s, want %s (%s)", m.ID, app, environment, got, want, version)
			}
			if !driver.Describe(m).IsHealthy() || m.Cordoned {
				s.t.Errorf("machine %s of %s/%s is not healthy: %s %v", m.ID, app, environment, m.State, m.Checks)
			}
		}
		s.mustBeUnleased("shop-" + environment + "-" + app)
	}
}

// mustBeUnleased fails if an app has a lease of this program.
func (s *scenario) mustBeUnleased(app string) {
	s.t.Helper()
	for machine, lease := range s.sim.Leases(app) {
		if !strings.HasPrefix(lease.Owner, "somebody-else") {
			s.t.Errorf("a lease is left on machine %s of %s: %+v", machine, app, lease)
		}
	}
}

// configs returns all machine configs of an environment, by machine ID.
func (s *scenario) configs(environment string) map[string]string {
	configs := map[string]string{}
	for _, app := range []string{"api", "web"} {
		for _, m := range s.sim.Machines("shop-" + environment + "-" + app) {
			configs[m.ID] = string(m.Config)
		}
	}
	return configs
}

// changes counts the successful requests to route, by Fly app and machine.
func (s *scenario) changes(route string) map[string]int {
	n := map[string]int{}
	for _, r := range s.sim.Requests() {
		if r.Route == route && r.Status < 300 {
			n[r.App+"/"+r.Machine]++
		}
	}
	return n
}

// inVirtualTime runs test in virtual time.
func inVirtualTime(t *testing.T, test func(t *testing.T)) { synctest.Test(t, test) }

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func payload(doc string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(doc)}
}

// Identity implements activities.Git.
func (repo) Identity(_ context.Context, url, _ string) (release.Repository, error) {
	return release.Repository{Address: release.NormalizeAddress(url)}, nil
}
