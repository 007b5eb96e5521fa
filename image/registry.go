package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/release"
)

// A Registry is what a worker asks of image registries, whichever holds an
// image. The zero value is ready; one value may do several things at a time.
type Registry struct {
	Keychain authn.Keychain // logs in to registries; nil is Docker's own settings
	Insecure bool           // the registry may speak plain HTTP. One on loopback always may
	// Platform is what images are looked for in place of what they are asked
	// for; "" is none. On a laptop machines are processes: they run only what is
	// for its own.
	Platform string
	// Transport is the way to registries; nil is the usual one.
	Transport http.RoundTripper

	mu    sync.Mutex
	clean map[[32]byte]bool // layers in which there was nothing to find, with what was searched for
}

// keepTag is the tag of a kept image, up to the first 12 digits of its digest.
const keepTag = "release-keep-"

// Keep puts the tag release-keep-<12 digits of its digest> on an image, in its
// own repository. It may be called again. ErrNotFound: it is too late.
// ErrUnauthorized: the login may not push to that repository.
func (r *Registry) Keep(ctx context.Context, image release.Image) error {
	ref, err := r.digest(image)
	if err != nil {
		return err
	}
	tag, options := keep(ref), r.options(ctx)
	if kept(tag, ref, options) {
		return nil
	}
	there, err := remote.Get(ref, options...)
	if err != nil {
		return fmt.Errorf("look up image %s: %w", image, said(err))
	}
	if err := remote.Tag(tag, there, options...); err != nil {
		return fmt.Errorf("tag image %s as %s: %w", image, tag.TagStr(), said(err))
	}
	return nil
}

// keep is the tag that keeps an image in its repository.
func keep(ref name.Digest) name.Tag {
	_, digits, _ := strings.Cut(ref.DigestStr(), ":")
	return ref.Context().Tag(keepTag + digits[:12])
}

// kept says whether the tag is there. Whatever else a registry says to that, it
// will say again to what is asked next.
func kept(tag name.Tag, ref name.Digest, options []remote.Option) bool {
	there, err := remote.Head(tag, options...)
	return err == nil && there.Digest.String() == ref.DigestStr()
}

// Tag is what an image of a revision by a recipe is pushed under: whoever finds
// it there need not build it again.
func Tag(r release.Revision, recipe release.Recipe) string {
	return "rev-" + r.Short() + "-" + recipe.Hash()
}

// Find is what was built of revision by recipe before, and pushed to repository
// under tag. ErrNotFound: nothing was, or something else lies there.
func (r *Registry) Find(ctx context.Context, repository, tag string, revision release.Revision, recipe release.Recipe) (Built, error) {
	ref, err := name.NewTag(repository+":"+tag, r.naming()...)
	if err != nil {
		return Built{}, fmt.Errorf("tag %s:%s: %w: %w", repository, tag, ErrReference, err)
	}
	found, err := read(ctx, ref, r.on(recipe.On()), r.options(ctx))
	if errors.Is(err, ErrPlatform) || errors.Is(err, ErrReference) {
		return Built{}, fmt.Errorf("%w: what lies there is another thing: %w", ErrNotFound, unkind(err))
	}
	if err != nil {
		return Built{}, err
	}
	if found.plain != nil || found.about[annotationRevision] != revision.Commit || found.about[annotationRecipe] != recipe.Hash() {
		return Built{}, fmt.Errorf("%w: %s was not built of %s by that recipe", ErrNotFound, ref, revision.Commit)
	}
	if _, err := found.registry.Get(ctx, found.image); err != nil { // an index outlives what it names in some registries
		return Built{}, fmt.Errorf("look up image %s: %w", found.image, said(err))
	}
	return found.built(ctx)
}

// unkind is an error's text, without its kind.
func unkind(err error) error { return errors.New(err.Error()) }

// Pin is the image for one platform that a registry has under a reference now.
// ErrReference: it is none. ErrNotFound: the registry has none. ErrPlatform: it
// is for other platforms.
func (r *Registry) Pin(ctx context.Context, ref, platform string) (release.Image, error) {
	parsed, err := name.ParseReference(ref, r.naming()...)
	if err != nil {
		return "", fmt.Errorf("image %q: %w: %w; it should be host/name:tag or host/name@sha256:…", ref, ErrReference, err)
	}
	found, err := read(ctx, parsed, r.on(platform), r.options(ctx))
	if err != nil {
		return "", err
	}
	return pin(found.image.Context(), found.image.DigestStr()), nil
}

// Copy puts an image into another repository, under the same digest, with the
// tag of Keep. What is there, or can be taken over from a repository next to it,
// is not sent: Bytes says how much was. It may be called again, and is one
// question then. ErrNotFound: from is gone.
func (r *Registry) Copy(ctx context.Context, from release.Image, repository string) (Built, error) {
	source, err := r.digest(from)
	if err != nil {
		return Built{}, err
	}
	target, err := name.NewRepository(repository, r.naming()...)
	if err != nil {
		return Built{}, fmt.Errorf("repository %q: %w: %w; it should be host/name", repository, ErrReference, err)
	}
	ref, options := target.Digest(source.DigestStr()), r.options(ctx)
	tag, there := keep(ref), Built{Image: pin(target, source.DigestStr())}
	if kept(tag, ref, options) {
		return there, nil
	}
	img, err := remote.Get(source, options...)
	if err != nil {
		return Built{}, fmt.Errorf("look up image %s: %w", from, said(err))
	}
	if there.Bytes, err = push(tag, img, options, r.transport()); err != nil {
		return Built{}, fmt.Errorf("copy image %s: %w", from, err)
	}
	if _, err := remote.Get(ref, options...); err != nil { // machines will ask for the digest, not for the tag
		return Built{}, fmt.Errorf("look up the copy of image %s: %w", from, said(err))
	}
	return there, nil
}

// Save writes an image into an empty folder, as an OCI layout: for scanners, as
// trivy image --input DIR, or grype oci-dir:DIR.
func (r *Registry) Save(ctx context.Context, ref release.Image, dir string) error {
	at, err := r.digest(ref)
	if err != nil {
		return err
	}
	img, err := imageAt(at, r.options(ctx))
	if err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		return fmt.Errorf("save image %s: %w", ref, said(err))
	}
	return nil
}

// digest parses the reference of an image.
func (r *Registry) digest(image release.Image) (name.Digest, error) {
	ref, err := name.NewDigest(string(image), r.naming()...)
	if err != nil {
		return ref, fmt.Errorf("image %q: %w: %w; it should be host/name@sha256:…", image, ErrReference, err)
	}
	return ref, nil
}

// on is the platform to look for.
func (r *Registry) on(platform string) string { return cmp.Or(r.Platform, platform) }

func (r *Registry) naming() []name.Option {
	if r.Insecure {
		return []name.Option{name.Insecure}
	}
	return nil
}

func (r *Registry) options(ctx context.Context) []remote.Option {
	return append(login(ctx, r.Keychain), remote.WithTransport(r.transport()))
}

func (r *Registry) transport() http.RoundTripper {
	if r.Transport != nil {
		return r.Transport
	}
	return remote.DefaultTransport
}
