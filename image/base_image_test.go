package image

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/microbima/release/release"
)

// newBaseIndex returns an index with a base image for linux/amd64 of some size, and
// that image.
func newBaseIndex(t *testing.T, kind types.MediaType) (v1.ImageIndex, v1.Image) {
	t.Helper()
	img := imageWithLayers(t, newLayer(t, map[string]string{"etc/base": strings.Repeat("base", 5000), "bin/ls": "ls"}))
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Env = []string{"PATH=/opt/bin:/bin", "LANG=C.UTF-8"}
	config.Config.User, config.Config.Cmd, config.Config.WorkingDir = "daemon", []string{"sh"}, "/srv"
	if img, err = mutate.ConfigFile(mutate.MediaType(img, kind), config); err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: imageFor(t, "linux/arm64"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	return index, img
}

func firstLayer(t *testing.T, img v1.Image) string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return digestOf(t, layers[0])
}

// A program may need other programs or certificates from its base image. The base is
// transferred at most once.
func TestGoBuild_BaseImage(t *testing.T) {
	for _, kind := range []types.MediaType{types.OCIManifestSchema1, types.DockerManifestSchema2} {
		bases, target := newFakeRegistry(t), newFakeRegistry(t)
		baseIndex, base := newBaseIndex(t, kind)
		from := pushTag(t, bases.repository(t, "os"), "v1", baseIndex)
		var out bytes.Buffer
		src := newSource(t, map[string]string{"apps/api/main.go": program})
		req := Request{
			Name: "api", Recipe: release.Recipe{Go: "./apps/api", Base: from.String()},
			Repository: target.repository(t, "api").String(), Tag: "r1", Log: &out,
		}
		built, err := new(Go).Build(t.Context(), src, req)
		if err != nil {
			t.Fatal(err)
		}
		img := pull(t, built.Image)
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c := config.Config
		if c.User != "daemon" || c.WorkingDir != "/srv" || len(c.Cmd) > 0 || !slices.Equal(c.Env, []string{"PATH=/opt/bin:/bin:/ko-app", "LANG=C.UTF-8", "KO_DATA_PATH=/var/run/ko"}) {
			t.Errorf("config: %+v", c)
		}
		if got, want := firstLayer(t, img), firstLayer(t, base); got != want {
			t.Errorf("the first layer is %s, want the base's %s", got, want)
		}
		root := unpack(t, img)
		if _, err := os.Stat(filepath.Join(root, "etc/base")); err != nil {
			t.Error(err)
		}
		if printed, err := exec.Command(filepath.Join(root, c.Entrypoint[0])).Output(); err != nil || string(printed) != "hello\n" {
			t.Errorf("it prints %q, %v", printed, err)
		}
		index, err := remote.Index(target.repository(t, "api").Tag("r1"))
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if got := manifest.Annotations; got[annotationBase] != from.String() || got[annotationBaseAt] != digestOf(t, base) {
			t.Errorf("the index does not name the base image: %v", got)
		}
		if !strings.Contains(out.String(), digestOf(t, base)) {
			t.Errorf("the log does not name the base image: %s", out.String())
		}

		bases.resetCounts()
		target.resetCounts()
		again, err := new(Go).Build(t.Context(), src, req)
		if err != nil || again.Image != built.Image || again.Bytes != 0 {
			t.Errorf("again: %+v, %v; want %s", again, err, built.Image)
		}
		if got := bases.requestCount("GET blobs"); got != 1 {
			t.Errorf("%d blobs of the base image were fetched; want its config only", got)
		}
	}
}

// A base image in the target registry is mounted: its layers are neither fetched nor
// sent.
func TestGoBuild_BaseInSameRegistry(t *testing.T) {
	s := newFakeRegistry(t)
	index, base := newBaseIndex(t, types.OCIManifestSchema1)
	from := pushTag(t, s.repository(t, "os"), "v1", index)
	s.resetCounts()
	req := Request{Name: "api", Recipe: release.Recipe{Go: "./apps/api", Base: from.String()}, Repository: s.repository(t, "api").String(), Tag: "r1"}
	built, err := new(Go).Build(t.Context(), newSource(t, map[string]string{"apps/api/main.go": program}), req)
	if err != nil {
		t.Fatal(err)
	}
	if s.mounted != 1 || s.requestCount("GET blobs") != 1 {
		t.Errorf("%d layers were mounted, and %d blobs fetched; want 1 and the base's config", s.mounted, s.requestCount("GET blobs"))
	}
	if got, want := firstLayer(t, pull(t, built.Image)), firstLayer(t, base); got != want {
		t.Errorf("the first layer is %s, want %s", got, want)
	}
}

// LayerByDigest reads a layer of the base from the base's registry.
func TestImageOnBase_LayerByDigest(t *testing.T) {
	repository := newFakeRegistry(t).repository(t, "os")
	_, base := newBaseIndex(t, types.OCIManifestSchema1)
	from := pushTag(t, repository, "v1", base)
	chosen, err := new(Go).lookUpBase(t.Context(), release.Recipe{Base: from.String()}, "linux/amd64", false)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := v1.NewHash(firstLayer(t, base))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := imageOnBase{empty.Image, chosen}.LayerByDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	content, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content.Close()
}

// A hostLogin is the login for one registry.
type hostLogin struct{ host string }

func (l hostLogin) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if r.RegistryStr() == l.host {
		return &authn.Basic{Username: "x", Password: "secret"}, nil
	}
	return authn.Anonymous, nil
}

func TestGoBuild_UnusableBase(t *testing.T) {
	s := newFakeRegistry(t)
	guarded := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="os"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.inner.ServeHTTP(w, r)
	}))
	t.Cleanup(guarded.Close)
	index, _ := newBaseIndex(t, types.OCIManifestSchema1)
	repository := s.repository(t, "os")
	pushTag(t, repository, "v1", index)
	pushTag(t, repository, "arm", imageFor(t, "linux/arm64"))
	host := strings.TrimPrefix(guarded.URL, "http://")
	for name, test := range map[string]struct {
		base       string
		keychain   authn.Keychain
		buildError bool
		ready      bool
		kind       error
	}{
		"no such tag":          {repository.Tag("v9").String(), nil, true, false, nil},
		"other platform":       {repository.Tag("arm").String(), nil, true, false, nil},
		"invalid reference":    {"a b", nil, true, false, nil},
		"no login":             {host + "/os:v1", hostLogin{"elsewhere"}, false, false, ErrUnauthorized},
		"unreachable registry": {"127.0.0.1:1/os:v1", nil, false, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			builder := &Go{Keychain: test.keychain}
			req := newRequest(t)
			req.Name, req.Recipe.Base = "api (production)", test.base
			_, err := builder.Build(t.Context(), newSource(t, map[string]string{"apps/api/main.go": program}), req)
			var failed *BuildError
			if err == nil || errors.As(err, &failed) != test.buildError || !errors.Is(err, test.kind) && test.kind != nil {
				t.Errorf("got %v; want a BuildError: %v, kind %v", err, test.buildError, test.kind)
			}
			if !strings.Contains(err.Error(), "apps.api.base") {
				t.Errorf("got %v; want it to name the setting", err)
			}
			if err := builder.Ready(t.Context(), req.Recipe); (err == nil) != test.ready {
				t.Errorf("Ready: %v; want ready: %v", err, test.ready)
			}
		})
	}
	builder, req := &Go{Keychain: hostLogin{host}}, newRequest(t)
	req.Recipe.Base = host + "/os:v1"
	if _, err := builder.Build(t.Context(), newSource(t, map[string]string{"apps/api/main.go": program}), req); err != nil {
		t.Errorf("with a login: %v", err)
	}
	if err := builder.Ready(t.Context(), req.Recipe); err != nil {
		t.Errorf("with a login: %v", err)
	}
}
