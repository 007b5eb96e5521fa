package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// TestInput is one test of one commit.
type TestInput struct {
	Source
	Test release.Test `json:"test"`
}

// RunTest runs a test on an exact checkout, and keeps its output: a command, in
// a process group of its own and without the worker's tokens, or the part of a
// Dockerfile that BuildKit carries out. It fails with KindTest, and the result
// as details, when the test does or when it takes too long.
func (a *Activities) RunTest(ctx context.Context, in TestInput) (release.TestResult, error) {
	result := release.TestResult{Name: in.Test.Name}
	kept, err := a.keeping(ctx, "test-"+in.Test.Name, func(out *output) error {
		return a.Git.Checkout(ctx, in.Repository, in.Revision.Commit, func(dir string) (err error) {
			if in.Test.BuildTarget != "" {
				return a.testInDocker(ctx, in, dir, out)
			}
			result.ExitCode, err = a.runCommand(ctx, dir, shellCommand{
				what: "test " + in.Test.Name, run: in.Test.Run, timeout: time.Duration(in.Test.Timeout),
			}, out)
			return err
		})
	})
	result.Log, result.Took, result.Tail = kept.log, kept.took, kept.tail
	var failed *commandError
	if errors.As(err, &failed) {
		result.ExitCode = cmp.Or(result.ExitCode, 1)
		return result, refused(release.KindTest, failed, result)
	}
	result.Passed = err == nil
	return result, classify(ctx, err)
}

// testInDocker has BuildKit carry out the part of a Dockerfile that is the test.
func (a *Activities) testInDocker(ctx context.Context, in TestInput, dir string, out io.Writer) error {
	recipe := in.Test.Recipe()
	if _, err := a.builder(recipe); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, time.Duration(in.Test.Timeout))
	defer cancel()
	err := a.Docker.Test(within, image.Source{Dir: dir, Revision: in.Revision}, image.Request{Name: in.Test.Name, Recipe: recipe, Log: out})
	var failed *image.BuildError
	switch {
	case within.Err() != nil && ctx.Err() == nil:
		return &commandError{fmt.Sprintf("test %s: %s took longer than %s and was ended; raise its timeout in release.toml", in.Test.Name, in.Test, in.Test.Timeout)}
	case errors.As(err, &failed):
		return &commandError{fmt.Sprintf("test %s: %s", in.Test.Name, failed.Reason)}
	}
	return err
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
