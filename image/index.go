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

// What the index of a build says of it. The image that it leads to says nothing
// of the revision: the same content has the same digest at every one.
const (
	annotationRevision = "org.opencontainers.image.revision"
	annotationSource   = "org.opencontainers.image.source"
	annotationCreated  = "org.opencontainers.image.created"
	annotationBase     = "org.opencontainers.image.base.name"
	annotationBaseAt   = "org.opencontainers.image.base.digest"
	annotationRecipe   = "release.recipe"
)

// Annotations are those of the index that is pushed for a build: the full
// commit, where it was fetched from unless only this machine could, when it was
// made, and the recipe's hash. Find looks for them.
func Annotations(req Request, r release.Revision) map[string]string {
	about := map[string]string{annotationRevision: r.Commit, annotationRecipe: req.Recipe.Hash()}
	if source := address(req.Origin); source != "" {
		about[annotationSource] = source
	}
	if !r.Time.IsZero() {
		about[annotationCreated] = r.Time.UTC().Format(time.RFC3339)
	}
	return about
}

// address is where others can fetch from, too, without a login; "" for a path.
func address(origin string) string {
	u, err := url.Parse(origin)
	switch {
	case err == nil && slices.Contains([]string{"http", "https", "ssh", "git"}, u.Scheme):
		u.User, u.RawQuery, u.Fragment = nil, "", "" // a token may be in any of them
		return u.String()
	case err == nil && (u.Host != "" || u.Scheme == "file"):
		return ""
	}
	host, path, short := strings.Cut(origin, ":") // git@host:path
	host = host[strings.LastIndex(host, "@")+1:]
	if !short || strings.ContainsAny(host, `/\`) || !strings.ContainsAny(origin[:strings.Index(origin, ":")], "@.") {
		return ""
	}
	return "ssh://" + host + "/" + strings.TrimPrefix(path, "/")
}

// indexOf is what is pushed for a build: img, and what there is to say of it.
func indexOf(img v1.Image, platform v1.Platform, about map[string]string) v1.ImageIndex {
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}})
	return mutate.Annotations(index, about).(v1.ImageIndex) // an index stays one
}

// ReadIndex is what lies under ref for one platform, os/architecture[/variant]:
// in an index, as a build pushes it, or as a plain image. Options say how to log
// in, by remote.WithAuthFromKeychain. ErrNotFound: nothing lies there.
// ErrPlatform: something for other platforms does. ErrReference: no image does.
func ReadIndex(ctx context.Context, ref name.Reference, platform string, options ...remote.Option) (Built, error) {
	found, err := read(ctx, ref, platform, with(ctx, options))
	if err != nil {
		return Built{}, err
	}
	return found.built(ctx)
}

// A listing is what lies under a reference for one platform.
type listing struct {
	registry    *remote.Puller
	image       name.Digest        // of the platform
	plain       *remote.Descriptor // nil where an index leads to the image
	about       map[string]string  // annotations: the index's, or the image's
	attestation *v1.Descriptor     // what BuildKit attests of the image; nil for nothing
}

// Documents that are larger are no manifests and no configs.
const maxDocument = 8 << 20

func read(ctx context.Context, ref name.Reference, platform string, options []remote.Option) (l listing, err error) {
	want, err := v1.ParsePlatform(platform)
	if err != nil || want.OS == "" || want.Architecture == "" {
		return l, fmt.Errorf("platform %q: it should be os/architecture", platform)
	}
	if l.registry, err = remote.NewPuller(options...); err != nil {
		return l, err
	}
	there, err := l.registry.Get(ctx, ref)
	if err != nil {
		return l, fmt.Errorf("look up image %s: %w", ref, said(err))
	}
	switch {
	case there.MediaType.IsIndex():
		err = l.choose(ctx, ref, there.Manifest, *want)
	case there.MediaType.IsImage():
		l.plain, l.image = there, ref.Context().Digest(there.Digest.String())
		err = l.check(ref, *want)
	default:
		err = fmt.Errorf("%s: %w: it is %q", ref, ErrReference, there.MediaType)
	}
	return l, err
}

// choose finds the platform's image in an index.
func (l *listing) choose(ctx context.Context, ref name.Reference, raw []byte, want v1.Platform) error {
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
		if d.Platform == nil { // crane and others leave it out: the image knows
			p, err := l.platform(ctx, ref.Context().Digest(d.Digest.String()))
			if err != nil {
				return err
			}
			d.Platform = &p
		}
		platforms, images = append(platforms, *d.Platform), append(images, d)
	}
	i, err := pick(ref, platforms, want)
	if err != nil {
		return err
	}
	l.image, l.about = ref.Context().Digest(images[i].Digest.String()), index.Annotations
	if of := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool { return attests(d) == images[i].Digest.String() }); of >= 0 {
		l.attestation = &index.Manifests[of]
	}
	return nil
}

// attests is the digest of the image that an entry of an index is about, in the
// way of BuildKit; "" for an entry that is about none.
func attests(d v1.Descriptor) string {
	if d.Annotations["vnd.docker.reference.type"] != "attestation-manifest" {
		return ""
	}
	return cmp.Or(d.Annotations["vnd.docker.reference.digest"], "?")
}

// check sees to it that a plain image is for the platform.
func (l *listing) check(ref name.Reference, want v1.Platform) error {
	has, about, err := platformOf(ref, l.plain)
	if err != nil {
		return err
	}
	l.about = about
	if has.OS == "" && has.Architecture == "" {
		return nil // nobody can say
	}
	_, err = pick(ref, []v1.Platform{has}, want)
	return err
}

func (l *listing) platform(ctx context.Context, ref name.Digest) (v1.Platform, error) {
	there, err := l.registry.Get(ctx, ref)
	if err != nil {
		return v1.Platform{}, fmt.Errorf("look up image %s: %w", ref, said(err))
	}
	p, _, err := platformOf(ref, there)
	return p, err
}

// platformOf is what the config of an image says that it is for, and the
// image's annotations.
func platformOf(ref name.Reference, there *remote.Descriptor) (p v1.Platform, about map[string]string, err error) {
	img, err := there.Image()
	if err != nil {
		return p, nil, fmt.Errorf("image %s: %w", ref, said(err))
	}
	config, err := configOf(ref, img)
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

// configOf reads an image's config, unless somebody passes another thing, or a
// whole disk, off as one.
func configOf(ref name.Reference, img v1.Image) (*v1.ConfigFile, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, said(err))
	}
	if !manifest.Config.MediaType.IsConfig() || manifest.Config.Size > maxDocument {
		return nil, fmt.Errorf("%s: %w: its config is %d bytes of %q", ref, ErrReference, manifest.Config.Size, manifest.Config.MediaType)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("config of image %s: %w", ref, said(err))
	}
	return config, nil
}

// pick is the index of the wanted platform in those that there are. One that is
// wanted without a variant may have any, and better none.
func pick(ref name.Reference, have []v1.Platform, want v1.Platform) (int, error) {
	same := func(p v1.Platform) bool {
		return p.OS == want.OS && p.Architecture == want.Architecture && variant(p) == variant(want)
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
	return 0, fmt.Errorf("image %s: %w: wanted %s, and it is for %s", ref, ErrPlatform, want, cmp.Or(strings.Join(names, ", "), "none"))
}

// variant is that of a platform, where the first one of an architecture goes
// without saying.
func variant(p v1.Platform) string {
	switch p.Architecture + "/" + p.Variant {
	case "arm64/v8", "amd64/v1":
		return ""
	case "arm/":
		return "v7"
	}
	return p.Variant
}

// built is the image, and what its builder attests of it.
func (l listing) built(ctx context.Context) (Built, error) {
	b := Built{Image: pin(l.image.Context(), l.image.DigestStr())}
	if l.attestation == nil {
		return b, nil
	}
	said, err := l.provenance(ctx)
	var odd *oddAttestation
	if errors.As(err, &odd) {
		b.Notes = append(b.Notes, odd.Error()) // the image is what it is
		return b, nil
	}
	b.Provenance = said
	return b, err
}
