package main

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
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/devserver"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// A world is a person's clone, a Temporal, a worker and a Fly. The commands run
// in this process, with all that they touch as an argument.
type world struct {
	t       testing.TB
	dir     string // the clone
	environ []string
	sim     *flysim.Sim
	client  client.Client
	acts    *activities.Activities
	worker  *worker.Worker
}

func newWorld(t testing.TB) *world {
	t.Helper()
	state := t.TempDir()
	server, err := devserver.Start(t.Context(), devserver.Options{UIOff: true, Attributes: []string{
		release.AttrProject, release.AttrRevision, release.AttrEnvironment, release.AttrPhase, release.AttrOutcome,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	w := &world{t: t, dir: t.TempDir(), sim: &flysim.Sim{}}
	t.Cleanup(w.sim.Close)
	flyURL := httptest.NewServer(w.sim)
	t.Cleanup(flyURL.Close)
	w.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + state, "USER=ada", "RELEASE_STATE_DIR=" + state, "TEMPORAL_ADDRESS=" + server.Address(),
		"TEMPORAL_UI_ADDRESS=http://127.0.0.1:8233",
		"TEMPORAL_CONFIG_FILE=" + filepath.Join(state, "none.toml"),
		"FLY_FLAPS_BASE_URL=" + flyURL.URL, "FLY_API_BASE_URL=" + flyURL.URL, "FLY_UIEX_BASE_URL=" + flyURL.URL, "FLY_API_TOKEN=x", "FLY_REGISTRY_HOST=127.0.0.1:1",
	}
	e := w.env(nil, nil, nil)
	if _, err := e.writeDevFile(devFile{Temporal: server.Address(), PID: os.Getpid()}); err != nil { // workers fetch from the clone
		t.Fatal(err)
	}
	options, err := e.temporalOptions()
	if err != nil {
		t.Fatal(err)
	}
	if w.client, err = client.Dial(options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	w.acts = &activities.Activities{
		Fly: &fly.Client{FlapsURL: flyURL.URL, APIURL: flyURL.URL, UIEXURL: flyURL.URL, Token: "x", Unlimited: true},
		Git: clone{&git.Mirror{Dir: filepath.Join(state, "git")}}, Go: recipe{}, Registry: "registry.fly.io", Logs: state,
		Edge: &http.Client{Transport: edge{w.sim}}, Poll: 20 * time.Millisecond, Environ: os.Environ(),
	}
	w.hire()
	t.Cleanup(func() { w.dismiss() })
	w.clone()
	return w
}

// hire starts a worker, dismiss stops it.
func (w *world) hire() {
	w.t.Helper()
	w.worker = worker.New(w.client, w.acts, worker.Options{})
	if err := w.worker.Start(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) dismiss() {
	if w.worker != nil {
		w.worker.Stop()
		w.worker = nil
	}
}

// clone makes a repository of one app in two environments, and their Fly apps.
func (w *world) clone() {
	w.write("release.toml", `project = "shop"
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
	w.write("api/main.go", "package main\n")
	for _, environment := range []string{"staging", "production"} {
		w.sim.CreateApp("shop-"+environment+"-api", "")
		w.write("infra/fly/api/"+environment+"/fly.toml", flyToml(environment, "info"))
	}
	w.git("init", "-q", "-b", "main")
	w.git("config", "user.name", "Ada")
	w.git("config", "user.email", "ada@example.com")
	w.commit("Sell things")
}

func flyToml(environment, level string) string {
	return fmt.Sprintf(`app = "shop-%s-api"
primary_region = "ams"
[env]
LEVEL = %q
[deploy]
wait_timeout = "3s"
[http_service]
internal_port = 8080
[[http_service.checks]]
path = "/health"
interval = "1s"
timeout = "1s"
grace_period = "1s"
`, environment, level)
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = w.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit returns the short revision.
func (w *world) commit(subject string) string {
	w.t.Helper()
	w.git("add", ".")
	w.git("commit", "-q", "-m", subject)
	return w.git("rev-parse", "HEAD")[:12]
}

// change commits another config of production.
func (w *world) change(level string) string {
	w.t.Helper()
	w.write("infra/fly/api/production/fly.toml", flyToml("production", level))
	return w.commit("Log " + level)
}

func (w *world) env(args []string, stdout, stderr io.Writer) *env {
	return &env{
		args: args, stdin: strings.NewReader(""), stdout: stdout, stderr: stderr, environ: w.environ, dir: w.dir,
		now: time.Now, patience: 700 * time.Millisecond,
	}
}

// A result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d\n-- stdout --\n%s-- stderr --\n%s", r.code, r.stdout, r.stderr)
}

// run runs a command to its end.
func (w *world) run(args ...string) result { return w.begin(args...).wait() }

// want runs a command that must end with code and have said each of words.
func (w *world) want(code int, args []string, words ...string) result {
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
			t.Errorf("nothing of %q in %v", word, r)
		}
	}
}

// A running command.
type running struct {
	t              testing.TB
	stdout, stderr *buffer
	interrupt      context.CancelFunc
	ended          chan int
}

func (w *world) begin(args ...string) *running {
	return w.beginWith(func(*env) {}, args...)
}

func (w *world) beginWith(change func(*env), args ...string) *running {
	ctx, cancel := context.WithCancel(w.t.Context())
	r := &running{w.t, new(buffer), new(buffer), cancel, make(chan int, 1)}
	e := w.env(args, r.stdout, r.stderr)
	change(e)
	go func() { r.ended <- run(ctx, e) }()
	return r
}

func (r *running) wait() result {
	defer r.interrupt()
	select {
	case code := <-r.ended:
		return result{code, r.stdout.String(), r.stderr.String()}
	case <-time.After(time.Minute):
		r.t.Errorf("it does not end\n%s%s", r.stdout, r.stderr)
		return result{code: -1}
	}
}

// says waits until the command has said text.
func (r *running) says(text string) {
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
			r.t.Fatalf("it ended with code %d and never said %q:\n%s%s", code, text, r.stdout, r.stderr)
		case <-time.After(10 * time.Millisecond):
		}
	}
	r.t.Fatalf("it never said %q:\n%s%s", text, r.stdout, r.stderr)
}

// status is what status --json says.
func (w *world) status(id string) (s sight) {
	w.t.Helper()
	r := w.want(exitOK, []string{"status", id, "--json"})
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		w.t.Fatalf("%v in %s", err, r.stdout)
	}
	return s
}

// A buffer may be read while it is written.
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

// A recipe "builds" an image by knowing its digest: images are tested where
// they are made.
type recipe struct{}

func (recipe) Build(_ context.Context, src image.Source, req image.Request) (image.Built, error) {
	fmt.Fprintf(req.Log, "building %s\n", req.Name)
	return image.Built{Image: release.Image(fmt.Sprintf("%s@sha256:%s%024d", req.Repository, src.Revision.Commit, 0))}, nil
}

func (recipe) Ready(context.Context, release.Recipe) error { return nil }

// edge answers as Fly's proxy would: 200 while a machine passes.
type edge struct{ sim *flysim.Sim }

func (e edge) RoundTrip(req *http.Request) (*http.Response, error) {
	app, _, _ := strings.Cut(req.URL.Host, ".")
	status := http.StatusServiceUnavailable
	for _, m := range e.sim.Machines(app) {
		if driver.Describe(m).Healthy() && !m.Cordoned {
			status = http.StatusOK
		}
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: http.NoBody, Request: req}, nil
}

// clone reads all of a commit, the folders of sources too.
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
