package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	sdk "go.temporal.io/sdk/client"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/client"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/devserver"
	"github.com/microbima/release/internal/testrepo"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// A fixture is a clone, a Temporal, a worker and a simulated Fly. Commands run in this
// process.
type fixture struct {
	testrepo.Repository // the clone
	t                   testing.TB
	environ             Environ
	sim                 *flysim.Sim
	client              sdk.Client
	acts                *activities.Activities
	worker              *worker.Worker
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	state := t.TempDir()
	server, err := devserver.Start(t.Context(), devserver.Options{UIOff: true, Attributes: client.SearchAttributes()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	w := &fixture{t: t, Repository: testrepo.New(t), sim: &flysim.Sim{}}
	t.Cleanup(w.sim.Close)
	flyURL := httptest.NewServer(w.sim)
	t.Cleanup(flyURL.Close)
	w.environ = Environ{
		"PATH=" + os.Getenv("PATH"), "HOME=" + state, "USER=ada", "RELEASE_STATE_DIR=" + state, "TEMPORAL_ADDRESS=" + server.Address(),
		"TEMPORAL_UI_ADDRESS=http://127.0.0.1:8233",
		"TEMPORAL_CONFIG_FILE=" + filepath.Join(state, "none.toml"),
		"FLY_FLAPS_BASE_URL=" + flyURL.URL, "FLY_API_BASE_URL=" + flyURL.URL, "FLY_UIEX_BASE_URL=" + flyURL.URL, "FLY_API_TOKEN=x", "FLY_REGISTRY_HOST=127.0.0.1:1",
	}
	e := w.world(nil, nil, nil)
	if _, err := WriteDevFile(e.Env, DevFile{Temporal: server.Address(), PID: os.Getpid()}); err != nil { // workers fetch from the clone
		t.Fatal(err)
	}
	options, err := ClientOptions(e)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w.client = c.SDK()
	w.acts = &activities.Activities{
		Fly: &fly.Client{FlapsURL: flyURL.URL, APIURL: flyURL.URL, UIEXURL: flyURL.URL, Token: "x", Unlimited: true},
		Git: clone{&git.Mirror{Dir: filepath.Join(state, "git")}}, Go: recipe{}, Registry: "registry.fly.io", Logs: state,
		Edge: &http.Client{Transport: edge{w.sim}}, Poll: 20 * time.Millisecond, Environ: os.Environ(),
	}
	w.startWorker()
	t.Cleanup(func() { w.stopWorker() })
	w.createRepository()
	return w
}

func (w *fixture) startWorker() {
	w.t.Helper()
	w.worker = worker.New(w.client, w.acts, worker.Options{})
	if err := w.worker.Start(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *fixture) stopWorker() {
	if w.worker != nil {
		w.worker.Stop()
		w.worker = nil
	}
}

// createRepository creates a repository with one app in two environments, and its Fly
// apps.
func (w *fixture) createRepository() {
	w.Write("release.toml", `project = "shop"
[test]
run = "echo looks good"
timeout = "1m"
[apps.api]
go = "./api"
[environments.staging]
branch = "main"
[environments.production]
after = "staging"
gate = { approvals = 1, timeout = "1h" }
`)
	w.Write("api/main.go", "package main\n")
	for _, environment := range []string{"staging", "production"} {
		w.sim.CreateApp("shop-"+environment+"-api", "")
		w.Write("infra/fly/api/"+environment+"/fly.toml", testrepo.FlyToml("shop-"+environment+"-api", "info"))
	}
	w.Commit("Sell things")
}

// commitLevel commits a change of the config of production.
func (w *fixture) commitLevel(level string) string {
	w.t.Helper()
	w.Write("infra/fly/api/production/fly.toml", testrepo.FlyToml("shop-production-api", level))
	return w.Commit("Log " + level)
}

func (w *fixture) world(args []string, stdout, stderr io.Writer) *World {
	return &World{
		Args: args, Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr, Env: w.environ, Dir: w.Dir,
		Now: time.Now, WorkerTimeout: 700 * time.Millisecond,
	}
}

// A result is the exit code and the output of a command.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\n-- stdout --\n%s-- stderr --\n%s", r.code, r.stdout, r.stderr)
}

// run runs a command until it exits.
func (w *fixture) run(args ...string) result { return w.startCommand(args...).wait() }

// want runs a command and checks its exit code and that its output has each of words.
func (w *fixture) want(code int, args []string, words ...string) result {
	w.t.Helper()
	r := w.run(args...)
	r.want(w.t, code, words...)
	return r
}

func (r result) want(t testing.TB, code int, words ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("want exit code %d, got %v", code, r)
	}
	for _, word := range words {
		if !strings.Contains(r.stdout+r.stderr, word) {
			t.Errorf("missing %q in %v", word, r)
		}
	}
}

// A running is a running command.
type running struct {
	t              testing.TB
	stdout, stderr *buffer
	interrupt      context.CancelFunc
	ended          chan int
}

func (w *fixture) startCommand(args ...string) *running {
	return w.startCommandIn(func(*World) {}, args...)
}

func (w *fixture) startCommandIn(change func(*World), args ...string) *running {
	ctx, cancel := context.WithCancel(w.t.Context())
	r := &running{w.t, new(buffer), new(buffer), cancel, make(chan int, 1)}
	e := w.world(args, r.stdout, r.stderr)
	change(e)
	go func() { r.ended <- Run(ctx, e, LocalCommands{}) }()
	return r
}

func (r *running) wait() result {
	defer r.interrupt()
	select {
	case code := <-r.ended:
		return result{code, r.stdout.String(), r.stderr.String()}
	case <-time.After(time.Minute):
		r.t.Errorf("the command does not end\n%s%s", r.stdout, r.stderr)
		return result{code: -1}
	}
}

// waitFor waits until the command has printed text to stderr.
func (r *running) waitFor(text string) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if strings.Contains(r.stderr.String(), text) {
			return
		}
		select {
		case code := <-r.ended:
			r.ended <- code
			if strings.Contains(r.stderr.String(), text) {
				return
			}
			r.t.Fatalf("it ended with code %d and never printed %q:\n%s%s", code, text, r.stdout, r.stderr)
		case <-time.After(10 * time.Millisecond):
		}
	}
	r.t.Fatalf("it never printed %q:\n%s%s", text, r.stdout, r.stderr)
}

// status returns the output of status --json.
func (w *fixture) status(id string) (s client.Snapshot) {
	w.t.Helper()
	r := w.want(ExitOK, []string{"status", id, "--json"})
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		w.t.Fatalf("%v in %s", err, r.stdout)
	}
	return s
}

// A buffer can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A recipe is a builder that only computes a digest.
type recipe struct{}

func (recipe) Build(_ context.Context, src image.Source, req image.Request) (image.Built, error) {
	fmt.Fprintf(req.Log, "building %s\n", req.Name)
	return image.Built{Image: release.Image(fmt.Sprintf("%s@sha256:%s%024d", req.Repository, src.Revision.Commit, 0))}, nil
}

func (recipe) Ready(context.Context, release.Recipe) error { return nil }

// edge is Fly's proxy: it responds 200 while a machine passes its checks.
type edge struct{ sim *flysim.Sim }

func (e edge) RoundTrip(req *http.Request) (*http.Response, error) {
	app, _, _ := strings.Cut(req.URL.Host, ".")
	status := http.StatusServiceUnavailable
	for _, m := range e.sim.Machines(app) {
		if driver.Describe(m).IsHealthy() && !m.Cordoned {
			status = http.StatusOK
		}
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: http.NoBody, Request: req}, nil
}

// clone is a mirror that reads all files of a commit, including sources.
type clone struct{ *git.Mirror }

func (c clone) Files(ctx context.Context, url, commit string) (fs.FS, error) {
	files := fstest.MapFS{}
	err := c.Checkout(ctx, url, commit, func(dir string) error {
		return fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(filepath.Join(dir, path))
			files[path] = &fstest.MapFile{Data: data}
			return err
		})
	})
	return files, err
}
