package e2e_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/devserver"
	"github.com/microbima/release/release"
)

// A projectFixture is a repository in memory. The zero value has two apps, of which web
// needs api, and the environments staging and production, which has a gate.
type projectFixture struct {
	apps     []string // the first is needed by all others
	only     string   // the only environment
	strategy string
	gate     string // "none" for no gate
	bake     string
	test     string
	deploy   string // lines of [deploy] in fly.toml
	wait     string // time limit for health checks
	env      string // lines for production in release.toml
	toml     string // sections for release.toml
}

func (s projectFixture) names() []string {
	if len(s.apps) == 0 {
		return []string{"api", "web"}
	}
	return s.apps
}

func (s projectFixture) environments() []string {
	if s.only != "" {
		return []string{s.only}
	}
	return []string{"staging", "production"}
}

func (s projectFixture) files(project string) fstest.MapFS {
	var toml strings.Builder
	fmt.Fprintf(&toml, "project = %q\n[test]\nrun = %q\ntimeout = \"1m\"\n", project, valueOr(s.test, "true"))
	files := fstest.MapFS{}
	for i, app := range s.names() {
		fmt.Fprintf(&toml, "[apps.%s]\ngo = \"./%[1]s\"\n", app)
		if i > 0 {
			fmt.Fprintf(&toml, "needs = [%q]\n", s.names()[0])
		}
		files[app+"/main.go"] = &fstest.MapFile{Data: []byte("package main\n")}
	}
	after := ""
	for _, env := range s.environments() {
		fmt.Fprintf(&toml, "[environments.%s]\n", env)
		if after != "" {
			fmt.Fprintf(&toml, "after = %q\n", after)
		}
		if env == "production" {
			fmt.Fprintf(&toml, "bake = %q\n%s", valueOr(s.bake, "100ms"), s.env)
			if s.gate != "none" {
				fmt.Fprintf(&toml, "gate = %s\n", valueOr(s.gate, `{ approvals = 1, timeout = "1h" }`))
			}
		}
		after = env
		for _, app := range s.names() {
			files["infra/fly/"+app+"/"+env+"/fly.toml"] = s.flyToml(flyApp(project, env, app), env)
		}
	}
	toml.WriteString(s.toml)
	files["release.toml"] = &fstest.MapFile{Data: []byte(toml.String())}
	return files
}

func (s projectFixture) flyToml(app, level string) *fstest.MapFile {
	return &fstest.MapFile{Data: fmt.Appendf(nil, `app = %q
primary_region = "ams"
[deploy]
strategy = %q
max_unavailable = 0.33
wait_timeout = %q
%s[env]
LEVEL = %q
[http_service]
internal_port = 8080
[[http_service.checks]]
path = "/health"
interval = "5s"
timeout = "2s"
grace_period = "1s"
`, app, valueOr(s.strategy, "rolling"), valueOr(s.wait, "5s"), s.deploy, level)}
}

func flyApp(project, environment, app string) string {
	return project + "-" + environment + "-" + app
}

// A projectSet is a set of repositories: each project is a shop. A project without an
// entry is the zero shop.
type projectSet map[string]projectFixture

// Files implements activities.Git.
func (s projectSet) Files(_ context.Context, url, _ string) (fs.FS, error) {
	project := strings.TrimSuffix(path.Base(url), ".git")
	return s[project].files(project), nil
}

// Checkout implements activities.Git. These tests do not test or build, so that any
// folder serves.
func (s projectSet) Checkout(_ context.Context, _, _ string, fn func(string) error) error {
	return fn(".")
}

// A linearProjects is a set of repositories in which every project is the same shop.
type linearProjects struct{ projectFixture }

// Files implements activities.Git.
func (c linearProjects) Files(_ context.Context, url, _ string) (fs.FS, error) {
	return c.files(strings.TrimSuffix(path.Base(url), ".git")), nil
}

// Lineage implements activities.Git: every revision is newer.
func (projectSet) Lineage(_ context.Context, _, _ string, running []string) (release.Lineage, error) {
	return release.Lineage{Relation: release.Forward, Running: running}, nil
}

// Lineage implements activities.Git.
func (linearProjects) Lineage(ctx context.Context, url, commit string, running []string) (release.Lineage, error) {
	return projectSet{}.Lineage(ctx, url, commit, running)
}

// Checkout implements activities.Git.
func (c linearProjects) Checkout(_ context.Context, _, _ string, fn func(string) error) error {
	return fn(".")
}

func request(project, version string) release.Request {
	return release.Request{
		Protocol: release.Protocol, Project: project, Repository: "https://example.com/" + project + ".git", By: "ana",
		Revision: release.Revision{Commit: commitOf(version), Tree: commitOf(version), Subject: "version " + version},
	}
}

func commitOf(version string) string { return strings.Repeat(fmt.Sprintf("%x", version), 40)[:40] }

// digestOf returns the digest of the image of a commit of an app.
func digestOf(app, commit string) string {
	return fmt.Sprintf("sha256:%064x", fmt.Sprintf("%.10s-%.8s", app, commit))
}

// A recipe is a builder that only computes the digest.
type recipe struct{}

// Build implements activities.Builder.
func (recipe) Build(_ context.Context, src image.Source, req image.Request) (image.Built, error) {
	return image.Built{Image: release.Image(req.Repository + "@" + digestOf(req.Name, src.Revision.Commit))}, nil
}

// Ready implements activities.Builder.
func (recipe) Ready(context.Context, release.Recipe) error { return nil }

// edge responds like Fly's proxy: 200 while a machine passes its checks, else 503.
type edge struct{ fly *fly.Client }

// RoundTrip implements http.RoundTripper.
func (e edge) RoundTrip(req *http.Request) (*http.Response, error) {
	app, _, _ := strings.Cut(req.URL.Host, ".")
	machines, err := e.fly.Machines(req.Context(), app)
	if err != nil {
		return nil, err
	}
	status := http.StatusServiceUnavailable
	for _, m := range machines {
		if driver.Describe(m).IsHealthy() && !m.Cordoned {
			status = http.StatusOK
		}
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: http.NoBody, Request: req}, nil
}

// newActivities returns the activities for shops whose machines are at url.
func newActivities(c *fly.Client, git activities.Git, logs string) *activities.Activities {
	return &activities.Activities{
		Fly: c, Git: git, Go: recipe{}, Registry: "registry.fly.io", Logs: logs,
		Edge: &http.Client{Transport: edge{c}}, Poll: 20 * time.Millisecond, Environ: []string{"PATH=/usr/bin:/bin"},
	}
}

// flyAt returns a client of the simulated Fly at url.
func flyAt(url string) *fly.Client {
	return &fly.Client{FlapsURL: url, APIURL: url, UIEXURL: url, Unlimited: true}
}

// newFastFly returns a Fly with short delays.
func newFastFly() *flysim.Sim {
	return &flysim.Sim{Latency: flysim.Latency{
		API: time.Millisecond, Change: 10 * time.Millisecond, Boot: 20 * time.Millisecond, Check: 10 * time.Millisecond,
		Stop: 10 * time.Millisecond, Destroy: 10 * time.Millisecond,
	}}
}

// createApps creates the Fly apps of a project.
func (s projectFixture) createApps(sim *flysim.Sim, project string) {
	for _, env := range s.environments() {
		for _, app := range s.names() {
			sim.CreateApp(flyApp(project, env, app), "")
		}
	}
}

// createMachines creates two machines of a version in every app of an environment.
func (s projectFixture) createMachines(sim *flysim.Sim, project, environment, version string) {
	for _, app := range s.names() {
		image := "registry.fly.io/" + flyApp(project, environment, app) + "@" + digestOf(app, commitOf(version))
		config := fmt.Appendf(nil, `{"image":%q,"env":{"LEVEL":"info"},"metadata":{"fly_platform_version":"v2","fly_process_group":"app"}}`, image)
		sim.Put(flyApp(project, environment, app), fly.Machine{Region: "ams", Config: config}, fly.Machine{Region: "ams", Config: config})
	}
}

// startTemporal starts a Temporal with the search attributes, in memory or on a file.
func startTemporal(tb testing.TB, dir string) *devserver.Server {
	tb.Helper()
	s, err := devserver.Start(tb.Context(), devserver.Options{Dir: dir, UIOff: true, Attributes: searchAttributes()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func searchAttributes() []string {
	return []string{release.AttrProject, release.AttrRevision, release.AttrEnvironment, release.AttrPhase, release.AttrOutcome}
}

func valueOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Identity implements activities.Git.
func (projectSet) Identity(_ context.Context, url, _ string) (release.Repository, error) {
	return release.Repository{Address: release.NormalizeAddress(url)}, nil
}

// Identity implements activities.Git.
func (linearProjects) Identity(_ context.Context, url, _ string) (release.Repository, error) {
	return release.Repository{Address: release.NormalizeAddress(url)}, nil
}
