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

// imageFor is an image whose config says what it is for.
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

// put pushes to a tag and returns it.
func put(t *testing.T, repository name.Repository, tag string, what remote.Taggable) name.Tag {
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

// together are images in an index, each for a platform; "" is left out of it.
func together(t *testing.T, platforms ...string) (v1.ImageIndex, map[string]string) {
	t.Helper()
	index, digests := v1.ImageIndex(empty.Index), map[string]string{}
	for _, platform := range platforms {
		said, real, _ := strings.Cut(platform, "=") // as the index has it, and as the config
		img := imageFor(t, strings.TrimPrefix(real+said, "="))
		add := mutate.IndexAddendum{Add: img}
		if said != "" {
			add.Platform, _ = v1.ParsePlatform(said)
		}
		index, digests[platform] = mutate.AppendManifests(index, add), digestOf(t, img)
	}
	return index, digests
}

// TestPin: machines run the image for their platform. The digest of the index is
// another one, and of another platform's they can't.
func TestPin(t *testing.T) {
	repository := openShelves(t).repository(t, "shop")
	for name, test := range map[string]struct {
		have []string // platform in the index; =platform: only in the config
		want string
		ask  string
		kind error
	}{
		"one of two":                         {[]string{"linux/arm64", "linux/amd64"}, "linux/amd64", "linux/amd64", nil},
		"the plainest of an OS":              {[]string{"linux/amd64/v3", "linux/amd64"}, "linux/amd64", "linux/amd64", nil},
		"a variant, if there is no other":    {[]string{"linux/amd64/v3"}, "linux/amd64/v3", "linux/amd64", nil},
		"a variant that goes without saying": {[]string{"linux/arm/v7", "linux/arm64/v8"}, "linux/arm64/v8", "linux/arm64", nil},
		"asked for by its variant":           {[]string{"linux/arm/v6", "linux/arm64"}, "linux/arm64", "linux/arm64/v8", nil},
		"only its config says so":            {[]string{"=linux/arm64", "=linux/amd64"}, "=linux/amd64", "linux/amd64", nil},
		"attested by BuildKit":               {[]string{"unknown/unknown", "linux/amd64"}, "linux/amd64", "linux/amd64", nil},
		"for others":                         {[]string{"linux/arm64", "unknown/unknown", "windows/amd64"}, "", "linux/amd64", ErrPlatform},
		"for another variant":                {[]string{"linux/arm/v6"}, "", "linux/arm/v7", ErrPlatform},
		"for none":                           {nil, "", "linux/amd64", ErrPlatform},
	} {
		t.Run(name, func(t *testing.T) {
			index, digests := together(t, test.have...)
			ref := put(t, repository, "v1", index)
			got, err := new(Registry).Pin(t.Context(), ref.String(), test.ask)
			if !errors.Is(err, test.kind) || got.Digest() != digests[test.want] {
				t.Fatalf("got %s, %v; want %s of %v", got, err, digests[test.want], digests)
			}
			for _, p := range test.have {
				if test.kind != nil && strings.Contains(err.Error(), p) != (p != "unknown/unknown") {
					t.Errorf("got %v; want it to say for what people can run it; there is %s", err, p)
				}
			}
			again, err := new(Registry).Pin(t.Context(), repository.Digest(digestOf(t, index)).String(), test.ask)
			if again != got || !errors.Is(err, test.kind) {
				t.Errorf("by the index's digest: got %s, %v; want %s", again, err, got)
			}
		})
	}
}

func TestPinAPlainImage(t *testing.T) {
	repository := openShelves(t).repository(t, "shop")
	img := imageFor(t, "linux/amd64")
	ref, want := put(t, repository, "v1", img).String(), release.Image(repository.String()+"@"+digestOf(t, img))
	got, err := new(Registry).Pin(t.Context(), ref, "linux/amd64")
	if got != want || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if _, err := new(Registry).Pin(t.Context(), ref, "linux/arm64"); !errors.Is(err, ErrPlatform) || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("for another platform: %v", err)
	}
	laptop := &Registry{Platform: "linux/amd64"}
	if got, err := laptop.Pin(t.Context(), ref, "linux/arm64"); got != want || err != nil {
		t.Errorf("where machines are of one platform, whatever a recipe says: %s, %v", got, err)
	}
}

// TestWhatIsNoImage: a release stops for what no time will cure, and only then.
func TestWhatIsNoImage(t *testing.T) {
	repository := openShelves(t).repository(t, "shop")
	chart := mutate.ConfigMediaType(empty.Image, "application/vnd.cncf.helm.config.v1+json")
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotImplemented) }))
	t.Cleanup(away.Close)
	for ref, kind := range map[string]error{
		"":                                      ErrReference,
		"a b":                                   ErrReference,
		"UPPER/x":                               ErrReference,
		"shop@sha256:00":                        ErrReference,
		put(t, repository, "c", chart).String(): ErrReference,
		repository.Tag("v9").String():           ErrNotFound,
		repository.String() + "@sha256:" + strings.Repeat("0", 64): ErrNotFound,
		strings.TrimPrefix(away.URL, "http://") + "/shop:v1":       nil,
		"127.0.0.1:1/shop:v1": nil,
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

// attested is an index as BuildKit pushes it: an image and what is said of it.
func attested(t *testing.T, predicateType string, predicate string) (v1.ImageIndex, v1.Image) {
	t.Helper()
	img := imageFor(t, "linux/amd64")
	doc := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":%q,"subject":[],"predicate":%s}`, predicateType, predicate)
	about := func(kind, doc string) mutate.Addendum {
		return mutate.Addendum{Layer: static.NewLayer([]byte(doc), "application/vnd.in-toto+json"), Annotations: map[string]string{"in-toto.io/predicate-type": kind}}
	}
	attestation, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		about("https://spdx.dev/Document", `{"predicateType":"https://spdx.dev/Document"}`), about(predicateType, doc))
	if err != nil {
		t.Fatal(err)
	}
	add := func(index v1.ImageIndex, img v1.Image, platform string, annotations map[string]string) v1.ImageIndex {
		p, _ := v1.ParsePlatform(platform)
		return mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p, Annotations: annotations}})
	}
	says := func(of string) map[string]string {
		return map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of}
	}
	index := add(empty.Index, imageFor(t, "unknown/unknown"), "unknown/unknown", says("sha256:"+strings.Repeat("1", 64)))
	index = add(index, img, "linux/amd64", nil)
	return add(index, attestation, "unknown/unknown", says(digestOf(t, img))), img
}

func TestProvenance(t *testing.T) {
	repository := openShelves(t).repository(t, "shop")
	const v02, v1 = "https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1"
	began, ended := time.Date(2026, 11, 2, 9, 30, 0, 5, time.UTC), time.Date(2026, 11, 2, 9, 31, 0, 0, time.UTC)
	const materials = `[{"uri":"pkg:docker/golang@1.26?platform=linux%2Famd64","digest":{"sha256":"aa","sha1":"bb"}},
		{"uri":"https://x:hunter2@example.com/shop.git#main","digest":{"sha1":"cc"}},{"uri":"https://example.com/none"}]`
	want := &release.Provenance{Builder: "https://ci.example.com/1", Started: began, Finished: ended, Materials: []release.Material{
		{URI: "pkg:docker/golang@1.26?platform=linux%2Famd64", Digest: "sha256:aa"},
		{URI: "https://example.com/shop.git#main", Digest: "sha1:cc"}, {URI: "https://example.com/none"},
	}}
	for kind, predicate := range map[string]string{
		v02: `{"builder":{"id":"https://ci.example.com/1"},"materials":` + materials + `,"invocation":{"parameters":{"x":[1]}},
			"metadata":{"buildStartedOn":"2026-11-02T09:30:00.000000005Z","buildFinishedOn":"2026-11-02T09:31:00Z"}}`,
		v1: `{"buildDefinition":{"buildType":"x","resolvedDependencies":` + materials + `},
			"runDetails":{"builder":{"id":"https://ci.example.com/1"},"metadata":{"startedOn":"2026-11-02T09:30:00.000000005Z","finishedOn":"2026-11-02T09:31:00Z"}}}`,
	} {
		index, img := attested(t, kind, predicate)
		got, err := ReadIndex(t.Context(), put(t, repository, "v1", index), "linux/amd64")
		if err != nil || got.Image.Digest() != digestOf(t, img) || len(got.Notes) > 0 {
			t.Fatalf("%s: got %+v, %v", kind, got, err)
		}
		want.Type = kind
		if has, wants := asJSON(t, got.Provenance), asJSON(t, want); has != wants {
			t.Errorf("%s:\ngot  %s\nwant %s", kind, has, wants)
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

// TestOddProvenance: what is said of an image does not keep it from running.
func TestOddProvenance(t *testing.T) {
	repository := openShelves(t).repository(t, "shop")
	many := strings.TrimSuffix(strings.Repeat(`{"uri":"x"},`, 5000), ",")
	for name, test := range map[string]struct {
		kind, predicate string
		notes           int
		materials       int // -1: there is no provenance
	}{
		"another thing":   {"https://example.com/x", `{}`, 0, -1},
		"no time":         {"https://slsa.dev/provenance/v1", `{"runDetails":{"metadata":{"startedOn":"yesterday"}}}`, 1, -1},
		"as good as none": {"https://slsa.dev/provenance/v1", `{}`, 0, 0},
		"far too long":    {"https://slsa.dev/provenance/v0.2", `{"materials":[` + many + `]}`, 0, maxMaterials},
	} {
		index, img := attested(t, test.kind, test.predicate)
		got, err := ReadIndex(t.Context(), put(t, repository, "v1", index), "linux/amd64")
		materials := -1
		if got.Provenance != nil {
			materials = len(got.Provenance.Materials)
		}
		if err != nil || got.Image.Digest() != digestOf(t, img) || len(got.Notes) != test.notes || materials != test.materials {
			t.Errorf("%s: got %+v with %d materials, %v", name, got, materials, err)
		}
	}
}

// TestTheIndexSaysWhatItIsOf, and the image does not: it is the same at the next
// revision, where nothing of it has changed.
func TestTheIndexSaysWhatItIsOf(t *testing.T) {
	s := openShelves(t)
	repository := s.repository(t, "shop")
	src := source(t, map[string]string{"apps/api/main.go": program})
	src.Revision.Time = time.Date(2026, 11, 2, 10, 30, 0, 0, time.FixedZone("", 3600))
	req := Request{
		Name: "api", Recipe: release.Recipe{Go: "./apps/api"}, Repository: repository.String(),
		Tag: "r1", Origin: "https://x:hunter2@example.com/shop.git?token=hunter2",
	}
	first, err := new(Go).Build(t.Context(), src, req)
	if err != nil {
		t.Fatal(err)
	}
	there, err := remote.Index(repository.Tag("r1"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := there.IndexManifest()
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
	raw, err := there.RawManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != first.Image.Digest() {
		t.Errorf("the index is %s, %v; want it to lead to %s alone", raw, err, first.Image)
	}
	s.mu.Lock()
	blobs := s.sent
	s.mu.Unlock()
	if first.Bytes < blobs || first.Bytes > blobs+4096 {
		t.Errorf("it pushed %d bytes; the registry got %d of blobs", first.Bytes, blobs)
	}

	s.forget()
	src.Revision.Commit, req.Tag = strings.Repeat("cd", 20), "r2"
	second, err := new(Go).Build(t.Context(), src, req)
	if err != nil || second.Image != first.Image {
		t.Errorf("the next revision of the same content is %s, %v; want %s", second.Image, err, first.Image)
	}
	if second.Bytes == 0 || second.Bytes > 2048 || s.wasAsked("PATCH blobs") > 0 {
		t.Errorf("%d bytes were pushed for what is there; %q", second.Bytes, s.asked)
	}
}

func TestWhereSourcesAreFrom(t *testing.T) {
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
		if got := address(origin); got != want {
			t.Errorf("%q: got %q, want %q", origin, got, want)
		}
	}
}

// TestFind: a build that was pushed just before the worker died is not done
// again, and nothing else is taken for it.
func TestFind(t *testing.T) {
	s := openShelves(t)
	repository := s.repository(t, "shop")
	src := source(t, map[string]string{"apps/api/main.go": program})
	recipe := release.Recipe{Go: "./apps/api"}
	req := Request{Name: "api", Recipe: recipe, Repository: repository.String(), Tag: Tag(src.Revision, recipe)}
	find := func(r *Registry, tag string, revision release.Revision, recipe release.Recipe) (Built, error) {
		return r.Find(t.Context(), req.Repository, tag, revision, recipe)
	}
	if _, err := find(new(Registry), req.Tag, src.Revision, recipe); !errors.Is(err, ErrNotFound) {
		t.Errorf("before it is built: %v", err)
	}
	req.Platform = "linux/arm64" // as on a laptop
	built, err := new(Go).Build(t.Context(), src, req)
	if err != nil {
		t.Fatal(err)
	}
	laptop := &Registry{Platform: req.Platform}
	if got, err := find(laptop, req.Tag, src.Revision, recipe); err != nil || got.Image != built.Image || got.Bytes != 0 {
		t.Errorf("got %+v, %v; want %s", got, err, built.Image)
	}
	other := release.Revision{Commit: src.Revision.Commit[:39] + "0"} // its tag is the same
	put(t, repository, "plain", imageFor(t, req.Platform))
	bare, _ := together(t, req.Platform)
	put(t, repository, "bare", bare)
	for name, test := range map[string]struct {
		registry *Registry
		tag      string
		revision release.Revision
		recipe   release.Recipe
	}{
		"another revision":         {laptop, req.Tag, other, recipe},
		"another recipe":           {laptop, req.Tag, src.Revision, release.Recipe{Go: "./apps/web"}},
		"another platform":         {new(Registry), req.Tag, src.Revision, recipe},
		"another tag":              {laptop, "v9", src.Revision, recipe},
		"an image of unknown make": {laptop, "plain", src.Revision, recipe},
		"an index of unknown make": {laptop, "bare", src.Revision, recipe},
		"no revision":              {laptop, "bare", release.Revision{}, recipe},
	} {
		if got, err := find(test.registry, test.tag, test.revision, test.recipe); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrPlatform) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if err := remote.Delete(repository.Digest(built.Image.Digest())); err != nil {
		t.Fatal(err)
	}
	if got, err := find(laptop, req.Tag, src.Revision, recipe); !errors.Is(err, ErrNotFound) {
		t.Errorf("an index of which only itself is left: got %+v, %v", got, err)
	}
}

// TestCopy: production takes its image from its own repository, and a copy
// within a registry is no upload.
func TestCopy(t *testing.T) {
	s, far := openShelves(t), openShelves(t)
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
	put(t, staging, "v1", img)
	from := release.Image(staging.String() + "@" + digestOf(t, img))
	for name, test := range map[string]struct {
		to    name.Repository
		in    *shelves
		sends bool
	}{
		"next to it":          {production, s, false},
		"to another registry": {far.repository(t, "production"), far, true},
		"to where it is":      {staging, s, false},
	} {
		t.Run(name, func(t *testing.T) {
			test.in.forget()
			want := release.Image(test.to.String() + "@" + digestOf(t, img))
			got, err := new(Registry).Copy(t.Context(), from, test.to.String())
			if err != nil || got.Image != want {
				t.Fatalf("got %+v, %v; want %s", got, err, want)
			}
			if (got.Bytes > size) != test.sends || test.sends != (test.in.sent >= size) || got.Bytes-test.in.sent > 2048 {
				t.Errorf("it says %d bytes were sent; the registry got %d of blobs (layers have %d)", got.Bytes, test.in.sent, size)
			}
			there, err := remote.Image(test.to.Digest(want.Digest()))
			if err != nil {
				t.Fatal(err)
			}
			if layers, err := there.Layers(); err != nil || len(layers) != 2 {
				t.Errorf("layers: %v, %v", layers, err)
			}
			tags, err := remote.List(test.to)
			if err != nil || !slices.Contains(tags, "release-keep-"+want.Digest()[7:19]) {
				t.Errorf("no tag keeps it: %q, %v", tags, err)
			}
			test.in.forget()
			again, err := new(Registry).Copy(t.Context(), from, test.to.String())
			if err != nil || again.Image != want || again.Bytes != 0 || len(test.in.asked) > 1 {
				t.Errorf("again: got %+v, %v, asked %q", again, err, test.in.asked)
			}
		})
	}
}

func TestCopyWhereNothingIsTakenOver(t *testing.T) {
	s := openShelves(t)
	s.noMount = true
	img := imageFor(t, "linux/amd64")
	put(t, s.repository(t, "staging"), "v1", img)
	s.forget()
	got, err := new(Registry).Copy(t.Context(), release.Image(s.repository(t, "staging").String()+"@"+digestOf(t, img)), s.repository(t, "production").String())
	if err != nil || got.Bytes < s.sent || s.sent == 0 {
		t.Errorf("got %+v, %v; the registry got %d bytes", got, err, s.sent)
	}
}

func TestWhatCannotBeCopied(t *testing.T) {
	s := openShelves(t)
	shut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/v2/" {
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(shut.Close)
	img := imageFor(t, "linux/amd64")
	put(t, s.repository(t, "staging"), "v1", img)
	here := s.repository(t, "staging").String()
	for name, test := range map[string]struct {
		from, to string
		kind     error
	}{
		"it is gone":       {here + "@sha256:" + strings.Repeat("0", 64), s.repository(t, "production").String(), ErrNotFound},
		"no digest":        {here + ":v1", s.repository(t, "production").String(), ErrReference},
		"no repository":    {here + "@" + digestOf(t, img), "a b", ErrReference},
		"may not be there": {here + "@" + digestOf(t, img), strings.TrimPrefix(shut.URL, "http://") + "/production", ErrUnauthorized},
	} {
		got, err := new(Registry).Copy(t.Context(), release.Image(test.from), test.to)
		if !errors.Is(err, test.kind) || got.Image != "" {
			t.Errorf("%s: got %+v, %v; want %v", name, got, err, test.kind)
		}
	}
}

// TestAPushThatIsRefused: whoever reads the release's report has to know which
// token lacks what.
func TestAPushThatIsRefused(t *testing.T) {
	shut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(shut.Close)
	req := Request{Name: "api", Recipe: release.Recipe{Go: "./apps/api"}, Repository: strings.TrimPrefix(shut.URL, "http://") + "/shop", Tag: "r1"}
	_, err := new(Go).Build(t.Context(), source(t, map[string]string{"apps/api/main.go": program}), req)
	if !errors.Is(err, ErrUnauthorized) || !strings.Contains(err.Error(), "token that may push to "+req.Repository) {
		t.Errorf("got %v", err)
	}
}

// TestBytesAreThoseThatWereTaken: what a registry refuses is sent again, and is
// not twice as much.
func TestBytesAreThoseThatWereTaken(t *testing.T) {
	out := outgoing{way: remote.DefaultTransport}
	for status, want := range map[int]int64{http.StatusServiceUnavailable: 0, http.StatusCreated: 5} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		before := out.bytes.Load()
		req, err := http.NewRequest(http.MethodPatch, srv.URL, strings.NewReader("12345"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := out.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		srv.Close()
		if got := out.bytes.Load() - before; got != want {
			t.Errorf("%d: got %d bytes, want %d", status, got, want)
		}
	}
}
