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

// A chosenBase is the base that a recipe names. Its fields are what has to be
// known of it to put a program on top: the process that compiles has no token to
// ask a registry with, and its layers stay where they are.
type chosenBase struct {
	Name      string // as the recipe has it
	Kind      types.MediaType
	Manifest  []byte
	Config    []byte
	reference name.Digest
	image     v1.Image // in its registry; nil in the process that compiles
}

// choose looks the base of a recipe up; nil is the one of three files.
func (g *Go) choose(ctx context.Context, recipe release.Recipe, platform string, insecure bool) (*chosenBase, error) {
	if recipe.Base == "" {
		return nil, nil
	}
	registry := Registry{Keychain: g.Keychain, Insecure: insecure}
	ref, err := name.ParseReference(recipe.Base, registry.naming()...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; it should be host/name:tag", ErrReference, err)
	}
	found, err := read(ctx, ref, platform, registry.options(ctx))
	if err != nil {
		return nil, err
	}
	b := &chosenBase{Name: recipe.Base, reference: found.image}
	if b.image, err = imageAt(found.image, registry.options(ctx)); err != nil {
		return nil, err
	}
	if _, err := configOf(found.image, b.image); err != nil {
		return nil, err
	}
	var wrong [3]error
	b.Kind, wrong[0] = b.image.MediaType()
	b.Manifest, wrong[1] = b.image.RawManifest()
	b.Config, wrong[2] = b.image.RawConfigFile()
	return b, errors.Join(wrong[:]...)
}

// final says whether looking a base up again would end the same way, apart from
// a login that may be given to the worker meanwhile.
func final(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrReference) || errors.Is(err, ErrPlatform)
}

// MediaType implements partial.CompressedImageCore, as do those that follow.
func (b *chosenBase) MediaType() (types.MediaType, error) { return b.Kind, nil }

// RawManifest returns the bytes that its digest is of.
func (b *chosenBase) RawManifest() ([]byte, error) { return b.Manifest, nil }

// RawConfigFile returns the config's bytes.
func (b *chosenBase) RawConfigFile() ([]byte, error) { return b.Config, nil }

// LayerByDigest returns a layer that everything is known of but its content.
func (b *chosenBase) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	manifest, err := partial.Manifest(b)
	if err != nil {
		return nil, err
	}
	for _, at := range manifest.Layers {
		if at.Digest == digest {
			return elsewhere{at}, nil
		}
	}
	return nil, fmt.Errorf("base %s has no layer %s", b.Name, digest)
}

// has says whether a layer is the base's.
func (b *chosenBase) has(digest v1.Hash) bool {
	if b == nil {
		return false
	}
	_, err := b.LayerByDigest(digest)
	return err == nil
}

// Elsewhere is a layer that is in a registry, and not here.
type elsewhere struct{ at v1.Descriptor }

func (e elsewhere) Digest() (v1.Hash, error)            { return e.at.Digest, nil }
func (e elsewhere) Size() (int64, error)                { return e.at.Size, nil }
func (e elsewhere) MediaType() (types.MediaType, error) { return e.at.MediaType, nil }

func (e elsewhere) Compressed() (io.ReadCloser, error) {
	return nil, fmt.Errorf("layer %s of the base is not here", e.at.Digest)
}

// write keeps an image in a layout, without the layers of its base.
func (b *chosenBase) write(img v1.Image, path layout.Path) error {
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
		if b.has(digest) {
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
	at, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	if err := path.WriteFile("blobs/sha256/"+at.Digest.Hex, raw, 0o600); err != nil {
		return err
	}
	return path.AppendDescriptor(*at)
}

// An onBase is an image from such a layout, whose other layers are the base's,
// wherever that is: they are taken from there if they are needed at all.
type onBase struct {
	v1.Image
	base *chosenBase
}

// Layers implements v1.Image.
func (i onBase) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	for n := range layers {
		digest, wrong := layers[n].Digest()
		if err = errors.Join(err, wrong); err == nil && i.base.has(digest) {
			layers[n], err = i.base.image.LayerByDigest(digest)
		}
	}
	return layers, err
}

// LayerByDigest implements v1.Image.
func (i onBase) LayerByDigest(digest v1.Hash) (v1.Layer, error) {
	if i.base.has(digest) {
		return i.base.image.LayerByDigest(digest)
	}
	return i.Image.LayerByDigest(digest)
}
