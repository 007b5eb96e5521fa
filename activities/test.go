package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// tailBytes is how much of an output goes into a history. All of it is in the
// worker's log folder.
const tailBytes = 16 << 10

// TestInput is one test of one commit.
type TestInput struct {
	Source
	Test release.Test `json:"test"`
}

// RunTest runs a test on an exact checkout, in a process group of its own and
// without the worker's tokens, and keeps its output. It fails with KindTest,
// and the result as details, when the test does or when it takes too long.
func (a *Activities) RunTest(ctx context.Context, in TestInput) (release.TestResult, error) {
	defer beat(ctx)()
	result := release.TestResult{Name: in.Test.Name}
	out, err := a.output(ctx, "test-"+in.Test.Name)
	if err != nil {
		return result, classify(ctx, err)
	}
	defer out.Close()
	result.Log = out.name

	begun := time.Now()
	err = a.Git.Checkout(ctx, in.Repository, in.Revision.Commit, func(dir string) error {
		var failed error
		result.ExitCode, failed = a.runTest(ctx, dir, in.Test, out)
		return failed
	})
	result.Took = release.Duration(time.Since(begun).Round(time.Millisecond))
	result.Tail = out.Tail()
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	var failed *testError
	if errors.As(err, &failed) {
		return result, refused(release.KindTest, failed, result)
	}
	result.Passed = err == nil
	return result, classify(ctx, err)
}

// A testError is a test that failed, rather than one that could not be run.
type testError struct{ msg string }

func (e *testError) Error() string { return e.msg }

func (a *Activities) runTest(ctx context.Context, dir string, test release.Test, out io.Writer) (int, error) {
	home, err := a.newHome()
	if err != nil {
		return 0, fmt.Errorf("make a home folder for the test: %w", err)
	}
	defer os.RemoveAll(home)
	timeout := time.Duration(test.Timeout)
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(within, "sh", "-c", test.Run)
	cmd.Dir, cmd.Env = dir, testEnviron(a.Environ, home)
	switch err := runGroup(cmd, out); {
	case err == nil:
		return 0, nil
	case within.Err() != nil && ctx.Err() == nil:
		return cmd.ProcessState.ExitCode(), &testError{fmt.Sprintf("test %s: %q took longer than %s and was ended; raise its timeout in release.toml", test.Name, test.Run, timeout)}
	case cmd.ProcessState != nil:
		return cmd.ProcessState.ExitCode(), &testError{fmt.Sprintf("test %s: %q ended with exit code %d", test.Name, test.Run, cmd.ProcessState.ExitCode())}
	default:
		return 0, fmt.Errorf("test %s: run %q: %w", test.Name, test.Run, err)
	}
}

// newHome makes an empty home folder, and removes those that workers left
// behind which were killed: no test takes a day.
func (a *Activities) newHome() (string, error) {
	dir := filepath.Join(a.Logs, "homes")
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

// passed is what a test may see of the worker's environment: where tools are
// and where they keep their caches. A token is never among it, and neither is
// the home folder, where people keep theirs.
var passed = []string{"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS", "GONOSUMDB", "GONOSUMCHECK", "GOSUMDB", "GOTOOLCHAIN", "GOROOT", "SSL_CERT_FILE", "SSL_CERT_DIR"}

func testEnviron(environ []string, home string) (env []string) {
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(passed, name) {
			env = append(env, kv)
		}
	}
	return append(env, "HOME="+home, "CI=true")
}

// BuildInput is one app of one commit, and where its image goes.
type BuildInput struct {
	Source
	App        release.App `json:"app"`
	Repository string      `json:"registry"` // in the registry, without its host: microbima-staging-internal-api
	Platform   string      `json:"platform,omitempty"`
}

// BuildImage builds an app from an exact checkout and pushes it. The same
// commit gives the same digest, so a second build pushes nothing new. It fails
// with KindBuild, and the result as details, when the source does not build.
func (a *Activities) BuildImage(ctx context.Context, in BuildInput) (release.BuildResult, error) {
	defer beat(ctx)()
	result := release.BuildResult{App: in.App.Name}
	out, err := a.output(ctx, "build-"+in.App.Name)
	if err != nil {
		return result, classify(ctx, err)
	}
	defer out.Close()
	result.Log = out.name

	begun := time.Now()
	err = a.Git.Checkout(ctx, in.Source.Repository, in.Revision.Commit, func(dir string) (err error) {
		result.Image, err = a.Go.Build(ctx, image.Source{Dir: dir, Revision: in.Revision}, image.Request{
			App: in.App, Repository: a.Registry + "/" + in.Repository, Tag: "rev-" + in.Revision.Short(),
			Platform: in.Platform, Log: out, Insecure: a.Insecure,
		})
		return err
	})
	result.Took = release.Duration(time.Since(begun).Round(time.Millisecond))
	result.Tail = out.Tail()
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	var failed *image.BuildError
	if errors.As(err, &failed) {
		result.Tail = excerpt(result.Tail+"\n"+failed.Error(), tailBytes)
		return result, refused(release.KindBuild, fmt.Errorf("app %s does not build: %s", in.App.Name, failed.Reason), result)
	}
	return result, classify(ctx, err)
}

// An output is kept whole in a file of the worker's, and its end in memory.
type output struct {
	name string   // relative to the log folder: a history holds no machine's paths
	file *os.File // nil: there is no log folder
	tail []byte
}

// output begins the log of one activity of one run. Whoever starts a workflow
// chooses its ID: a file outside of the log folder is not opened for it.
func (a *Activities) output(ctx context.Context, what string) (*output, error) {
	if a.Logs == "" {
		return &output{}, nil
	}
	w := activity.GetInfo(ctx).WorkflowExecution
	name := filepath.Join("logs", filepath.FromSlash(w.ID), w.RunID, what+".log")
	if err := os.MkdirAll(a.Logs, 0o700); err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	root, err := os.OpenRoot(a.Logs)
	if err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	defer root.Close()
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	file, err := root.Create(name)
	if err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	return &output{name: filepath.ToSlash(name), file: file}, nil
}

func (o *output) Write(p []byte) (int, error) {
	o.tail = append(o.tail, p...)
	if len(o.tail) > 2*tailBytes {
		o.tail = bytes.Clone(o.tail[len(o.tail)-tailBytes:])
	}
	if o.file == nil {
		return len(p), nil
	}
	return o.file.Write(p)
}

// Tail is the end of what was written.
func (o *output) Tail() string { return excerpt(strings.ToValidUTF8(string(o.tail), "�"), tailBytes) }

func (o *output) Close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
