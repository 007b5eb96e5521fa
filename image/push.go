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

// push writes an image, or an index with what it leads to, under ref: what the
// registry does not have yet, or can't take over from a repository next to it.
// It returns how many bytes that was.
func push(ref name.Reference, what remote.Taggable, options []remote.Option, way http.RoundTripper) (int64, error) {
	out := outgoing{way: way}
	options = append(options[:len(options):len(options)], remote.WithTransport(&out))
	err := mount(ref.Context(), what, options)
	if err == nil {
		err = remote.Push(ref, what, options...)
	}
	return out.bytes.Load(), pushed(ref, err)
}

// mount makes the registry take over the layers that another of its repositories
// has. Each gets a client of its own: remote.Push shares one between all layers,
// and replaces it while others use it, when the first such layer needs another
// login.
func mount(to name.Repository, what remote.Taggable, options []remote.Option) error {
	layers, err := mountable(to, what)
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

// mountable returns the layers and configs of an image, or of all images of an index,
// that are in another repository of the registry. what may be a descriptor of either.
func mountable(to name.Repository, what any) (layers []v1.Layer, err error) {
	switch what := what.(type) {
	case *remote.Descriptor: // of what is copied
		if what.MediaType.IsIndex() {
			index, err := what.ImageIndex()
			if err != nil {
				return nil, err
			}
			return mountable(to, index)
		}
		img, err := what.Image()
		if err != nil {
			return nil, err
		}
		return mountable(to, img)
	case v1.Image:
		all, err := what.Layers()
		if err != nil {
			return nil, err
		}
		config, err := partial.ConfigLayer(what)
		if err != nil {
			return nil, err
		}
		for _, l := range append(all, config) {
			if m, ok := l.(*remote.MountableLayer); ok && m.Reference.Context().Registry == to.Registry && m.Reference.Context() != to {
				layers = append(layers, l)
			}
		}
	case v1.ImageIndex:
		manifest, err := what.IndexManifest()
		if err != nil {
			return nil, err
		}
		for _, at := range manifest.Manifests {
			if !at.MediaType.IsImage() {
				continue
			}
			img, err := what.Image(at.Digest)
			if err != nil {
				return nil, err
			}
			more, err := mountable(to, img)
			if err != nil {
				return nil, err
			}
			layers = append(layers, more...)
		}
	}
	return layers, nil
}

// pushed is what there is to say of an answer to a push.
func pushed(ref name.Reference, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("push %s: %w", ref, said(err))
	if errors.Is(err, ErrUnauthorized) {
		return fmt.Errorf("%w; the worker needs a token that may push to %s", err, ref.Context())
	}
	return err
}

// Outgoing counts the bytes that registries have taken.
type outgoing struct {
	way   http.RoundTripper
	bytes atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (o *outgoing) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil || req.Body == http.NoBody || req.Method != http.MethodPatch && req.Method != http.MethodPut {
		return o.way.RoundTrip(req) // nothing, or a login
	}
	var read atomic.Int64
	counted := *req // a transport leaves its caller's request as it is
	counted.Body = &countedBody{req.Body, &read}
	if again := req.GetBody; again != nil {
		counted.GetBody = func() (io.ReadCloser, error) {
			body, err := again()
			read.Store(0)
			return &countedBody{body, &read}, err
		}
	}
	answer, err := o.way.RoundTrip(&counted)
	if err == nil && answer.StatusCode < http.StatusMultipleChoices {
		o.bytes.Add(read.Load())
	}
	return answer, err
}

type countedBody struct {
	io.ReadCloser
	read *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	return n, err
}
