package activities

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A shellCommand is a command of a project that runs in a checkout.
type shellCommand struct {
	title   string // for messages: "test unit"
	run     string // for sh -c
	timeout time.Duration
	env     []string // in addition to the environment of every command
}

// A commandError means that the command ran and failed.
type commandError struct{ msg string }

func (e *commandError) Error() string { return e.msg }

// A commandRunner runs commands of projects.
type commandRunner struct {
	dir     string   // parent of their home folders
	environ []string // of the worker, as "NAME=value"
}

// run runs c in dir, in its own process group and without the worker's tokens. It
// returns the exit code, and a *commandError if the command failed or timed out.
func (r commandRunner) run(ctx context.Context, dir string, c shellCommand, out io.Writer) (int, error) {
	home, err := r.newHome()
	if err != nil {
		return 0, fmt.Errorf("make a home folder for the %s: %w", c.title, err)
	}
	defer os.RemoveAll(home)
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cmd := exec.CommandContext(within, "sh", "-c", c.run)
	cmd.Dir, cmd.Env = dir, append(testEnviron(r.environ, home), c.env...)
	switch err := runGroup(cmd, out); {
	case err == nil:
		return 0, nil
	case within.Err() != nil && ctx.Err() == nil:
		return cmd.ProcessState.ExitCode(), &commandError{fmt.Sprintf("%s: %q took longer than %s and was killed; raise its timeout in release.toml", c.title, c.run, c.timeout)}
	case cmd.ProcessState != nil:
		return cmd.ProcessState.ExitCode(), &commandError{fmt.Sprintf("%s: %q ended with exit code %d", c.title, c.run, cmd.ProcessState.ExitCode())}
	default:
		return 0, fmt.Errorf("%s: run %q: %w", c.title, c.run, err)
	}
}

// newHome creates an empty home folder. It removes folders older than a day, which
// killed workers left.
func (r commandRunner) newHome() (string, error) {
	dir := filepath.Join(r.dir, "homes")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range old {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return os.MkdirTemp(dir, "")
}

// passedVariables are the environment variables that a test gets from the worker: the
// paths of tools and of their caches. They contain no token, and no home folder, where
// users keep tokens.
var passedVariables = []string{"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS", "GONOSUMDB", "GONOSUMCHECK", "GOSUMDB", "GOTOOLCHAIN", "GOROOT", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// testEnviron returns the environment of a test with that home folder.
func testEnviron(environ []string, home string) (env []string) {
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(passedVariables, name) {
			env = append(env, kv)
		}
	}
	return append(env, "HOME="+home, "CI=true")
}
