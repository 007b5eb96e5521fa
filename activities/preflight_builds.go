package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// BuilderInput is what a release is about to build and test.
type BuilderInput struct {
	Builds []release.Build `json:"builds"`
	Tests  []release.Test  `json:"tests,omitempty"`
}

// PreflightBuilds checks, before anything is tested or built, that this worker can do
// it: that it has the builders, that they are ready, and that images which are used as
// they are exist. It fails with KindPreflight and everything that is missing at once. It
// changes nothing.
func (a *Activities) PreflightBuilds(ctx context.Context, in BuilderInput) error {
	defer heartbeat(ctx)()
	var missing []string
	add := func(subject string, err error) {
		if err != nil && !slices.Contains(missing, subject+": "+err.Error()) {
			missing = append(missing, subject+": "+err.Error())
		}
	}
	for _, b := range in.Builds {
		if b.Recipe.Image == "" {
			add("app "+b.Name, builders{a.Go, a.Docker}.check(ctx, b.Recipe))
			continue
		}
		err := checkImage(ctx, a.Images, b.Recipe)
		if err != nil && !isRegistryFinal(err) {
			return classify(ctx, err)
		}
		add("app "+b.Name, err)
	}
	for _, t := range in.Tests {
		if t.BuildTarget != "" {
			add("test "+t.Name, builders{a.Go, a.Docker}.check(ctx, t.Recipe()))
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(missing) > 0 {
		return permanent(release.KindPreflight, errors.New(strings.Join(missing, "\n")))
	}
	return nil
}

// builders are those of this worker; nil is none.
type builders struct {
	forGo  Builder
	docker Docker
}

// check returns why that recipe cannot be built here, or nil.
func (b builders) check(ctx context.Context, recipe release.Recipe) error {
	builder, err := b.choose(recipe)
	if err != nil {
		return err
	}
	return builder.Ready(ctx, recipe)
}

// checkImage returns why an image cannot be used as it is, or nil.
func checkImage(ctx context.Context, images Images, recipe release.Recipe) error {
	if images == nil {
		return nil
	}
	_, err := images.Pin(ctx, recipe.Image, recipe.On())
	return err
}

// choose returns the builder for that recipe.
func (b builders) choose(recipe release.Recipe) (Builder, error) {
	switch {
	case recipe.Go != "" && b.forGo != nil:
		return b.forGo, nil
	case recipe.Go != "":
		return nil, errors.New("this worker does not build Go programs")
	case b.docker != nil:
		return b.docker, nil
	}
	return nil, fmt.Errorf("this worker has no BuildKit for %s: start it with --buildkit ADDRESS or BUILDKIT_HOST, or on a machine with a Docker Engine; or say go = \"./…\" for the app in release.toml", recipe.Dockerfile)
}
