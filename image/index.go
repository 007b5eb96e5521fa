package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/release"
)

// Annotations of the index of a build. The image itself does not name the revision,
// so that the same content has the same digest at every revision.
const (
	annotationRevision = "org.opencontainers.image.revision"
	annotationSource   = "org.opencontainers.image.source"
	annotationCreated  = "org.opencontainers.image.created"
	annotationBase     = "org.opencontainers.image.base.name"
	annotationBaseAt   = "org.opencontainers.image.base.digest"
	annotationRecipe   = "release.recipe"
)

// Annotations returns the annotations of the index of a build: the full commit and
// its time, the address of the source if other machines can fetch from it, and the
// recipe's hash. Registry.Find compares the commit and the hash.
func Annotations(req Request, r release.Revision) map[string]string {
	annotations := map[string]string{annotationRevision: r.Commit, annotationRecipe: req.Recipe.Hash()}
	if source := publicAddress(req.Origin); source != "" {
		annotations[annotationSource] = source
	}
	if !r.Time.IsZero() {
		annotations[annotationCreated] = r.Time.UTC().Format(time.RFC3339)
	}
	return annotations
}

// publicAddress returns the address of a repository without logins, or "" for a path
// of this machine.
func publicAddress(origin string) string {
	u, err := url.Parse(origin)
	switch {
	case err == nil && slices.Contains([]string{"http", "https", "ssh", "git"}, u.Scheme):
		u.User, u.RawQuery, u.Fragment = nil, "", "" // a token may be in any of them
		return u.String()
	case err == nil && (u.Host != "" || u.Scheme == "file"):
		return ""
	}
	host, path, isSCP := strings.Cut(origin, ":") // git@host:path
	host = host[strings.LastIndex(host, "@")+1:]
	if !isSCP || strings.ContainsAny(host, `/\`) || !strings.ContainsAny(origin[:strings.Index(origin, ":")], "@.") {
		return ""
	}
	return "ssh://" + host + "/" + strings.TrimPrefix(path, "/")
}

// newIndex returns an index with one image and the given annotations.
func newIndex(img v1.Image, platform v1.Platform, annotations map[string]string) v1.ImageIndex {
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}})
	return mutate.Annotations(index, annotations).(v1.ImageIndex)
}

// ReadIndex returns the image that ref names for one platform,
// os/architecture[/variant], and its provenance. ref may name an index or a plain
// image. Logins are given by the option remote.WithAuthFromKeychain.
//
// Errors are ErrNotFound; ErrPlatform if there are only images for other
// platforms; and ErrReference if ref names something else than an image.
func ReadIndex(ctx context.Context, ref name.Reference, platform string, options ...remote.Option) (Built, error) {
	found, err := findImage(ctx, ref, platform, withDefaults(ctx, options))
	if err != nil {
		return Built{}, err
	}
	return found.toBuilt(ctx)
}

// A foundImage is the image that a reference names for one platform.
type foundImage struct {
	registry    *remote.Puller
	image       name.Digest        // the image for the platform
	plain       *remote.Descriptor // the image, if the reference names it directly; nil for an index
	annotations map[string]string  // of the index or the plain image
	attestation *v1.Descriptor     // BuildKit's attestation of the image; nil for none
}

// maxDocument is the largest size of a manifest or a config in bytes.
const maxDocument = 8 << 20

// findImage finds the image that ref names for a platform. Its errors are those of
// ReadIndex.
func findImage(ctx context.Context, ref name.Reference, platform string, options []remote.Option) (f foundImage, err error) {
	want, err := v1.ParsePlatform(platform)
	if err != nil || want.OS == "" || want.Architecture == "" {
		return f, fmt.Errorf("platform %q: must be os/architecture", platform)
	}
	if f.registry, err = remote.NewPuller(options...); err != nil {
		return f, err
	}
	desc, err := f.registry.Get(ctx, ref)
	if err != nil {
		return f, fmt.Errorf("look up image %s: %w", ref, registryError(err))
	}
	switch {
	case desc.MediaType.IsIndex():
		err = f.selectFromIndex(ctx, ref, desc.Manifest, *want)
	case desc.MediaType.IsImage():
		f.plain, f.image = desc, ref.Context().Digest(desc.Digest.String())
		err = f.checkPlainImage(ref, *want)
	default:
		err = fmt.Errorf("%s: %w: its media type is %q", ref, ErrReference, desc.MediaType)
	}
	return f, err
}

// selectFromIndex sets the image for the platform, and its attestation, from an
// index.
func (f *foundImage) selectFromIndex(ctx context.Context, ref name.Reference, raw []byte, want v1.Platform) error {
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return fmt.Errorf("read the index %s: %w", ref, err)
	}
	var platforms []v1.Platform
	var images []v1.Descriptor
	for _, d := range index.Manifests {
		if !d.MediaType.IsImage() || d.Platform != nil && d.Platform.OS == "unknown" {
			continue
		}
		if d.Platform == nil { // crane and other tools omit it
			p, err := f.readPlatform(ctx, ref.Context().Digest(d.Digest.String()))
			if err != nil {
				return err
			}
			d.Platform = &p
		}
		platforms, images = append(platforms, *d.Platform), append(images, d)
	}
	i, err := matchPlatform(ref, platforms, want)
	if err != nil {
		return err
	}
	f.image, f.annotations = ref.Context().Digest(images[i].Digest.String()), index.Annotations
	if at := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool { return attestedDigest(d) == images[i].Digest.String() }); at >= 0 {
		f.attestation = &index.Manifests[at]
	}
	return nil
}

// attestedDigest returns the digest of the image that an entry of an index attests,
// as BuildKit annotates it, or "" for an entry that is no attestation.
func attestedDigest(d v1.Descriptor) string {
	if d.Annotations["vnd.docker.reference.type"] != "attestation-manifest" {
		return ""
	}
	return cmp.Or(d.Annotations["vnd.docker.reference.digest"], "?")
}

// checkPlainImage returns ErrPlatform unless a plain image is for the platform.
func (f *foundImage) checkPlainImage(ref name.Reference, want v1.Platform) error {
	has, annotations, err := imagePlatform(ref, f.plain)
	if err != nil {
		return err
	}
	f.annotations = annotations
	if has.OS == "" && has.Architecture == "" {
		return nil // the config does not name a platform
	}
	_, err = matchPlatform(ref, []v1.Platform{has}, want)
	return err
}

func (f *foundImage) readPlatform(ctx context.Context, ref name.Digest) (v1.Platform, error) {
	desc, err := f.registry.Get(ctx, ref)
	if err != nil {
		return v1.Platform{}, fmt.Errorf("look up image %s: %w", ref, registryError(err))
	}
	p, _, err := imagePlatform(ref, desc)
	return p, err
}

// imagePlatform returns the platform in an image's config, and the image's
// annotations.
func imagePlatform(ref name.Reference, desc *remote.Descriptor) (p v1.Platform, annotations map[string]string, err error) {
	img, err := desc.Image()
	if err != nil {
		return p, nil, fmt.Errorf("image %s: %w", ref, registryError(err))
	}
	config, err := readConfig(ref, img)
	if err != nil {
		return p, nil, err
	}
	if has := config.Platform(); has != nil {
		p = *has
	}
	manifest, err := img.Manifest()
	if err != nil {
		return p, nil, fmt.Errorf("image %s: %w", ref, err)
	}
	return p, manifest.Annotations, nil
}

// readConfig reads an image's config. A config of another media type, or larger than
// maxDocument, is ErrReference.
func readConfig(ref name.Reference, img v1.Image) (*v1.ConfigFile, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, registryError(err))
	}
	if !manifest.Config.MediaType.IsConfig() || manifest.Config.Size > maxDocument {
		return nil, fmt.Errorf("%s: %w: its config is %d bytes of %q", ref, ErrReference, manifest.Config.Size, manifest.Config.MediaType)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("config of image %s: %w", ref, registryError(err))
	}
	return config, nil
}

// matchPlatform returns the index in have of the platform that matches want best. If
// want has no variant, a platform without a variant is preferred to one with any.
func matchPlatform(ref name.Reference, have []v1.Platform, want v1.Platform) (int, error) {
	same := func(p v1.Platform) bool {
		return p.OS == want.OS && p.Architecture == want.Architecture && normalVariant(p) == normalVariant(want)
	}
	if i := slices.IndexFunc(have, same); i >= 0 {
		return i, nil
	}
	if i := slices.IndexFunc(have, func(p v1.Platform) bool { return p.Satisfies(want) }); i >= 0 {
		return i, nil
	}
	var names []string
	for _, p := range have {
		names = append(names, p.String())
	}
	return 0, fmt.Errorf("image %s: %w: wanted %s, got %s", ref, ErrPlatform, want, cmp.Or(strings.Join(names, ", "), "none"))
}

// normalVariant returns the variant of a platform, and "" for the default variant of
// an architecture.
func normalVariant(p v1.Platform) string {
	switch p.Architecture + "/" + p.Variant {
	case "arm64/v8", "amd64/v1":
		return ""
	case "arm/":
		return "v7"
	}
	return p.Variant
}

// toBuilt returns the image with its provenance. An attestation that can't be parsed
// becomes a note.
func (f foundImage) toBuilt(ctx context.Context) (Built, error) {
	b := Built{Image: imageRef(f.image.Context(), f.image.DigestStr())}
	if f.attestation == nil {
		return b, nil
	}
	provenance, err := f.provenance(ctx)
	var invalid *attestationError
	if errors.As(err, &invalid) {
		b.Notes = append(b.Notes, invalid.Error())
		return b, nil
	}
	b.Provenance = provenance
	return b, err
}
