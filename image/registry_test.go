package image_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// login is the only login that a guarded registry accepts.
type login struct{}

func (login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: "x", Password: "secret"}, nil
}

// A guarded registry requires a login, which may be read-only.
type guarded struct {
	http.Handler
	readOnly bool
	changes  int // requests that changed manifests
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isChange := r.Method != http.MethodGet && r.Method != http.MethodHead
	switch _, password, _ := r.BasicAuth(); {
	case password != "secret":
		w.Header().Set("WWW-Authenticate", `Basic realm="shop"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case isChange && g.readOnly:
		w.WriteHeader(http.StatusForbidden)
		return
	case isChange && strings.Contains(r.URL.Path, "/manifests/"):
		g.changes++
	}
	g.Handler.ServeHTTP(w, r)
}

func newGuardedRegistry(t *testing.T) (*guarded, name.Repository) {
	t.Helper()
	g := &guarded{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	repository, err := name.NewRepository(strings.TrimPrefix(srv.URL, "http://") + "/shop")
	if err != nil {
		t.Fatal(err)
	}
	return g, repository
}

// push pushes an image or an index without a tag.
func push(t *testing.T, repository name.Repository, artifact partial.WithRawManifest) (v1.Hash, release.Image) {
	t.Helper()
	digest, err := partial.Digest(artifact)
	if err != nil {
		t.Fatal(err)
	}
	ref, auth := repository.Digest(digest.String()), remote.WithAuthFromKeychain(login{})
	switch artifact := artifact.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, artifact, auth)
	case v1.Image:
		err = remote.Write(ref, artifact, auth)
	}
	if err != nil {
		t.Fatal(err)
	}
	return digest, release.Image(ref.String())
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// A registry may delete an image without a tag, and a rollback needs the image that
// runs now.
func TestKeep(t *testing.T) {
	g, repository := newGuardedRegistry(t)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: randomImage(t)})
	for kind, artifact := range map[string]partial.WithRawManifest{"an image": randomImage(t), "an index": index} {
		digest, ref := push(t, repository, artifact)
		registry := &image.Registry{Keychain: login{}}
		if err := registry.Keep(t.Context(), ref); err != nil {
			t.Fatal(kind, err)
		}
		kept, err := remote.Head(repository.Tag("release-keep-"+digest.Hex[:12]), remote.WithAuthFromKeychain(login{}))
		if err != nil || kept.Digest != digest {
			t.Errorf("%s: the tag names %v (%v), want %s", kind, kept, err, digest)
		}
		before := g.changes
		if err := registry.Keep(t.Context(), ref); err != nil || g.changes != before {
			t.Errorf("%s: kept a second time: %v, %d changes", kind, err, g.changes-before)
		}
	}
	tags, err := remote.List(repository, remote.WithAuthFromKeychain(login{}))
	if err != nil || len(tags) != 2 || slices.ContainsFunc(tags, func(tag string) bool { return !strings.HasPrefix(tag, "release-keep-") }) {
		t.Errorf("the tags are %q, %v", tags, err)
	}
}

func TestKeep_Errors(t *testing.T) {
	g, repository := newGuardedRegistry(t)
	_, ref := push(t, repository, randomImage(t))
	gone := release.Image(repository.String() + "@sha256:" + strings.Repeat("0", 64))
	g.readOnly = true
	for name, test := range map[string]struct {
		registry *image.Registry
		ref      release.Image
		want     error // nil for an error of no kind
	}{
		"deleted image":        {&image.Registry{Keychain: login{}}, gone, image.ErrNotFound},
		"read-only login":      {&image.Registry{Keychain: login{}}, ref, image.ErrUnauthorized},
		"no login":             {new(image.Registry), ref, image.ErrUnauthorized},
		"unreachable registry": {new(image.Registry), "127.0.0.1:1/shop@" + release.Image(gone.Digest()), nil},
		"no digest":            {new(image.Registry), "shop:latest", nil},
		"truncated digest":     {new(image.Registry), "shop@sha256:00", nil},
	} {
		err := test.registry.Keep(t.Context(), test.ref)
		if err == nil {
			t.Errorf("%s: it was kept", name)
		}
		for _, kind := range []error{image.ErrNotFound, image.ErrUnauthorized} {
			if errors.Is(err, kind) != (kind == test.want) {
				t.Errorf("%s: got %v, want %v", name, err, test.want)
			}
		}
	}
}

// A deleted image and a refused login are told apart, with and without a tag.
func TestPin_ErrorKinds(t *testing.T) {
	_, repository := newGuardedRegistry(t)
	_, ref := push(t, repository, randomImage(t))
	gone := repository.String() + "@sha256:" + strings.Repeat("0", 64)
	pin := func(r *image.Registry, ref string) error {
		_, err := r.Pin(t.Context(), ref, "linux/amd64")
		return err
	}
	loggedIn := &image.Registry{Keychain: login{}}
	if err := pin(loggedIn, string(ref)); err != nil {
		t.Error(err)
	}
	for name, test := range map[string]struct{ got, want error }{
		"deleted image":   {pin(loggedIn, gone), image.ErrNotFound},
		"no login":        {pin(new(image.Registry), string(ref)), image.ErrUnauthorized},
		"no such tag":     {pin(loggedIn, repository.Tag("v9").String()), image.ErrNotFound},
		"a tag, no login": {pin(new(image.Registry), repository.Tag("v9").String()), image.ErrUnauthorized},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", name, test.got, test.want)
		}
	}
}
