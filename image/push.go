package image

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
)

// push writes an image, or an index with its images, under ref. It sends the blobs
// that the registry neither has in that repository nor can mount from another one,
// and returns how many bytes it sent.
func push(ref name.Reference, artifact remote.Taggable, options []remote.Option, transport http.RoundTripper) (int64, error) {
	counter := countingTransport{next: transport}
	options = append(options[:len(options):len(options)], remote.WithTransport(&counter))
	err := mountLayers(ref.Context(), artifact, options)
	if err == nil {
		err = remote.Push(ref, artifact, options...)
	}
	return counter.bytes.Load(), pushError(ref, err)
}

// mountLayers makes the registry mount the layers that it has in another
// repository. Each layer has its own client. remote.Push shares one client between
// all layers, and replaces it while it is in use if a layer needs another login.
func mountLayers(to name.Repository, artifact remote.Taggable, options []remote.Option) error {
	layers, err := mountable(to, artifact)
	if err != nil {
		return err
	}
	var all errgroup.Group
	all.SetLimit(4)
	for _, l := range layers {
		all.Go(func() error { return remote.WriteLayer(to, l, options...) })
	}
	return all.Wait()
}

// mountable returns the layers and configs that are in another repository of the
// registry, of an image, of all images of an index, or of the image or index of a
// descriptor.
func mountable(to name.Repository, artifact any) ([]v1.Layer, error) {
	switch artifact := artifact.(type) {
	case *remote.Descriptor:
		if artifact.MediaType.IsIndex() {
			index, err := artifact.ImageIndex()
			if err != nil {
				return nil, err
			}
			return mountableInIndex(to, index)
		}
		img, err := artifact.Image()
		if err != nil {
			return nil, err
		}
		return mountableInImage(to, img)
	case v1.Image:
		return mountableInImage(to, artifact)
	case v1.ImageIndex:
		return mountableInIndex(to, artifact)
	}
	return nil, nil
}

func mountableInImage(to name.Repository, img v1.Image) (layers []v1.Layer, err error) {
	all, err := img.Layers()
	if err != nil {
		return nil, err
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return nil, err
	}
	for _, l := range append(all, config) {
		if m, ok := l.(*remote.MountableLayer); ok && m.Reference.Context().Registry == to.Registry && m.Reference.Context() != to {
			layers = append(layers, l)
		}
	}
	return layers, nil
}

func mountableInIndex(to name.Repository, index v1.ImageIndex) (layers []v1.Layer, err error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Manifests {
		if !d.MediaType.IsImage() {
			continue
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			return nil, err
		}
		more, err := mountableInImage(to, img)
		if err != nil {
			return nil, err
		}
		layers = append(layers, more...)
	}
	return layers, nil
}

// pushError adds to the error of a push what was pushed, its kind, and for a refused
// login which token is needed. It returns nil for nil.
func pushError(ref name.Reference, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("push %s: %w", ref, registryError(err))
	if errors.Is(err, ErrUnauthorized) {
		return fmt.Errorf("%w; the worker needs a token that may push to %s", err, ref.Context())
	}
	return err
}

// A countingTransport counts the bytes of uploads that registries accepted.
type countingTransport struct {
	next  http.RoundTripper
	bytes atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (t *countingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil || req.Body == http.NoBody || req.Method != http.MethodPatch && req.Method != http.MethodPut {
		return t.next.RoundTrip(req) // not an upload
	}
	var read atomic.Int64
	counted := *req // a transport must not change its caller's request
	counted.Body = &countingBody{req.Body, &read}
	if getBody := req.GetBody; getBody != nil {
		counted.GetBody = func() (io.ReadCloser, error) {
			body, err := getBody()
			read.Store(0)
			return &countingBody{body, &read}, err
		}
	}
	res, err := t.next.RoundTrip(&counted)
	if err == nil && res.StatusCode < http.StatusMultipleChoices {
		t.bytes.Add(read.Load())
	}
	return res, err
}

type countingBody struct {
	io.ReadCloser
	read *atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	return n, err
}
