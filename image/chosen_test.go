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

// aBase is an index with an image that programs can be put on, of some size, and
// the image.
func aBase(t *testing.T, kind types.MediaType) (v1.ImageIndex, v1.Image) {
	t.Helper()
	img := layered(t, layerOf(t, map[string]string{"etc/base": strings.Repeat("base", 5000), "bin/ls": "ls"}))
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

// TestABaseOfYourOwn: a program that calls others, or wants certificates, has
// them beneath it; and none of that goes over the wire twice.
func TestABaseOfYourOwn(t *testing.T) {
	for _, kind := range []types.MediaType{types.OCIManifestSchema1, types.DockerManifestSchema2} {
		bases, shop := openShelves(t), openShelves(t)
		index, base := aBase(t, kind)
		from := put(t, bases.repository(t, "os"), "v1", index)
		var said bytes.Buffer
		src := source(t, map[string]string{"apps/api/main.go": program})
		req := Request{
			Name: "api", Recipe: release.Recipe{Go: "./apps/api", Base: from.String()},
			Repository: shop.repository(t, "api").String(), Tag: "r1", Log: &said,
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
		if out, err := exec.Command(filepath.Join(root, c.Entrypoint[0])).Output(); err != nil || string(out) != "hello\n" {
			t.Errorf("it says %q, %v", out, err)
		}
		there, err := remote.Index(shop.repository(t, "api").Tag("r1"))
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := there.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if about := manifest.Annotations; about[annotationBase] != from.String() || about[annotationBaseAt] != digestOf(t, base) {
			t.Errorf("the index does not say what base it was: %v", about)
		}
		if !strings.Contains(said.String(), digestOf(t, base)) {
			t.Errorf("the log does not say what base it was: %s", said.String())
		}

		bases.forget()
		shop.forget()
		again, err := new(Go).Build(t.Context(), src, req)
		if err != nil || again.Image != built.Image || again.Bytes != 0 {
			t.Errorf("again: %+v, %v; want %s", again, err, built.Image)
		}
		if got := bases.wasAsked("GET blobs"); got != 1 {
			t.Errorf("of a base that is there, %d blobs were fetched; want its config", got)
		}
	}
}

// TestABaseNextToIt: nothing of it is fetched, and nothing sent.
func TestABaseNextToIt(t *testing.T) {
	s := openShelves(t)
	index, base := aBase(t, types.OCIManifestSchema1)
	from := put(t, s.repository(t, "os"), "v1", index)
	s.forget()
	req := Request{Name: "api", Recipe: release.Recipe{Go: "./apps/api", Base: from.String()}, Repository: s.repository(t, "api").String(), Tag: "r1"}
	built, err := new(Go).Build(t.Context(), source(t, map[string]string{"apps/api/main.go": program}), req)
	if err != nil {
		t.Fatal(err)
	}
	if s.taken != 1 || s.wasAsked("GET blobs") != 1 {
		t.Errorf("%d layers were taken over, and %d blobs fetched; want 1 and the base's config", s.taken, s.wasAsked("GET blobs"))
	}
	if got, want := firstLayer(t, pull(t, built.Image)), firstLayer(t, base); got != want {
		t.Errorf("the first layer is %s, want %s", got, want)
	}
}

// A layer is asked for by its digest, too, and comes from where it is.
func TestALayerOfTheBase(t *testing.T) {
	repository := openShelves(t).repository(t, "os")
	_, base := aBase(t, types.OCIManifestSchema1)
	from := put(t, repository, "v1", base)
	chosen, err := new(Go).choose(t.Context(), release.Recipe{Base: from.String()}, "linux/amd64", false)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := v1.NewHash(firstLayer(t, base))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := onBase{empty.Image, chosen}.LayerByDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	content, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content.Close()
}

// keys are a login for one registry.
type keys struct{ host string }

func (k keys) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if r.RegistryStr() == k.host {
		return &authn.Basic{Username: "x", Password: "secret"}, nil
	}
	return authn.Anonymous, nil
}

func TestBasesThatCannotBeUsed(t *testing.T) {
	s := openShelves(t)
	guarded := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="os"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.inner.ServeHTTP(w, r)
	}))
	t.Cleanup(guarded.Close)
	index, _ := aBase(t, types.OCIManifestSchema1)
	os := s.repository(t, "os")
	put(t, os, "v1", index)
	put(t, os, "arm", imageFor(t, "linux/arm64"))
	host := strings.TrimPrefix(guarded.URL, "http://")
	for name, test := range map[string]struct {
		base    string
		keys    authn.Keychain
		verdict bool // on the source
		ready   bool
		kind    error
	}{
		"there is none":        {os.Tag("v9").String(), nil, true, false, nil},
		"it is for others":     {os.Tag("arm").String(), nil, true, false, nil},
		"it is no reference":   {"a b", nil, true, false, nil},
		"it is somebody's":     {host + "/os:v1", keys{"elsewhere"}, false, false, ErrUnauthorized},
		"its registry is away": {"127.0.0.1:1/os:v1", nil, false, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			builder := &Go{Keychain: test.keys}
			req := shop(t)
			req.Name, req.Recipe.Base = "api (production)", test.base
			_, err := builder.Build(t.Context(), source(t, map[string]string{"apps/api/main.go": program}), req)
			var failed *BuildError
			if err == nil || errors.As(err, &failed) != test.verdict || !errors.Is(err, test.kind) && test.kind != nil {
				t.Errorf("got %v; want a verdict: %v, and %v", err, test.verdict, test.kind)
			}
			if !strings.Contains(err.Error(), "apps.api.base") {
				t.Errorf("got %v; want it to name the setting", err)
			}
			if err := builder.Ready(t.Context(), req.Recipe); (err == nil) != test.ready {
				t.Errorf("before anything is built: %v", err)
			}
		})
	}
	builder, req := &Go{Keychain: keys{host}}, shop(t)
	req.Recipe.Base = host + "/os:v1"
	if _, err := builder.Build(t.Context(), source(t, map[string]string{"apps/api/main.go": program}), req); err != nil {
		t.Errorf("with a login: %v", err)
	}
	if err := builder.Ready(t.Context(), req.Recipe); err != nil {
		t.Errorf("with a login: %v", err)
	}
}
