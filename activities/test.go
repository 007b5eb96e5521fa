package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// TestInput is one test of one commit.
type TestInput struct {
	Source
	Test release.Test `json:"test"`
}

// RunTest runs a test on an exact checkout and stores its output. A test is a command,
// which runs in its own process group and without the worker's tokens, or a target of a
// Dockerfile, which BuildKit builds. It fails with KindTest, and the result as details,
// if the test fails or times out.
func (a *Activities) RunTest(ctx context.Context, in TestInput) (release.TestResult, error) {
	result := release.TestResult{Name: in.Test.Name}
	captured, err := logFolder{a.Logs, &a.pruned}.capture(ctx, "test-"+in.Test.Name, func(out *output) error {
		return a.Git.Checkout(ctx, in.Repository, in.Revision.Commit, func(dir string) (err error) {
			if in.Test.BuildTarget != "" {
				return builders{a.Go, a.Docker}.runTest(ctx, in, dir, out)
			}
			result.ExitCode, err = commandRunner{a.Logs, a.Environ}.run(ctx, dir, shellCommand{
				title: "test " + in.Test.Name, run: in.Test.Run, timeout: time.Duration(in.Test.Timeout),
			}, out)
			return err
		})
	})
	result.Log, result.Took, result.Tail = captured.log, captured.took, captured.tail
	var failed *commandError
	if errors.As(err, &failed) {
		result.ExitCode = cmp.Or(result.ExitCode, 1)
		return result, permanentError(release.KindTest, failed, result)
	}
	result.Passed = err == nil
	return result, classifyError(ctx, err)
}

// runTest builds the target of a Dockerfile that is the test.
func (b builders) runTest(ctx context.Context, in TestInput, dir string, out io.Writer) error {
	recipe := in.Test.Recipe()
	if _, err := b.chooseBuilder(recipe); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, time.Duration(in.Test.Timeout))
	defer cancel()
	err := b.docker.Test(within, image.Source{Dir: dir, Revision: in.Revision}, image.Request{Name: in.Test.Name, Recipe: recipe, Log: out})
	var failed *image.BuildError
	switch {
	case within.Err() != nil && ctx.Err() == nil:
		return &commandError{fmt.Sprintf("test %s: %s took longer than %s and was killed; raise its timeout in release.toml", in.Test.Name, in.Test, in.Test.Timeout)}
	case errors.As(err, &failed):
		return &commandError{fmt.Sprintf("test %s: %s", in.Test.Name, failed.Reason)}
	}
	return err
}
