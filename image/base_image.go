package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/microbima/release/release"
)

// A baseImage is the base image that a recipe names. The exported fields are sent
// to the compiler process, which has no login for a registry. They suffice to put
// a program on the base; the base's layers stay in the registry.
type baseImage struct {
	Name      string // as in the recipe
	Kind      types.MediaType
	Manifest  []byte
	Config    []byte
	reference name.Digest
	image     v1.Image // in its registry; nil in the compiler process
}

// lookUpBase reads the base image of a recipe from its registry. It returns nil
// for a recipe without one: its programs are put on the default base.
func (g *Go) lookUpBase(ctx context.Context, recipe release.Recipe, platform string, insecure bool) (*baseImage, error) {
	if recipe.Base == "" {
		return nil, nil
	}
	registry := Registry{Keychain: g.Keychain, Insecure: insecure}
	ref, err := name.ParseReference(recipe.Base, registry.nameOptions()...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; must be host/name:tag", ErrReference, err)
	}
	found, err := findImage(ctx, ref, platform, registry.options(ctx))
	if err != nil {
		return nil, err
	}
	b := &baseImage{Name: recipe.Base, reference: found.image}
	if b.image, err = getImage(found.image, registry.options(ctx)); err != nil {
		return nil, err
	}
	if _, err := readConfig(found.image, b.image); err != nil {
		return nil, err
	}
	var errs [3]error
	b.Kind, errs[0] = b.image.MediaType()
	b.Manifest, errs[1] = b.image.RawManifest()
	b.Config, errs[2] = b.image.RawConfigFile()
	return b, errors.Join(errs[:]...)
}

// isPermanent reports whether an error of lookUpBase is permanent. A refused login
// is not: the worker may be given another one.
func isPermanent(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrReference) || errors.Is(err, ErrPlatform)
}

// MediaType implements partial.CompressedImageCore, like the next three methods.
func (b *baseImage) MediaType() (types.MediaType, error) { return b.Kind, nil }

// RawManifest returns the bytes of the manifest.
func (b *baseImage) RawManifest() ([]byte, error) { return b.Manifest, nil }

// RawConfigFile returns the bytes of the config.
func (b *baseImage) RawConfigFile() ([]byte, error) { return b.Config, nil }

// LayerByDigest returns a layer without its content.
func (b *baseImage) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	manifest, err := partial.Manifest(b)
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Layers {
		if d.Digest == digest {
			return remoteLayer{d}, nil
		}
	}
	return nil, fmt.Errorf("base %s has no layer %s", b.Name, digest)
}

// hasLayer reports whether the base has a layer. It is false for a nil base.
func (b *baseImage) hasLayer(digest v1.Hash) bool {
	if b == nil {
		return false
	}
	_, err := b.LayerByDigest(digest)
	return err == nil
}

// A remoteLayer is a layer whose content is only in a registry.
type remoteLayer struct{ v1.Descriptor }

func (l remoteLayer) Digest() (v1.Hash, error)            { return l.Descriptor.Digest, nil }
func (l remoteLayer) Size() (int64, error)                { return l.Descriptor.Size, nil }
func (l remoteLayer) MediaType() (types.MediaType, error) { return l.Descriptor.MediaType, nil }

func (l remoteLayer) Compressed() (io.ReadCloser, error) {
	return nil, fmt.Errorf("layer %s of the base image is only in its registry", l.Descriptor.Digest)
}

// writeWithoutBase writes an image into a layout, without the layers of its base.
func (b *baseImage) writeWithoutBase(img v1.Image, path layout.Path) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return err
	}
	for _, l := range append(layers, config) {
		digest, err := l.Digest()
		if err != nil {
			return err
		}
		if b.hasLayer(digest) {
			continue
		}
		blob, err := l.Compressed()
		if err != nil {
			return err
		}
		if err := path.WriteBlob(digest, blob); err != nil {
			return err
		}
	}
	raw, err := img.RawManifest()
	if err != nil {
		return err
	}
	descriptor, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	if err := path.WriteFile("blobs/sha256/"+descriptor.Digest.Hex, raw, 0o600); err != nil {
		return err
	}
	return path.AppendDescriptor(*descriptor)
}

// An imageOnBase is an image from a layout that lacks the layers of its base. They
// are read from the registry of the base, if at all.
type imageOnBase struct {
	v1.Image
	base *baseImage
}

// Layers implements v1.Image.
func (i imageOnBase) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	for n := range layers {
		digest, digestErr := layers[n].Digest()
		if err = errors.Join(err, digestErr); err == nil && i.base.hasLayer(digest) {
			layers[n], err = i.base.image.LayerByDigest(digest)
		}
	}
	return layers, err
}

// LayerByDigest implements v1.Image.
func (i imageOnBase) LayerByDigest(digest v1.Hash) (v1.Layer, error) {
	if i.base.hasLayer(digest) {
		return i.base.image.LayerByDigest(digest)
	}
	return i.Image.LayerByDigest(digest)
}
