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

// A Registry is a client of image registries. The zero value is ready to use, and
// its methods may be called concurrently.
type Registry struct {
	Keychain authn.Keychain // logins for registries; nil for Docker's settings
	Insecure bool           // use plain HTTP with registries; always allowed on loopback
	// Platform replaces the platform that a caller asks for, unless it is "". Where
	// machines are local processes, they run only images of this machine's platform.
	Platform  string
	Transport http.RoundTripper // nil for the default one

	mu    sync.Mutex
	clean map[[32]byte]bool // layers without secrets, by digest and search.key
}

// keepTagPrefix is the tag of a kept image without the 12 digits of its digest.
const keepTagPrefix = "release-keep-"

// Keep puts the tag release-keep-<12 digits of its digest> on an image in its
// repository, so that the registry does not delete it. It may be called again.
// Errors are ErrNotFound if the image was deleted, and ErrUnauthorized if the login
// may not push to the repository.
func (r *Registry) Keep(ctx context.Context, image release.Image) error {
	ref, err := r.parseDigest(image)
	if err != nil {
		return err
	}
	tag, options := keepTag(ref), r.options(ctx)
	if hasTag(tag, ref, options) {
		return nil
	}
	desc, err := remote.Get(ref, options...)
	if err != nil {
		return fmt.Errorf("look up image %s: %w", image, registryError(err))
	}
	if err := remote.Tag(tag, desc, options...); err != nil {
		return fmt.Errorf("tag image %s as %s: %w", image, tag.TagStr(), registryError(err))
	}
	return nil
}

// keepTag returns the tag that Keep puts on an image.
func keepTag(ref name.Digest) name.Tag {
	_, digits, _ := strings.Cut(ref.DigestStr(), ":")
	return ref.Context().Tag(keepTagPrefix + digits[:12])
}

// hasTag reports whether the tag names the image. It is false on any error: the
// caller's next request fails with the same one.
func hasTag(tag name.Tag, ref name.Digest, options []remote.Option) bool {
	desc, err := remote.Head(tag, options...)
	return err == nil && desc.Digest.String() == ref.DigestStr()
}

// Tag returns the tag that the build of a recipe at a revision is pushed under.
// Registry.Find finds a completed build by it.
func Tag(r release.Revision, recipe release.Recipe) string {
	return "rev-" + r.Short() + "-" + recipe.Hash()
}

// Find returns the image that was built from revision by recipe and pushed to
// repository under tag. The error is ErrNotFound if there is none, or if the tag
// names something else.
func (r *Registry) Find(ctx context.Context, repository, tag string, revision release.Revision, recipe release.Recipe) (Built, error) {
	ref, err := name.NewTag(repository+":"+tag, r.nameOptions()...)
	if err != nil {
		return Built{}, fmt.Errorf("tag %s:%s: %w: %w", repository, tag, ErrReference, err)
	}
	found, err := findImage(ctx, ref, r.platform(recipe.PlatformOrDefault()), r.options(ctx))
	if errors.Is(err, ErrPlatform) || errors.Is(err, ErrReference) {
		return Built{}, fmt.Errorf("%w: the tag names something else: %w", ErrNotFound, errors.New(err.Error()))
	}
	if err != nil {
		return Built{}, err
	}
	if found.plain != nil || found.annotations[annotationRevision] != revision.Commit || found.annotations[annotationRecipe] != recipe.Hash() {
		return Built{}, fmt.Errorf("%w: %s was not built from %s by this recipe", ErrNotFound, ref, revision.Commit)
	}
	if _, err := found.registry.Get(ctx, found.image); err != nil { // some registries keep an index whose images were deleted
		return Built{}, fmt.Errorf("look up image %s: %w", found.image, registryError(err))
	}
	return found.toBuilt(ctx)
}

// Pin returns the digest of the image that a reference names now for one platform.
// Errors are ErrReference for an invalid reference, ErrNotFound, and ErrPlatform if
// there are only images for other platforms.
func (r *Registry) Pin(ctx context.Context, ref, platform string) (release.Image, error) {
	parsed, err := name.ParseReference(ref, r.nameOptions()...)
	if err != nil {
		return "", fmt.Errorf("image %q: %w: %w; must be host/name:tag or host/name@sha256:…", ref, ErrReference, err)
	}
	found, err := findImage(ctx, parsed, r.platform(platform), r.options(ctx))
	if err != nil {
		return "", err
	}
	return imageRef(found.image.Context(), found.image.DigestStr()), nil
}

// Copy copies an image to another repository under the same digest, and puts the
// tag of Keep on it. Blobs that the registry has, or can mount from another
// repository, are not sent; Bytes counts the others. It may be called again, which
// takes one request. The error is ErrNotFound if from was deleted.
func (r *Registry) Copy(ctx context.Context, from release.Image, repository string) (Built, error) {
	source, err := r.parseDigest(from)
	if err != nil {
		return Built{}, err
	}
	target, err := name.NewRepository(repository, r.nameOptions()...)
	if err != nil {
		return Built{}, fmt.Errorf("repository %q: %w: %w; must be host/name", repository, ErrReference, err)
	}
	ref, options := target.Digest(source.DigestStr()), r.options(ctx)
	tag, built := keepTag(ref), Built{Image: imageRef(target, source.DigestStr())}
	if hasTag(tag, ref, options) {
		return built, nil
	}
	desc, err := remote.Get(source, options...)
	if err != nil {
		return Built{}, fmt.Errorf("look up image %s: %w", from, registryError(err))
	}
	if built.Bytes, err = push(tag, desc, options, r.transport()); err != nil {
		return Built{}, fmt.Errorf("copy image %s: %w", from, err)
	}
	if _, err := remote.Get(ref, options...); err != nil { // machines pull by digest, not by tag
		return Built{}, fmt.Errorf("look up the copy of image %s: %w", from, registryError(err))
	}
	return built, nil
}

// Save writes an image into an empty folder as an OCI layout, for scanners such as
// trivy image --input DIR or grype oci-dir:DIR.
func (r *Registry) Save(ctx context.Context, ref release.Image, dir string) error {
	digest, err := r.parseDigest(ref)
	if err != nil {
		return err
	}
	img, err := getImage(digest, r.options(ctx))
	if err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		return fmt.Errorf("save image %s: %w", ref, registryError(err))
	}
	return nil
}

// parseDigest parses the reference of an image.
func (r *Registry) parseDigest(image release.Image) (name.Digest, error) {
	ref, err := name.NewDigest(string(image), r.nameOptions()...)
	if err != nil {
		return ref, fmt.Errorf("image %q: %w: %w; must be host/name@sha256:…", image, ErrReference, err)
	}
	return ref, nil
}

// platform returns the platform to find images for.
func (r *Registry) platform(platform string) string { return cmp.Or(r.Platform, platform) }

func (r *Registry) nameOptions() []name.Option {
	if r.Insecure {
		return []name.Option{name.Insecure}
	}
	return nil
}

func (r *Registry) options(ctx context.Context) []remote.Option {
	return append(loginOptions(ctx, r.Keychain), remote.WithTransport(r.transport()))
}

func (r *Registry) transport() http.RoundTripper {
	if r.Transport != nil {
		return r.Transport
	}
	return remote.DefaultTransport
}
