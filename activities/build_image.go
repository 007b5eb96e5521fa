package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// BuildInput names the image to build from one commit, and its repository.
type BuildInput struct {
	Source
	Name            string         `json:"name"` // of the build
	Recipe          release.Recipe `json:"recipe"`
	ImageRepository string         `json:"image_repository"` // in the registry, without its host: microbima-staging-internal-api
	Scan            release.Scan   `json:"scan,omitzero"`
	// App and Platform are set by older workflows in place of Name and Recipe.
	App      *release.App `json:"app,omitempty"`
	Platform string       `json:"platform,omitempty"`
}

// BuildImage builds an image from an exact checkout and pushes it. If an earlier
// attempt pushed an image for the commit and the recipe, it returns that image. No
// layer may contain a secret. It fails with KindBuild, and the result as details, if
// the source does not build.
func (a *Activities) BuildImage(ctx context.Context, in BuildInput) (release.BuildResult, error) {
	if in.App != nil {
		in.Name, in.Recipe = in.App.Name, release.Recipe{Go: in.App.Go, Platform: in.Platform}
	}
	result := release.BuildResult{App: in.Name, RecipeText: in.Recipe.String()}
	captured, err := logFolder{a.Logs, &a.pruned}.capture(ctx, "build-"+in.Name, func(out *output) error {
		b := imageBuild{a, in, out}
		built, found, err := b.findOrBuild(ctx)
		result.Reused = found
		if err == nil {
			err = b.checkSecrets(ctx, built.Image)
		}
		if err == nil {
			result.Image, result.PushedBytes, result.Notes, result.Provenance = built.Image, built.Bytes, built.Notes, built.Provenance
		}
		return err
	})
	result.Log, result.Took, result.Tail = captured.log, captured.took, captured.tail
	var failed *image.BuildError
	if errors.As(err, &failed) {
		result.Tail = lastBytes(result.Tail+"\n"+failed.Error(), tailBytes)
		return result, permanentError(release.KindBuild, fmt.Errorf("app %s does not build: %s", in.Name, failed.Reason), result)
	}
	return result, classifyError(ctx, err)
}

// An imageBuild is one build, with its output.
type imageBuild struct {
	*Activities
	BuildInput
	out *output
}

// findOrBuild returns the image. found reports that an earlier attempt has built it.
func (b imageBuild) findOrBuild(ctx context.Context) (built image.Built, found bool, err error) {
	if b.Recipe.Image != "" {
		built, err = b.pinImage(ctx)
		return built, false, err
	}
	req := image.Request{
		Name: b.Name, Recipe: b.Recipe, Repository: b.Registry + "/" + b.BuildInput.ImageRepository, Tag: image.Tag(b.Revision, b.Recipe),
		Origin: b.Source.Repository, Log: b.out, Insecure: b.Insecure,
	}
	if b.Images != nil {
		built, err = b.Images.Find(ctx, req.Repository, req.Tag, b.Revision, b.Recipe)
		if err == nil {
			fmt.Fprintf(b.out, "%s exists already, built from %s: nothing to build\n", built.Image, b.Revision.Short())
			return built, true, nil
		}
		if !errors.Is(err, image.ErrNotFound) {
			return built, false, err
		}
	}
	builder, err := builders{b.Go, b.Docker}.chooseBuilder(b.Recipe)
	if err != nil {
		return built, false, err
	}
	err = b.Git.Checkout(ctx, b.Source.Repository, b.Revision.Commit, func(dir string) (err error) {
		built, err = builder.Build(ctx, image.Source{Dir: dir, Revision: b.Revision}, req)
		return err
	})
	return built, false, err
}

// pinImage returns an existing image by its digest, because its tag may move.
func (b imageBuild) pinImage(ctx context.Context) (image.Built, error) {
	pinned := release.Image(b.Recipe.Image)
	if b.Images != nil {
		var err error
		if pinned, err = b.Images.Pin(ctx, b.Recipe.Image, b.Recipe.PlatformOrDefault()); err != nil {
			return image.Built{}, err
		}
	}
	fmt.Fprintf(b.out, "%s is %s\n", b.Recipe.Image, pinned)
	return image.Built{Image: pinned}, nil
}

// checkSecrets returns an *image.BuildError if a layer of the image contains a secret.
func (b imageBuild) checkSecrets(ctx context.Context, ref release.Image) error {
	if b.Images == nil {
		return nil
	}
	found, err := b.Images.Secrets(ctx, ref, b.Tokens, b.Scan.Allow)
	if err != nil || len(found) == 0 {
		return err
	}
	return &image.BuildError{Name: b.Name, Reason: "the image contains secrets: " + strings.Join(found, "; ") +
		"; keep them out with .dockerignore, or set allow = [\"path\"] in [scan] of release.toml if they are intended", Output: strings.Join(found, "\n")}
}
