package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/microbima/release/release"
)

// imageFor returns an image whose config names a platform.
func imageFor(t *testing.T, platform string) v1.Image {
	t.Helper()
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(4096, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// pushTag pushes to a tag and returns it.
func pushTag(t *testing.T, repository name.Repository, tag string, what remote.Taggable) name.Tag {
	t.Helper()
	ref := repository.Tag(tag)
	if err := remote.Push(ref, what); err != nil {
		t.Fatal(err)
	}
	return ref
}

func digestOf(t *testing.T, what interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	digest, err := what.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// indexFor returns an index with an image for each platform, and the digests of the
// images. A platform P is in the index and in the image's config; =P is in the config
// only.
func indexFor(t *testing.T, platforms ...string) (v1.ImageIndex, map[string]string) {
	t.Helper()
	index, digests := v1.ImageIndex(empty.Index), map[string]string{}
	for _, platform := range platforms {
		inIndex, inConfig, _ := strings.Cut(platform, "=")
		img := imageFor(t, inConfig+inIndex)
		add := mutate.IndexAddendum{Add: img}
		if inIndex != "" {
			add.Platform, _ = v1.ParsePlatform(inIndex)
		}
		index, digests[platform] = mutate.AppendManifests(index, add), digestOf(t, img)
	}
	return index, digests
}

// Pin returns the digest of the image for the machine's platform, not that of the
// index or of another platform's image.
func TestPin_Index(t *testing.T) {
	repository := newFakeRegistry(t).repository(t, "shop")
	for name, test := range map[string]struct {
		have     []string // arguments of indexFor
		want     string
		platform string
		kind     error
	}{
		"two architectures":            {[]string{"linux/arm64", "linux/amd64"}, "linux/amd64", "linux/amd64", nil},
		"no variant is preferred":      {[]string{"linux/amd64/v3", "linux/amd64"}, "linux/amd64", "linux/amd64", nil},
		"only a variant":               {[]string{"linux/amd64/v3"}, "linux/amd64/v3", "linux/amd64", nil},
		"the default variant":          {[]string{"linux/arm/v7", "linux/arm64/v8"}, "linux/arm64/v8", "linux/arm64", nil},
		"default variant is asked for": {[]string{"linux/arm/v6", "linux/arm64"}, "linux/arm64", "linux/arm64/v8", nil},
		"platform only in the config":  {[]string{"=linux/arm64", "=linux/amd64"}, "=linux/amd64", "linux/amd64", nil},
		"attested by BuildKit":         {[]string{"unknown/unknown", "linux/amd64"}, "linux/amd64", "linux/amd64", nil},
		"only other platforms":         {[]string{"linux/arm64", "unknown/unknown", "windows/amd64"}, "", "linux/amd64", ErrPlatform},
		"only another variant":         {[]string{"linux/arm/v6"}, "", "linux/arm/v7", ErrPlatform},
		"empty index":                  {nil, "", "linux/amd64", ErrPlatform},
	} {
		t.Run(name, func(t *testing.T) {
			index, digests := indexFor(t, test.have...)
			ref := pushTag(t, repository, "v1", index)
			got, err := new(Registry).Pin(t.Context(), ref.String(), test.platform)
			if !errors.Is(err, test.kind) || got.Digest() != digests[test.want] {
				t.Fatalf("got %s, %v; want %s of %v", got, err, digests[test.want], digests)
			}
			for _, p := range test.have {
				if test.kind != nil && strings.Contains(err.Error(), p) != (p != "unknown/unknown") {
					t.Errorf("got %v; want it to list the platform %s", err, p)
				}
			}
			again, err := new(Registry).Pin(t.Context(), repository.Digest(digestOf(t, index)).String(), test.platform)
			if again != got || !errors.Is(err, test.kind) {
				t.Errorf("by the index's digest: got %s, %v; want %s", again, err, got)
			}
		})
	}
}

func TestPin_PlainImage(t *testing.T) {
	repository := newFakeRegistry(t).repository(t, "shop")
	img := imageFor(t, "linux/amd64")
	ref, want := pushTag(t, repository, "v1", img).String(), release.Image(repository.String()+"@"+digestOf(t, img))
	got, err := new(Registry).Pin(t.Context(), ref, "linux/amd64")
	if got != want || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if _, err := new(Registry).Pin(t.Context(), ref, "linux/arm64"); !errors.Is(err, ErrPlatform) || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("for another platform: %v", err)
	}
	local := &Registry{Platform: "linux/amd64"}
	if got, err := local.Pin(t.Context(), ref, "linux/arm64"); got != want || err != nil {
		t.Errorf("the registry's platform replaces the caller's: got %s, %v", got, err)
	}
}

// Pin returns an error of a permanent kind only for permanent errors.
func TestPin_Errors(t *testing.T) {
	repository := newFakeRegistry(t).repository(t, "shop")
	chart := mutate.ConfigMediaType(empty.Image, "application/vnd.cncf.helm.config.v1+json")
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotImplemented) }))
	t.Cleanup(failing.Close)
	for ref, kind := range map[string]error{
		"":               ErrReference,
		"a b":            ErrReference,
		"UPPER/x":        ErrReference,
		"shop@sha256:00": ErrReference,
		pushTag(t, repository, "c", chart).String():                ErrReference,
		repository.Tag("v9").String():                              ErrNotFound,
		repository.String() + "@sha256:" + strings.Repeat("0", 64): ErrNotFound,
		strings.TrimPrefix(failing.URL, "http://") + "/shop:v1":    nil,
		"127.0.0.1:1/shop:v1":                                      nil,
	} {
		got, err := new(Registry).Pin(t.Context(), ref, "linux/amd64")
		if err == nil || got != "" {
			t.Errorf("%q: got %s, %v", ref, got, err)
		}
		for _, k := range []error{ErrNotFound, ErrUnauthorized, ErrReference, ErrPlatform} {
			if errors.Is(err, k) != (k == kind) {
				t.Errorf("%q: got %v, want %v", ref, err, kind)
			}
		}
	}
}

// newAttestedIndex returns an index as BuildKit pushes it, with an image and
// attestations, and the image.
func newAttestedIndex(t *testing.T, predicateType string, predicate string) (v1.ImageIndex, v1.Image) {
	t.Helper()
	img := imageFor(t, "linux/amd64")
	doc := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":%q,"subject":[],"predicate":%s}`, predicateType, predicate)
	statement := func(kind, doc string) mutate.Addendum {
		return mutate.Addendum{Layer: static.NewLayer([]byte(doc), "application/vnd.in-toto+json"), Annotations: map[string]string{"in-toto.io/predicate-type": kind}}
	}
	attestation, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		statement("https://spdx.dev/Document", `{"predicateType":"https://spdx.dev/Document"}`), statement(predicateType, doc))
	if err != nil {
		t.Fatal(err)
	}
	add := func(index v1.ImageIndex, img v1.Image, platform string, annotations map[string]string) v1.ImageIndex {
		p, _ := v1.ParsePlatform(platform)
		return mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p, Annotations: annotations}})
	}
	attests := func(of string) map[string]string {
		return map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of}
	}
	index := add(empty.Index, imageFor(t, "unknown/unknown"), "unknown/unknown", attests("sha256:"+strings.Repeat("1", 64)))
	index = add(index, img, "linux/amd64", nil)
	return add(index, attestation, "unknown/unknown", attests(digestOf(t, img))), img
}

func TestReadIndex_Provenance(t *testing.T) {
	repository := newFakeRegistry(t).repository(t, "shop")
	const v02, v1 = "https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1"
	started, finished := time.Date(2026, 11, 2, 9, 30, 0, 5, time.UTC), time.Date(2026, 11, 2, 9, 31, 0, 0, time.UTC)
	const materials = `[{"uri":"pkg:docker/golang@1.26?platform=linux%2Famd64","digest":{"sha256":"aa","sha1":"bb"}},
		{"uri":"https://x:hunter2@example.com/shop.git#main","digest":{"sha1":"cc"}},{"uri":"https://example.com/none"}]`
	want := &release.Provenance{Builder: "https://ci.example.com/1", Started: started, Finished: finished, Materials: []release.Material{
		{URI: "pkg:docker/golang@1.26?platform=linux%2Famd64", Digest: "sha256:aa"},
		{URI: "https://example.com/shop.git#main", Digest: "sha1:cc"}, {URI: "https://example.com/none"},
	}}
	for kind, predicate := range map[string]string{
		v02: `{"builder":{"id":"https://ci.example.com/1"},"materials":` + materials + `,"invocation":{"parameters":{"x":[1]}},
			"metadata":{"buildStartedOn":"2026-11-02T09:30:00.000000005Z","buildFinishedOn":"2026-11-02T09:31:00Z"}}`,
		v1: `{"buildDefinition":{"buildType":"x","resolvedDependencies":` + materials + `},
			"runDetails":{"builder":{"id":"https://ci.example.com/1"},"metadata":{"startedOn":"2026-11-02T09:30:00.000000005Z","finishedOn":"2026-11-02T09:31:00Z"}}}`,
	} {
		index, img := newAttestedIndex(t, kind, predicate)
		got, err := ReadIndex(t.Context(), pushTag(t, repository, "v1", index), "linux/amd64")
		if err != nil || got.Image.Digest() != digestOf(t, img) || len(got.Notes) > 0 {
			t.Fatalf("%s: got %+v, %v", kind, got, err)
		}
		want.Type = kind
		if gotJSON, wantJSON := asJSON(t, got.Provenance), asJSON(t, want); gotJSON != wantJSON {
			t.Errorf("%s:\ngot  %s\nwant %s", kind, gotJSON, wantJSON)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	doc, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// An attestation that can't be parsed is no reason to refuse the image.
func TestReadIndex_UnusualProvenance(t *testing.T) {
	repository := newFakeRegistry(t).repository(t, "shop")
	many := strings.TrimSuffix(strings.Repeat(`{"uri":"x"},`, 5000), ",")
	for name, test := range map[string]struct {
		kind, predicate string
		notes           int
		materials       int // -1: there is no provenance
	}{
		"other predicate": {"https://example.com/x", `{}`, 0, -1},
		"invalid time":    {"https://slsa.dev/provenance/v1", `{"runDetails":{"metadata":{"startedOn":"yesterday"}}}`, 1, -1},
		"empty predicate": {"https://slsa.dev/provenance/v1", `{}`, 0, 0},
		"many materials":  {"https://slsa.dev/provenance/v0.2", `{"materials":[` + many + `]}`, 0, maxMaterials},
	} {
		index, img := newAttestedIndex(t, test.kind, test.predicate)
		got, err := ReadIndex(t.Context(), pushTag(t, repository, "v1", index), "linux/amd64")
		materials := -1
		if got.Provenance != nil {
			materials = len(got.Provenance.Materials)
		}
		if err != nil || got.Image.Digest() != digestOf(t, img) || len(got.Notes) != test.notes || materials != test.materials {
			t.Errorf("%s: got %+v with %d materials, %v", name, got, materials, err)
		}
	}
}

// The index names the revision and the image does not, so that the next revision of
// the same content has the same image.
func TestGoBuild_IndexAnnotations(t *testing.T) {
	s := newFakeRegistry(t)
	repository := s.repository(t, "shop")
	src := newSource(t, map[string]string{"apps/api/main.go": program})
	src.Revision.Time = time.Date(2026, 11, 2, 10, 30, 0, 0, time.FixedZone("", 3600))
	req := Request{
		Name: "api", Recipe: release.Recipe{Go: "./apps/api"}, Repository: repository.String(),
		Tag: "r1", Origin: "https://x:hunter2@example.com/shop.git?token=hunter2",
	}
	first, err := new(Go).Build(t.Context(), src, req)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(repository.Tag("r1"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"org.opencontainers.image.revision": src.Revision.Commit, "org.opencontainers.image.source": "https://example.com/shop.git",
		"org.opencontainers.image.created": "2026-11-02T09:30:00Z", "release.recipe": req.Recipe.Hash(),
	}
	if got := asJSON(t, manifest.Annotations); got != asJSON(t, want) {
		t.Errorf("annotations:\ngot  %s\nwant %s", got, asJSON(t, want))
	}
	raw, err := index.RawManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != first.Image.Digest() {
		t.Errorf("the index is %s, %v; want %s as its only image", raw, err, first.Image)
	}
	s.mu.Lock()
	blobs := s.received
	s.mu.Unlock()
	if first.Bytes < blobs || first.Bytes > blobs+4096 {
		t.Errorf("Bytes is %d; the registry received %d bytes of blobs", first.Bytes, blobs)
	}

	s.resetCounts()
	src.Revision.Commit, req.Tag = strings.Repeat("cd", 20), "r2"
	second, err := new(Go).Build(t.Context(), src, req)
	if err != nil || second.Image != first.Image {
		t.Errorf("the next revision of the same content is %s, %v; want %s", second.Image, err, first.Image)
	}
	if second.Bytes == 0 || second.Bytes > 2048 || s.requestCount("PATCH blobs") > 0 {
		t.Errorf("%d bytes were pushed although the registry has the image; requests: %q", second.Bytes, s.requests)
	}
}

func TestPublicAddress(t *testing.T) {
	for origin, want := range map[string]string{
		"https://example.com/shop.git":              "https://example.com/shop.git",
		"https://oauth2:hunter2@example.com/shop":   "https://example.com/shop",
		"ssh://git@example.com:22/shop.git#hunter2": "ssh://example.com:22/shop.git",
		"git@example.com:team/shop.git":             "ssh://example.com/team/shop.git",
		"example.com:team/shop.git":                 "ssh://example.com/team/shop.git",
		"git://example.com/shop":                    "git://example.com/shop",
		"/srv/git/shop":                             "",
		"../shop":                                   "",
		"./a:b":                                     "",
		`C:\shop`:                                   "",
		"file:///srv/git/shop":                      "",
		"file:/srv/git/shop.git":                    "",
		"":                                          "",
	} {
		if got := publicAddress(origin); got != want {
			t.Errorf("%q: got %q, want %q", origin, got, want)
		}
	}
}

// Find returns a build that was pushed just before the worker died, and never another
// image.
func TestFind(t *testing.T) {
	s := newFakeRegistry(t)
	repository := s.repository(t, "shop")
	src := newSource(t, map[string]string{"apps/api/main.go": program})
	recipe := release.Recipe{Go: "./apps/api"}
	req := Request{Name: "api", Recipe: recipe, Repository: repository.String(), Tag: Tag(src.Revision, recipe)}
	find := func(r *Registry, tag string, revision release.Revision, recipe release.Recipe) (Built, error) {
		return r.Find(t.Context(), req.Repository, tag, revision, recipe)
	}
	if _, err := find(new(Registry), req.Tag, src.Revision, recipe); !errors.Is(err, ErrNotFound) {
		t.Errorf("before it is built: %v", err)
	}
	req.Platform = "linux/arm64" // where machines are local processes
	built, err := new(Go).Build(t.Context(), src, req)
	if err != nil {
		t.Fatal(err)
	}
	local := &Registry{Platform: req.Platform}
	if got, err := find(local, req.Tag, src.Revision, recipe); err != nil || got.Image != built.Image || got.Bytes != 0 {
		t.Errorf("got %+v, %v; want %s", got, err, built.Image)
	}
	other := release.Revision{Commit: src.Revision.Commit[:39] + "0"} // its tag is the same
	pushTag(t, repository, "plain", imageFor(t, req.Platform))
	bare, _ := indexFor(t, req.Platform)
	pushTag(t, repository, "bare", bare)
	for name, test := range map[string]struct {
		registry *Registry
		tag      string
		revision release.Revision
		recipe   release.Recipe
	}{
		"another revision":             {local, req.Tag, other, recipe},
		"another recipe":               {local, req.Tag, src.Revision, release.Recipe{Go: "./apps/web"}},
		"another platform":             {new(Registry), req.Tag, src.Revision, recipe},
		"another tag":                  {local, "v9", src.Revision, recipe},
		"an image without annotations": {local, "plain", src.Revision, recipe},
		"an index without annotations": {local, "bare", src.Revision, recipe},
		"no revision":                  {local, "bare", release.Revision{}, recipe},
	} {
		if got, err := find(test.registry, test.tag, test.revision, test.recipe); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrPlatform) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if err := remote.Delete(repository.Digest(built.Image.Digest())); err != nil {
		t.Fatal(err)
	}
	if got, err := find(local, req.Tag, src.Revision, recipe); !errors.Is(err, ErrNotFound) {
		t.Errorf("an index whose image was deleted: got %+v, %v", got, err)
	}
}

// Copy sends bytes only to another registry. Within a registry, blobs are mounted.
func TestCopy(t *testing.T) {
	s, other := newFakeRegistry(t), newFakeRegistry(t)
	staging, production := s.repository(t, "staging"), s.repository(t, "production")
	img := imageFor(t, "linux/amd64")
	size := int64(0)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		n, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		size += n
	}
	pushTag(t, staging, "v1", img)
	from := release.Image(staging.String() + "@" + digestOf(t, img))
	for name, test := range map[string]struct {
		to       name.Repository
		registry *fakeRegistry
		uploads  bool
	}{
		"same registry":    {production, s, false},
		"another registry": {other.repository(t, "production"), other, true},
		"same repository":  {staging, s, false},
	} {
		t.Run(name, func(t *testing.T) {
			test.registry.resetCounts()
			want := release.Image(test.to.String() + "@" + digestOf(t, img))
			got, err := new(Registry).Copy(t.Context(), from, test.to.String())
			if err != nil || got.Image != want {
				t.Fatalf("got %+v, %v; want %s", got, err, want)
			}
			if (got.Bytes > size) != test.uploads || test.uploads != (test.registry.received >= size) || got.Bytes-test.registry.received > 2048 {
				t.Errorf("Bytes is %d; the registry received %d bytes of blobs (layers have %d)", got.Bytes, test.registry.received, size)
			}
			copied, err := remote.Image(test.to.Digest(want.Digest()))
			if err != nil {
				t.Fatal(err)
			}
			if layers, err := copied.Layers(); err != nil || len(layers) != 2 {
				t.Errorf("layers: %v, %v", layers, err)
			}
			tags, err := remote.List(test.to)
			if err != nil || !slices.Contains(tags, "release-keep-"+want.Digest()[7:19]) {
				t.Errorf("the tag of Keep is missing: %q, %v", tags, err)
			}
			test.registry.resetCounts()
			again, err := new(Registry).Copy(t.Context(), from, test.to.String())
			if err != nil || again.Image != want || again.Bytes != 0 || len(test.registry.requests) > 1 {
				t.Errorf("again: got %+v, %v, requests %q", again, err, test.registry.requests)
			}
		})
	}
}

func TestCopy_RegistryWithoutMount(t *testing.T) {
	s := newFakeRegistry(t)
	s.noMount = true
	img := imageFor(t, "linux/amd64")
	pushTag(t, s.repository(t, "staging"), "v1", img)
	s.resetCounts()
	got, err := new(Registry).Copy(t.Context(), release.Image(s.repository(t, "staging").String()+"@"+digestOf(t, img)), s.repository(t, "production").String())
	if err != nil || got.Bytes < s.received || s.received == 0 {
		t.Errorf("got %+v, %v; the registry received %d bytes", got, err, s.received)
	}
}

func TestCopy_Errors(t *testing.T) {
	s := newFakeRegistry(t)
	readOnly := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/v2/" {
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(readOnly.Close)
	img := imageFor(t, "linux/amd64")
	pushTag(t, s.repository(t, "staging"), "v1", img)
	staging := s.repository(t, "staging").String()
	for name, test := range map[string]struct {
		from, to string
		kind     error
	}{
		"deleted image":  {staging + "@sha256:" + strings.Repeat("0", 64), s.repository(t, "production").String(), ErrNotFound},
		"no digest":      {staging + ":v1", s.repository(t, "production").String(), ErrReference},
		"bad repository": {staging + "@" + digestOf(t, img), "a b", ErrReference},
		"refused login":  {staging + "@" + digestOf(t, img), strings.TrimPrefix(readOnly.URL, "http://") + "/production", ErrUnauthorized},
	} {
		got, err := new(Registry).Copy(t.Context(), release.Image(test.from), test.to)
		if !errors.Is(err, test.kind) || got.Image != "" {
			t.Errorf("%s: got %+v, %v; want %v", name, got, err, test.kind)
		}
	}
}

// The error of a refused push says which token must be allowed to push where.
func TestGoBuild_RefusedPush(t *testing.T) {
	readOnly := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(readOnly.Close)
	req := Request{Name: "api", Recipe: release.Recipe{Go: "./apps/api"}, Repository: strings.TrimPrefix(readOnly.URL, "http://") + "/shop", Tag: "r1"}
	_, err := new(Go).Build(t.Context(), newSource(t, map[string]string{"apps/api/main.go": program}), req)
	if !errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), "token that may push to "+req.Repository) {
		t.Errorf("got %v", err)
	}
}

// A refused upload is sent again and must not be counted twice.
func TestCountingTransport_CountsAcceptedBytes(t *testing.T) {
	transport := countingTransport{next: remote.DefaultTransport}
	for status, want := range map[int]int64{http.StatusServiceUnavailable: 0, http.StatusCreated: 5} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		before := transport.bytes.Load()
		req, err := http.NewRequest(http.MethodPatch, srv.URL, strings.NewReader("12345"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		srv.Close()
		if got := transport.bytes.Load() - before; got != want {
			t.Errorf("%d: got %d bytes, want %d", status, got, want)
		}
	}
}
