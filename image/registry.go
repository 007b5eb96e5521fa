package image

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/release"
)

// A Registry is what a worker asks of image registries, whichever holds an
// image. The zero value is ready.
type Registry struct {
	Keychain authn.Keychain // logs in to registries; nil is Docker's own settings
	Insecure bool           // the registry may speak plain HTTP. One on loopback always may
}

// keepTag is the tag of a kept image, up to the first 12 digits of its digest.
const keepTag = "release-keep-"

// Keep puts the tag release-keep-<12 digits of its digest> on an image, in its
// own repository. It may be called again. ErrNotFound: it is too late.
// ErrUnauthorized: the login may not push to that repository.
func (r *Registry) Keep(ctx context.Context, image release.Image) error {
	var naming []name.Option
	if r.Insecure {
		naming = append(naming, name.Insecure)
	}
	ref, err := name.NewDigest(string(image), naming...)
	if err != nil {
		return fmt.Errorf("image %q: %w; it should be host/name@sha256:…", image, err)
	}
	var options []remote.Option
	if r.Keychain != nil {
		options = append(options, remote.WithAuthFromKeychain(r.Keychain))
	}
	options = with(ctx, options)
	_, digits, _ := strings.Cut(ref.DigestStr(), ":")
	tag := ref.Context().Tag(keepTag + digits[:12])
	if kept, err := remote.Head(tag, options...); err == nil && kept.Digest.String() == ref.DigestStr() {
		return nil
	}
	desc, err := remote.Get(ref, options...)
	if err != nil {
		return fmt.Errorf("look up image %s: %w", image, said(err))
	}
	if err := remote.Tag(tag, desc, options...); err != nil {
		return fmt.Errorf("tag image %s as %s: %w", image, tag.TagStr(), said(err))
	}
	return nil
}

// Tag is what an image of a revision by a recipe is pushed under: whoever finds
// it there need not build it again.
func Tag(r release.Revision, recipe release.Recipe) string {
	return "rev-" + r.Short() + "-" + recipe.Hash()
}

// Find is what was built of revision by recipe before, and pushed to repository
// under tag. ErrNotFound: nothing was, or something else lies there.
func (r *Registry) Find(ctx context.Context, repository, tag string, revision release.Revision, recipe release.Recipe) (Built, error) {
	image, err := r.Pin(ctx, repository+":"+tag, recipe.On())
	return Built{Image: image}, err
}

// Pin is the image for one platform that a registry has under a reference now.
// ErrReference: it is none. ErrNotFound: the registry has none. ErrPlatform: it
// is for other platforms.
func (r *Registry) Pin(ctx context.Context, ref, platform string) (release.Image, error) {
	return Resolve(ctx, ref, r.options()...)
}

// Copy puts an image into another repository, under the same digest. What that
// has is not sent again: Bytes says how much was. It may be called again.
func (r *Registry) Copy(ctx context.Context, from release.Image, repository string) (Built, error) {
	return Built{}, errors.New("not yet")
}

// Save writes an image into an empty folder, as an OCI layout.
func (r *Registry) Save(ctx context.Context, ref release.Image, dir string) error {
	return errors.New("not yet")
}

// Secrets are the files in an image that nobody should get hold of who may pull
// it, as "path: what it is".
func (r *Registry) Secrets(ctx context.Context, ref release.Image, tokens, allow []string) ([]string, error) {
	return nil, nil
}

func (r *Registry) options() (options []remote.Option) {
	if r.Keychain != nil {
		options = append(options, remote.WithAuthFromKeychain(r.Keychain))
	}
	return options
}
