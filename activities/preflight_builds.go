package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// BuilderInput has the builds and tests of a release.
type BuilderInput struct {
	Builds []release.Build `json:"builds"`
	Tests  []release.Test  `json:"tests,omitempty"`
}

// PreflightBuilds checks, before any test or build, that this worker has the builders,
// that they are ready, and that prebuilt images exist. It fails with KindPreflight and
// all missing things at once. It changes nothing.
func (a *Activities) PreflightBuilds(ctx context.Context, in BuilderInput) error {
	defer startHeartbeat(ctx)()
	var missing []string
	add := func(subject string, err error) {
		if err != nil && !slices.Contains(missing, subject+": "+err.Error()) {
			missing = append(missing, subject+": "+err.Error())
		}
	}
	for _, b := range in.Builds {
		if b.Recipe.Image == "" {
			add("app "+b.Name, builders{a.Go, a.Docker}.checkBuilder(ctx, b.Recipe))
			continue
		}
		err := checkImage(ctx, a.Images, b.Recipe)
		if err != nil && !isRegistryFinal(err) {
			return classifyError(ctx, err)
		}
		add("app "+b.Name, err)
	}
	for _, t := range in.Tests {
		if t.BuildTarget != "" {
			add("test "+t.Name, builders{a.Go, a.Docker}.checkBuilder(ctx, t.Recipe()))
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(missing) > 0 {
		return permanentError(release.KindPreflight, errors.New(strings.Join(missing, "\n")))
	}
	return nil
}

// builders has the builders of this worker; nil is none.
type builders struct {
	forGo  Builder
	docker Docker
}

// checkBuilder returns an error if this worker cannot build that recipe.
func (b builders) checkBuilder(ctx context.Context, recipe release.Recipe) error {
	builder, err := b.chooseBuilder(recipe)
	if err != nil {
		return err
	}
	return builder.Ready(ctx, recipe)
}

// checkImage returns an error if a prebuilt image cannot be used.
func checkImage(ctx context.Context, images Images, recipe release.Recipe) error {
	if images == nil {
		return nil
	}
	_, err := images.Pin(ctx, recipe.Image, recipe.PlatformOrDefault())
	return err
}

// chooseBuilder returns the builder for that recipe.
func (b builders) chooseBuilder(recipe release.Recipe) (Builder, error) {
	switch {
	case recipe.Go != "" && b.forGo != nil:
		return b.forGo, nil
	case recipe.Go != "":
		return nil, errors.New("this worker does not build Go programs")
	case b.docker != nil:
		return b.docker, nil
	}
	return nil, fmt.Errorf("this worker has no BuildKit for %s: start it with --buildkit ADDRESS or BUILDKIT_HOST, or on a machine with a Docker Engine; or set go = \"./…\" for the app in release.toml", recipe.Dockerfile)
}
