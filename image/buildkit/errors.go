package buildkit

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"

	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/microbima/release/image"
)

// explain returns an *image.BuildError for an error of the source, and for any other
// an error that may be retried.
//
// BuildKit's errors have the line of the Dockerfile, the step and the exit code.
// Only their texts tell a missing base image from an unreachable registry and from
// a refused login.
func (s *solve) explain(b *Builder, err error) error {
	var failed *image.BuildError
	if errors.As(err, &failed) {
		return err
	}
	output := string(s.progress.output[s.progress.failed])
	if isDiskFull(err, output) {
		return fmt.Errorf("build %s: no space left on the disk of BuildKit at %s: free some with buildctl prune or docker buildx prune: %w", s.req.Name, b.Address, err)
	}
	switch grpcerrors.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return fmt.Errorf("build %s: %w", s.req.Name, b.unreachable(err))
	case codes.Internal: // a disk error, for instance
		return fmt.Errorf("build %s with BuildKit at %s: %w", s.req.Name, b.Address, err)
	}
	line := sourcePosition(err)
	at := cmp.Or(line, s.req.Recipe.Dockerfile)
	var exit *gatewaypb.ExitError
	var step *errdefs.SolveError
	switch hasStep := errors.As(err, &step); {
	case errors.As(err, &exit):
		return s.exitError(at, exit, output)
	case strings.Contains(err.Error(), resolvePrefix):
		return s.baseImageError(at, err)
	case hasStep && step.Op != nil:
		return s.stepError(at, step, err)
	case line != "":
		return s.buildErrorf("%s: %s", at, syntaxErrorPattern.ReplaceAllString(err.Error(), ""))
	}
	return fmt.Errorf("build %s with BuildKit at %s: %w", s.req.Name, b.Address, err)
}

// syntaxErrorPattern matches the start of BuildKit's syntax errors, which repeats the
// line number.
var syntaxErrorPattern = regexp.MustCompile(`^dockerfile parse error on line \d+: `)

// isDiskFull reports whether a step or BuildKit failed because of a full disk.
func isDiskFull(err error, output string) bool {
	const text = "no space left on device"
	return grpcerrors.Code(err) == codes.ResourceExhausted && strings.Contains(strings.ToLower(err.Error()), "space") ||
		strings.Contains(strings.ToLower(err.Error()), text) || strings.Contains(strings.ToLower(output), text)
}

// sourcePosition returns the position of an error in the repository, as path:line,
// or "".
func sourcePosition(err error) string {
	for _, source := range errdefs.Sources(err) {
		if source.Info != nil && len(source.Ranges) > 0 && source.Ranges[0].Start != nil {
			return fmt.Sprintf("%s:%d", source.Info.Filename, source.Ranges[0].Start.Line)
		}
	}
	return ""
}

func (s *solve) buildErrorf(format string, args ...any) error {
	reason := fmt.Sprintf(format, args...)
	return &image.BuildError{Name: s.req.Name, Reason: reason, Output: reason}
}

// exitKilled is the exit code of a process that was killed with SIGKILL.
const exitKilled = 128 + 9

// exitError returns the error of a RUN step with an exit code other than 0.
func (s *solve) exitError(at string, exit *gatewaypb.ExitError, output string) error {
	reason := fmt.Sprintf("%s: %s ended with exit code %d", at, s.failedStep(), exit.ExitCode)
	if exit.ExitCode == exitKilled {
		reason += ": it was killed, perhaps because it used too much memory"
	}
	if last := lastLine(output); last != "" {
		reason += ": " + last
	}
	return &image.BuildError{Name: s.req.Name, Reason: reason, Output: output}
}

// failedStep returns the instruction that failed, shortened to 80 characters.
func (s *solve) failedStep() string {
	name := "the step"
	if v := s.progress.steps[s.progress.failed]; v != nil {
		name = v.Name
		if _, instruction, ok := strings.Cut(name, "] "); ok {
			name = instruction
		}
	}
	name = strings.Join(strings.Fields(name), " ")
	if runes := []rune(name); len(runes) > 80 {
		return string(runes[:79]) + "…"
	}
	return name
}

func lastLine(output string) string {
	output = strings.TrimSpace(output)
	return strings.TrimSpace(output[strings.LastIndex(output, "\n")+1:])
}

// resolvePrefix precedes the reference of an image in BuildKit's errors about base
// images.
const resolvePrefix = "failed to resolve source metadata for "

var (
	notFoundPattern = regexp.MustCompile(`not found$|does not exist|manifest unknown|no match for platform in manifest`)
	refusedPattern  = regexp.MustCompile(`pull access denied|authorization failed|\b40[13] (Unauthorized|Forbidden)|no basic auth credentials`)
)

// baseImageError returns the error for an image that can't be pulled.
func (s *solve) baseImageError(at string, err error) error {
	_, text, _ := strings.Cut(err.Error(), resolvePrefix)
	ref, reason, _ := strings.Cut(text, ": ")
	switch {
	case strings.Contains(reason, "no match for platform"):
		return s.buildErrorf("%s: there is no image %s for %s: name another one, or set another platform", at, ref, s.platform)
	case refusedPattern.MatchString(reason):
		registry, _, _ := strings.Cut(ref, "/")
		return fmt.Errorf("build %s: %s: image %s: %w, or there is no such image: %s answered %s; check its name, or log in on the worker with docker login %s",
			s.req.Name, at, ref, image.ErrUnauthorized, registry, reason, registry)
	case notFoundPattern.MatchString(reason):
		return s.buildErrorf("%s: there is no image %s: check its name and tag; for a private image, log in on the worker with docker login", at, ref)
	}
	return fmt.Errorf("build %s: %s: image %s can't be looked up from where BuildKit runs: %s", s.req.Name, at, ref, reason)
}

// missingFilePattern matches BuildKit's error about a COPY of a missing file.
var missingFilePattern = regexp.MustCompile(`failed to calculate checksum of ref \S+: ("[^"]+"): not found`)

// stepError returns the error for a step that BuildKit could not start, or whose
// image or file it could not read.
func (s *solve) stepError(at string, step *errdefs.SolveError, err error) error {
	if found := missingFilePattern.FindStringSubmatch(err.Error()); found != nil {
		return s.buildErrorf("%s: %s: there is no %s to copy: it is not in the repository, or .dockerignore leaves it out", at, s.failedStep(), found[1])
	}
	switch step.Op.Op.(type) {
	case *pb.Op_File, *pb.Op_Exec:
		if notFoundPattern.MatchString(err.Error()) { // a secret, a file
			return s.buildErrorf("%s: %s: %v", at, s.failedStep(), err)
		}
	}
	return fmt.Errorf("build %s: %s: %s: %w", s.req.Name, at, s.failedStep(), err)
}
