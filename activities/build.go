package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// BuilderInput is what a release will ask of those who build.
type BuilderInput struct {
	Builds []release.Build `json:"builds"`
	Tests  []release.Test  `json:"tests,omitempty"`
}

// PreflightBuilds finds out, before anything is tested or built, whether this
// worker can: that it has the builders, that they answer, that images which are
// taken as they are exist. It fails with KindPreflight and all that is missing
// at once. It changes nothing.
func (a *Activities) PreflightBuilds(ctx context.Context, in BuilderInput) error {
	defer beat(ctx)()
	var missing []string
	say := func(what string, err error) {
		if err != nil && !slices.Contains(missing, what+": "+err.Error()) {
			missing = append(missing, what+": "+err.Error())
		}
	}
	for _, b := range in.Builds {
		if b.Recipe.Image != "" {
			err := a.available(ctx, b.Recipe)
			if err != nil && !isVerdict(err) {
				return classify(ctx, err)
			}
			say("app "+b.Name, err)
			continue
		}
		builder, err := a.builder(b.Recipe)
		if err == nil {
			err = builder.Ready(ctx, b.Recipe)
		}
		say("app "+b.Name, err)
	}
	for _, t := range in.Tests {
		if t.BuildTarget == "" {
			continue
		}
		recipe := t.Recipe()
		builder, err := a.builder(recipe)
		if err == nil {
			err = builder.Ready(ctx, recipe)
		}
		say("test "+t.Name, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(missing) > 0 {
		return refused(release.KindPreflight, errors.New(strings.Join(missing, "\n")))
	}
	return nil
}

// available says why an image can't be taken as it is.
func (a *Activities) available(ctx context.Context, recipe release.Recipe) error {
	if a.Images == nil {
		return nil
	}
	_, err := a.Images.Pin(ctx, recipe.Image, recipe.On())
	return err
}

// isVerdict says whether what a registry said of an image will be the same the
// next time.
func isVerdict(err error) bool {
	return errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrUnauthorized) || errors.Is(err, image.ErrReference) || errors.Is(err, image.ErrPlatform)
}

// builder is who makes images of that recipe.
func (a *Activities) builder(recipe release.Recipe) (Builder, error) {
	switch {
	case recipe.Go != "" && a.Go != nil:
		return a.Go, nil
	case recipe.Go != "":
		return nil, errors.New("this worker does not build Go programs")
	case a.Docker != nil:
		return a.Docker, nil
	}
	return nil, fmt.Errorf("this worker has no BuildKit for %s: start it with --buildkit ADDRESS or BUILDKIT_HOST, or on a machine with a Docker Engine; or say go = \"./…\" for the app in release.toml", recipe.Dockerfile)
}

// BuildInput is one image of one commit, and where it goes.
type BuildInput struct {
	Source
	Name       string         `json:"name"` // of the build
	Recipe     release.Recipe `json:"recipe"`
	Repository string         `json:"registry"` // in the registry, without its host: microbima-staging-internal-api
	Scan       release.Scan   `json:"scan,omitzero"`
	// App and Platform are what a worker of before has asked for, in place of
	// Name and Recipe.
	App      *release.App `json:"app,omitempty"`
	Platform string       `json:"platform,omitempty"`
}

// BuildImage makes an image from an exact checkout and pushes it. One that an
// earlier attempt has pushed for the commit and the recipe is taken; else the
// same commit gives the same digest. No layer of it holds a secret. It fails
// with KindBuild, and the result as details, when the source does not build.
func (a *Activities) BuildImage(ctx context.Context, in BuildInput) (release.BuildResult, error) {
	if in.App != nil {
		in.Name, in.Recipe = in.App.Name, release.Recipe{Go: in.App.Go, Platform: in.Platform}
	}
	result := release.BuildResult{App: in.Name, From: in.Recipe.String()}
	kept, err := a.keeping(ctx, "build-"+in.Name, func(out *output) error {
		built, err := a.build(ctx, in, out, &result)
		if err == nil {
			err = a.lookForSecrets(ctx, in, built.Image)
		}
		if err == nil {
			result.Image, result.Bytes, result.Notes, result.Provenance = built.Image, built.Bytes, built.Notes, built.Provenance
		}
		return err
	})
	result.Log, result.Took, result.Tail = kept.log, kept.took, kept.tail
	var failed *image.BuildError
	if errors.As(err, &failed) {
		result.Tail = excerpt(result.Tail+"\n"+failed.Error(), tailBytes)
		return result, refused(release.KindBuild, fmt.Errorf("app %s does not build: %s", in.Name, failed.Reason), result)
	}
	return result, classify(ctx, err)
}

// build is the image, made now or found.
func (a *Activities) build(ctx context.Context, in BuildInput, out *output, result *release.BuildResult) (built image.Built, err error) {
	if in.Recipe.Image != "" {
		return a.take(ctx, in.Recipe, out)
	}
	req := image.Request{
		Name: in.Name, Recipe: in.Recipe, Repository: a.Registry + "/" + in.Repository, Tag: image.Tag(in.Revision, in.Recipe),
		Origin: in.Source.Repository, Log: out, Insecure: a.Insecure,
	}
	if a.Images != nil {
		built, err = a.Images.Find(ctx, req.Repository, req.Tag, in.Revision, in.Recipe)
		if err == nil {
			result.Found = true
			fmt.Fprintf(out, "%s is there already, built from %s: nothing to build\n", built.Image, in.Revision.Short())
			return built, nil
		}
		if !errors.Is(err, image.ErrNotFound) {
			return built, err
		}
	}
	builder, err := a.builder(in.Recipe)
	if err != nil {
		return built, err
	}
	err = a.Git.Checkout(ctx, in.Source.Repository, in.Revision.Commit, func(dir string) (err error) {
		built, err = builder.Build(ctx, image.Source{Dir: dir, Revision: in.Revision}, req)
		return err
	})
	return built, err
}

// take is an image that exists, by its digest: a tag may be another one later.
func (a *Activities) take(ctx context.Context, recipe release.Recipe, out io.Writer) (image.Built, error) {
	pinned := release.Image(recipe.Image)
	if a.Images != nil {
		var err error
		if pinned, err = a.Images.Pin(ctx, recipe.Image, recipe.On()); err != nil {
			return image.Built{}, err
		}
	}
	fmt.Fprintf(out, "%s is %s\n", recipe.Image, pinned)
	return image.Built{Image: pinned}, nil
}

// lookForSecrets fails if a layer of the image holds what nobody should find.
func (a *Activities) lookForSecrets(ctx context.Context, in BuildInput, ref release.Image) error {
	if a.Images == nil {
		return nil
	}
	found, err := a.Images.Secrets(ctx, ref, a.Tokens, in.Scan.Allow)
	if err != nil || len(found) == 0 {
		return err
	}
	return &image.BuildError{Name: in.Name, Reason: "there are secrets in its image: " + strings.Join(found, "; ") +
		"; keep them out with .dockerignore, or say allow = [\"path\"] at [scan] in release.toml if they are meant to be there", Output: strings.Join(found, "\n")}
}

// ScanInput is one image, and the command that looks at it.
type ScanInput struct {
	Source
	Name  string        `json:"name"` // of the build
	Image release.Image `json:"image"`
	Scan  release.Scan  `json:"scan"`
}

// ScanImage runs a project's scanner on an image, in an exact checkout, where the
// scanner's settings may be. IMAGE in its environment is the image's reference,
// and IMAGE_LAYOUT a folder with the image itself, as an OCI layout: a scanner
// sees no token, so it can't ask a registry that wants one. It fails with
// KindScan, and the result as details, when the scanner does not end with 0.
func (a *Activities) ScanImage(ctx context.Context, in ScanInput) (release.ScanResult, error) {
	result := release.ScanResult{Name: in.Name, Image: in.Image}
	kept, err := a.keeping(ctx, "scan-"+in.Name, func(out *output) error {
		return a.Git.Checkout(ctx, in.Repository, in.Revision.Commit, func(dir string) (err error) {
			layout, err := a.saved(ctx, in.Image)
			if err != nil {
				return err
			}
			defer os.RemoveAll(layout)
			result.ExitCode, err = a.runCommand(ctx, dir, shellCommand{
				what: "scan of " + in.Name, run: in.Scan.Run, timeout: time.Duration(in.Scan.Timeout),
				env: []string{"IMAGE=" + string(in.Image), "IMAGE_LAYOUT=" + layout},
			}, out)
			return err
		})
	})
	result.Log, result.Took, result.Tail = kept.log, kept.took, kept.tail
	var failed *commandError
	if errors.As(err, &failed) {
		return result, refused(release.KindScan, fmt.Errorf("%w; %s was not released", failed, in.Image), result)
	}
	result.Passed = err == nil
	return result, classify(ctx, err)
}

// saved is a folder with an image in it, for somebody to remove.
func (a *Activities) saved(ctx context.Context, ref release.Image) (dir string, err error) {
	if dir, err = os.MkdirTemp("", "release-scan-"); err != nil || a.Images == nil {
		return dir, err
	}
	if err := a.Images.Save(ctx, ref, dir); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// A Placing is an image, and the repository from which a target's machines are
// to take it, without the registry's host.
type Placing struct {
	Target     release.Target `json:"target"`
	Image      release.Image  `json:"image"`
	Repository string         `json:"repository"`
}

// PlaceInput are the images of one environment.
type PlaceInput struct {
	Images []Placing `json:"images"`
}

// Placed are the images of one environment, by app, where its machines take them
// from, and how much had to be sent for that.
type Placed struct {
	Images release.Images `json:"images"`
	Bytes  int64          `json:"bytes,omitempty"`
}

// PlaceImages copies images, by digest, to where the machines of an environment
// take theirs from: a Fly app runs what is in its own repository, whatever
// happens to the one of staging. What is there already is not sent again.
func (a *Activities) PlaceImages(ctx context.Context, in PlaceInput) (Placed, error) {
	defer beat(ctx)()
	placed := Placed{Images: release.Images{}}
	for _, p := range in.Images {
		placed.Images[p.Target.App] = p.Image
		if a.Images == nil {
			continue
		}
		copied, err := a.Images.Copy(ctx, p.Image, a.Registry+"/"+p.Repository)
		if err != nil {
			return placed, classify(ctx, err)
		}
		placed.Images[p.Target.App] = copied.Image
		placed.Bytes += copied.Bytes
	}
	return placed, nil
}

// A shellCommand is what a project has run on a checkout.
type shellCommand struct {
	what    string // for messages: "test unit"
	run     string // for sh -c
	timeout time.Duration
	env     []string // besides what every command sees
}

// A commandError is a command that failed, rather than one that could not be run.
type commandError struct{ msg string }

func (e *commandError) Error() string { return e.msg }

// runCommand runs c in dir, in a process group of its own and without the
// worker's tokens. It returns its exit code.
func (a *Activities) runCommand(ctx context.Context, dir string, c shellCommand, out io.Writer) (int, error) {
	home, err := a.newHome()
	if err != nil {
		return 0, fmt.Errorf("make a home folder for the %s: %w", c.what, err)
	}
	defer os.RemoveAll(home)
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cmd := exec.CommandContext(within, "sh", "-c", c.run)
	cmd.Dir, cmd.Env = dir, append(testEnviron(a.Environ, home), c.env...)
	switch err := runGroup(cmd, out); {
	case err == nil:
		return 0, nil
	case within.Err() != nil && ctx.Err() == nil:
		return cmd.ProcessState.ExitCode(), &commandError{fmt.Sprintf("%s: %q took longer than %s and was ended; raise its timeout in release.toml", c.what, c.run, c.timeout)}
	case cmd.ProcessState != nil:
		return cmd.ProcessState.ExitCode(), &commandError{fmt.Sprintf("%s: %q ended with exit code %d", c.what, c.run, cmd.ProcessState.ExitCode())}
	default:
		return 0, fmt.Errorf("%s: run %q: %w", c.what, c.run, err)
	}
}
