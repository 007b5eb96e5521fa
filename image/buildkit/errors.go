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

// verdict is what a failed solve means to those who asked: an *image.BuildError
// where the source is to blame, and else an error that may not come again.
//
// BuildKit hands over where in the Dockerfile something went wrong, in which
// step and with which exit code. That a base image is not there, rather than its
// registry, is said in words alone; so is what a registry thinks of a login.
func (s *solve) verdict(b *Builder, err error) error {
	var failed *image.BuildError
	if errors.As(err, &failed) {
		return err
	}
	output := string(s.seen.output[s.seen.failed])
	if full(err, output) {
		return fmt.Errorf("build %s: no space left where BuildKit at %s keeps its files: buildctl prune, or docker buildx prune, makes some: %w", s.req.Name, b.Address, err)
	}
	switch grpcerrors.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return fmt.Errorf("build %s: %w", s.req.Name, b.away(err))
	case codes.Internal: // an error of its disk, for instance
		return fmt.Errorf("build %s with BuildKit at %s: %w", s.req.Name, b.Address, err)
	}
	line := place(err)
	at := cmp.Or(line, s.req.Recipe.Dockerfile)
	var exit *gatewaypb.ExitError
	var step *errdefs.SolveError
	switch op := errors.As(err, &step); {
	case errors.As(err, &exit):
		return s.stepFailed(at, exit, output)
	case strings.Contains(err.Error(), resolving):
		return s.noBase(at, err)
	case op && step.Op != nil:
		return s.notCarriedOut(at, step, err)
	case line != "":
		return s.wrongFile("%s: %s", at, syntax.ReplaceAllString(err.Error(), ""))
	}
	return fmt.Errorf("build %s with BuildKit at %s: %w", s.req.Name, b.Address, err)
}

// What begins BuildKit's words on a syntax error, when the line is said already.
var syntax = regexp.MustCompile(`^dockerfile parse error on line \d+: `)

// full says whether a disk is.
func full(err error, output string) bool {
	const words = "no space left on device"
	return grpcerrors.Code(err) == codes.ResourceExhausted && strings.Contains(strings.ToLower(err.Error()), "space") ||
		strings.Contains(strings.ToLower(err.Error()), words) || strings.Contains(strings.ToLower(output), words)
}

// place is where in the repository err comes from, as path:line, or "".
func place(err error) string {
	for _, source := range errdefs.Sources(err) {
		if source.Info != nil && len(source.Ranges) > 0 && source.Ranges[0].Start != nil {
			return fmt.Sprintf("%s:%d", source.Info.Filename, source.Ranges[0].Start.Line)
		}
	}
	return ""
}

func (s *solve) wrongFile(format string, args ...any) error {
	reason := fmt.Sprintf(format, args...)
	return &image.BuildError{Name: s.req.Name, Reason: reason, Output: reason}
}

// How a process ends that the kernel or somebody else kills.
const killed = 128 + 9

// stepFailed is a RUN that did not end with 0.
func (s *solve) stepFailed(at string, exit *gatewaypb.ExitError, output string) error {
	reason := fmt.Sprintf("%s: %s ended with exit code %d", at, s.failedStep(), exit.ExitCode)
	if exit.ExitCode == killed {
		reason += ": it was killed, for taking too much memory perhaps"
	}
	if last := lastLine(output); last != "" {
		reason += ": " + last
	}
	return &image.BuildError{Name: s.req.Name, Reason: reason, Output: output}
}

// failedStep is the instruction that failed, cut to what a line has room for.
func (s *solve) failedStep() string {
	name := "the step"
	if v := s.seen.steps[s.seen.failed]; v != nil {
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

// In BuildKit's words on an image that a Dockerfile takes files from.
const resolving = "failed to resolve source metadata for "

var (
	absent  = regexp.MustCompile(`not found$|does not exist|manifest unknown|no match for platform in manifest`)
	refused = regexp.MustCompile(`pull access denied|authorization failed|\b40[13] (Unauthorized|Forbidden)|no basic auth credentials`)
)

// noBase is an image that can't be had.
func (s *solve) noBase(at string, err error) error {
	_, words, _ := strings.Cut(err.Error(), resolving)
	ref, said, _ := strings.Cut(words, ": ")
	switch {
	case strings.Contains(said, "no match for platform"):
		return s.wrongFile("%s: there is no image %s for %s: name another one, or set another platform", at, ref, s.platform)
	case refused.MatchString(said):
		registry, _, _ := strings.Cut(ref, "/")
		return fmt.Errorf("build %s: %s: image %s: %w, or there is no such image: %s said %s; check its name, or log the worker in with docker login %s",
			s.req.Name, at, ref, image.ErrUnauthorized, registry, said, registry)
	case absent.MatchString(said):
		return s.wrongFile("%s: there is no image %s: check its name and tag; one that is private needs a login of the worker, with docker login", at, ref)
	}
	return fmt.Errorf("build %s: %s: image %s can't be looked up from where BuildKit runs: %s", s.req.Name, at, ref, said)
}

var missing = regexp.MustCompile(`failed to calculate checksum of ref \S+: ("[^"]+"): not found`)

// notCarriedOut is a step that BuildKit could not even begin, or an image or a
// file that it could not get.
func (s *solve) notCarriedOut(at string, step *errdefs.SolveError, err error) error {
	if found := missing.FindStringSubmatch(err.Error()); found != nil {
		return s.wrongFile("%s: %s: there is no %s to copy: it is not in the repository, or .dockerignore leaves it out", at, s.failedStep(), found[1])
	}
	switch step.Op.Op.(type) {
	case *pb.Op_File, *pb.Op_Exec:
		if absent.MatchString(err.Error()) { // a secret, a file
			return s.wrongFile("%s: %s: %v", at, s.failedStep(), err)
		}
	}
	return fmt.Errorf("build %s: %s: %s: %w", s.req.Name, at, s.failedStep(), err)
}
