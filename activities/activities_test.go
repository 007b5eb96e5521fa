package activities_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// A checkout is a folder that replaces a checkout of git.
type checkout string

func (c checkout) Files(context.Context, string, string) (fs.FS, error) {
	return os.DirFS(string(c)), nil
}

func (c checkout) Checkout(_ context.Context, _, _ string, fn func(string) error) error {
	return fn(string(c))
}

func (c checkout) Lineage(_ context.Context, _, commit string, running []string) (release.Lineage, error) {
	return release.Lineage{Relation: release.Forward, Running: running}, nil
}

// runActivity runs an activity in a test environment and returns its result.
func runActivity[T any](t *testing.T, a *activities.Activities, activity, in any) (out T, err error) {
	t.Helper()
	return runActivityIn[T](t.Context(), t, a, activity, in)
}

// runActivityIn is runActivity with a worker that stops when ctx ends.
func runActivityIn[T any](ctx context.Context, t *testing.T, a *activities.Activities, activity, in any) (out T, err error) {
	t.Helper()
	env := new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	env.SetTestTimeout(time.Minute)
	env.RegisterActivity(a)
	v, err := env.ExecuteActivity(activity, in)
	if err == nil && v.HasValue() {
		err = v.Get(&out)
	}
	return out, err
}

// permanentKind returns the type of a non-retryable application error, or "".
func permanentKind(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) && app.NonRetryable() {
		return app.Type()
	}
	return ""
}

func TestRunTest_SeesNoTokensAndKeepsOutput(t *testing.T) {
	a := &activities.Activities{Git: checkout(t.TempDir()), Logs: t.TempDir(), Environ: []string{
		"PATH=" + os.Getenv("PATH"), "FLY_API_TOKEN=planted", "TEMPORAL_API_KEY=planted", "AWS_SECRET_ACCESS_KEY=planted", "HOME=/somebody",
	}}
	result, err := runActivity[release.TestResult](t, a, a.RunTest, activities.TestInput{
		Test: release.Test{Name: "test", Run: `env; ls -A "$HOME"; echo to stderr >&2`, Timeout: release.Duration(time.Minute)},
	})
	if err != nil || !result.Passed {
		t.Fatal(result, err)
	}
	if strings.Contains(result.Tail, "planted") || strings.Contains(result.Tail, "/somebody") {
		t.Errorf("the test sees a secret:\n%s", result.Tail)
	}
	kept, err := os.ReadFile(filepath.Join(a.Logs, result.Log))
	if err != nil || string(kept) != result.Tail || !strings.Contains(result.Tail, "to stderr") {
		t.Errorf("kept %q, %v; want all of it: %q", kept, err, result.Tail)
	}
}

func TestRunTest_Fails(t *testing.T) {
	for name, tc := range map[string]struct {
		run     string
		timeout time.Duration
		errText string
	}{
		"fails":     {"echo no; exit 7", time.Minute, "ended with exit code 7"},
		"times out": {"sleep 600 & sleep 600", 200 * time.Millisecond, "took longer than 200ms"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &activities.Activities{Git: checkout(t.TempDir()), Logs: t.TempDir(), Environ: os.Environ()}
			_, err := runActivity[release.TestResult](t, a, a.RunTest, activities.TestInput{Test: release.Test{Name: "test", Run: tc.run, Timeout: release.Duration(tc.timeout)}})
			if permanentKind(err) != release.KindTest || !strings.Contains(err.Error(), tc.errText) {
				t.Errorf("got %v, want the permanent error %q", err, tc.errText)
			}
		})
	}
}

// Without a log folder the result still has the end of the output.
func TestRunTest_NoLogFolder(t *testing.T) {
	a := &activities.Activities{Git: checkout(t.TempDir()), Environ: os.Environ()}
	result, err := runActivity[release.TestResult](t, a, a.RunTest, activities.TestInput{Test: release.Test{Name: "unit", Run: "echo all is well", Timeout: release.Duration(time.Minute)}})
	if err != nil || result.Tail != "all is well\n" || result.Log != "" {
		t.Errorf("got %+v: %v", result, err)
	}
}

// The name of a test cannot place its log outside of the log folder.
func TestRunTest_LogsStayInTheirFolder(t *testing.T) {
	state := t.TempDir()
	a := &activities.Activities{Git: checkout(t.TempDir()), Logs: filepath.Join(state, "logs-of-a-worker"), Environ: os.Environ()}
	for _, name := range []string{"/../../../../../../escaped", "/../../../../../escaped", "/../../../../../../../" + t.TempDir() + "/escaped"} {
		_, err := runActivity[release.TestResult](t, a, a.RunTest, activities.TestInput{Test: release.Test{Name: name, Run: "true", Timeout: release.Duration(time.Minute)}})
		if err == nil {
			t.Errorf("%s: the test ran", name)
		}
	}
	found, err := os.ReadDir(state)
	if err != nil || len(found) > 1 {
		t.Errorf("beside the folder of logs there are %v %v", found, err)
	}
}

// A process that a test started ends with the test: a server would keep its port, and
// an aborted test might continue.
func TestRunTest_LeavesNoProcess(t *testing.T) {
	const background = "sleep 600 & echo $! >pid; sleep 600 >/dev/null 2>&1 & echo $! >>pid; "
	for name, tc := range map[string]struct {
		run     string
		timeout time.Duration
		aborted bool
		kind    string
	}{
		"timed out": {run: background + "wait", timeout: time.Second, kind: release.KindTest},
		"aborted":   {run: background + "wait", timeout: time.Minute, aborted: true},
		"passed":    {run: background + "exit 0", timeout: time.Minute},
		"failed":    {run: background + "exit 7", timeout: time.Minute, kind: release.KindTest},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, abort := context.WithCancel(t.Context())
			defer abort()
			if tc.aborted {
				go func() { waitFor(t, filepath.Join(dir, "pid"), 2); abort() }()
			}
			a := &activities.Activities{Git: checkout(dir), Logs: t.TempDir(), Environ: os.Environ()}
			result, err := runActivityIn[release.TestResult](ctx, t, a, a.RunTest, activities.TestInput{Test: release.Test{Name: "test", Run: tc.run, Timeout: release.Duration(tc.timeout)}})
			if permanentKind(err) != tc.kind || tc.kind == "" && !tc.aborted && !result.Passed || tc.aborted && err == nil {
				t.Errorf("got %+v, %v; want kind %q", result, err, tc.kind)
			}
			for _, pid := range waitFor(t, filepath.Join(dir, "pid"), 2) {
				if !hasEnded(pid) {
					t.Errorf("process %s still runs", pid)
				}
			}
		})
	}
}

// waitFor returns the words in a file once it has at least count words.
func waitFor(t *testing.T, path string, count int) []string {
	for range 200 {
		if doc, _ := os.ReadFile(path); len(strings.Fields(string(doc))) >= count {
			return strings.Fields(string(doc))
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s never has %d words", path, count)
	return nil
}

// hasEnded reports whether a process ends within seconds. A zombie counts as ended.
func hasEnded(pid string) bool {
	for range 60 {
		state, err := exec.Command("ps", "-o", "stat=", "-p", pid).Output()
		if err != nil || strings.HasPrefix(strings.TrimSpace(string(state)), "Z") {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// The preflight reports everything that is missing at once, with what to do.
func TestPreflight_NamesEverythingMissing(t *testing.T) {
	sim := new(flysim.Sim)
	t.Cleanup(sim.Close)
	sim.CreateApp("has-none", "")
	sim.SetSecrets("has-one", map[string]string{"ONE": "x"})
	a := &activities.Activities{Fly: newFlyClient(sim, "")}
	in := activities.PreflightInput{Environments: []string{"staging"}, Apps: []string{"api", "web", "job"}, Project: release.Project{
		Apps: []release.App{
			{Name: "api", Go: "./api", Secrets: []string{"ONE", "TWO"}}, {Name: "web", Go: "./web", Secrets: []string{"ONE", "TWO"}},
			{Name: "job", Go: "./job"},
		},
		Environments: []release.Environment{{Name: "staging", Targets: []release.TargetFile{
			newTargetFile("api", "has-none"), newTargetFile("web", "has-one"), newTargetFile("job", "is-not-there"),
		}}},
	}}
	_, err := runActivity[any](t, a, a.Preflight, in)
	if permanentKind(err) != release.KindPreflight {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"api/staging: secret ONE is not set", "api/staging: secret TWO is not set", "web/staging: secret TWO is not set",
		"job/staging: there is no Fly app is-not-there; create it with: fly apps create is-not-there",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in the error:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "web/staging: secret ONE") {
		t.Errorf("a secret that is set is called missing:\n%v", err)
	}
	sim.Token = "right"
	a.Fly = newFlyClient(sim, "wrong")
	if _, err := runActivity[any](t, a, a.Preflight, in); permanentKind(err) != release.KindPreflight || !strings.Contains(err.Error(), "token does not open Fly app has-none") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a refused token: %v", err)
	}
}

func newFlyClient(sim *flysim.Sim, token string) *fly.Client {
	return &fly.Client{FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly", Token: token, Unlimited: true, HTTP: &http.Client{Transport: sim.Transport()}}
}

func newTargetFile(app, flyApp string) release.TargetFile {
	return release.TargetFile{Target: release.Target{App: app, Environment: "staging"}, FlyApp: flyApp}
}

// Identity implements activities.Git.
func (checkout) Identity(_ context.Context, url, _ string) (release.Repository, error) {
	return release.Repository{Address: release.NormalizeAddress(url)}, nil
}
