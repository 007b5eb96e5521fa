package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/microbima/release/image"
)

func TestMain(m *testing.M) {
	if image.IsCompilerProcess() {
		os.Exit(program())
	}
	// Stories mostly wait: for processes, checks, a bake. The command line may set
	// another number.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"release": func() { os.Exit(program()) }})
}

// TestScript runs the stories in testdata/script, each with the whole program as a
// process of its own.
func TestScript(t *testing.T) {
	caches := goEnvironment(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition: func(name string) (bool, error) {
			if name != "nohup" {
				return false, fmt.Errorf("no such condition: %s", name)
			}
			return signal.Ignored(syscall.SIGHUP), nil
		},
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, ".home")
			for key, value := range map[string]string{
				"HOME": home, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": filepath.Join(home, "state"), "NO_COLOR": "1", "USER": "ada",
				"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": filepath.Join(home, "gitconfig"),
				"GIT_AUTHOR_DATE": "2026-03-09T14:00:00Z", "GIT_COMMITTER_DATE": "2026-03-09T14:00:00Z",
				"GIT_CEILING_DIRECTORIES": filepath.Dir(e.WorkDir),
			} {
				e.Setenv(key, value)
			}
			for key, value := range caches {
				e.Setenv(key, value)
			}
			if err := os.MkdirAll(home, 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(home, "gitconfig"), []byte("[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n"), 0o644)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "until": until, "shop": shop, "gone": gone, "capture": capture, "loopback": loopback, "absent": absent, "terminate": terminate},
	})
}

// exits runs a program that must exit with a code: exits 2 release start.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program [arg...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		got = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\n%s%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// goEnvironment returns the variables that give stories, whose HOME is empty, the
// caches of the go command. Nothing is fetched for them.
func goEnvironment(t *testing.T) map[string]string {
	out, err := exec.Command("go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	environment := map[string]string{"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
	if err := json.Unmarshal(out, &environment); err != nil {
		t.Fatal(err)
	}
	// Built as images are: on a cold machine the stories, side by side, would
	// each compile the standard library for themselves.
	warm := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", t.TempDir(), "./apps/...")
	warm.Dir, warm.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := warm.CombinedOutput(); err != nil {
		t.Fatalf("build the apps: %v\n%s", err, out)
	}
	return environment
}

// until repeats a program until its output matches a pattern:
// until 'awaiting approval' release status 4f2d.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN program [arg...]")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(400 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...) // only the output counts
		if pattern.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
			return
		}
	}
	ts.Fatalf("%v never prints %q:\n%s%s", args[1:], args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
}

// terminate ends a workflow of the release dev that runs, as the command line of
// Temporal does: terminate rollout/shop/staging.
func terminate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: terminate WORKFLOW-ID")
	}
	var dev struct{ Temporal string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(filepath.Join(ts.Getenv("XDG_STATE_HOME"), "release", "dev.json"))), &dev))
	c, err := client.Dial(client.Options{HostPort: dev.Temporal, Identity: "the operator", Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	ts.Check(err)
	defer c.Close()
	ts.Check(c.TerminateWorkflow(context.Background(), args[0], "", "by hand"))
}

// gone asserts that no file matches a pattern: gone $TMPDIR/x-*.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone PATTERN")
	}
	found, err := filepath.Glob(args[0])
	ts.Check(err)
	if len(found) > 0 {
		ts.Fatalf("left behind: %v", found)
	}
}

// shop creates a repository of the three services of this one and their files, in a
// module without dependencies. The times of production are shorter.
func shop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: shop FOLDER")
	}
	dir := ts.MkAbs(args[0])
	for _, folder := range []string{"apps", "infra/fly"} {
		ts.Check(os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join("..", "..", folder))))
	}
	text, err := os.ReadFile("../../release.toml")
	ts.Check(err)
	shorter := strings.Replace(string(text), `bake = "5m"`, `bake = "1s"`, 1)
	ts.Check(os.WriteFile(filepath.Join(dir, "release.toml"), []byte(shorter), 0o644))
	ts.Check(os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module github.com/microbima/release\n\ngo 1.26\n"), 0o644))
	production, err := filepath.Glob(filepath.Join(dir, "infra/fly/*/production/fly.toml"))
	ts.Check(err)
	for _, name := range production {
		text, err := os.ReadFile(name)
		ts.Check(err)
		ts.Check(os.WriteFile(name, []byte(strings.Replace(string(text), `wait_timeout = "30s"`, `wait_timeout = "10s"`, 1)), 0o644))
	}
	for _, words := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-q", "-m", "Greet"}} {
		ts.Check(ts.Exec("git", append([]string{"-C", dir}, words...)...))
	}
}
