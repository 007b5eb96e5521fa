package buildkit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/image"
	"github.com/microbima/release/image/buildkit"
	"github.com/microbima/release/release"
)

// The same content gives the same image for any revision, folder, day, umask and
// BuildKit, and with steps from a cache.
func TestBuild_SameContentSameImage(t *testing.T) {
	files := map[string]string{
		"Dockerfile": "FROM base:1\nCOPY . /src\nRUN cat /src/a > /b\nENTRYPOINT [\"/bin/cat\"]\n",
		"a":          "hello", "dir/run": "#!/bin/sh\n", "link": "-> a",
	}
	host := newRegistry(t)
	var digests []string
	for i := range 3 { // the last one finds the cache of the first
		src := newSource(t, files)
		src.Revision.Commit = strings.Repeat(fmt.Sprint(i), 40)
		src.Revision.Time = src.Revision.Time.AddDate(i, 0, 0)
		if i == 1 {
			old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
			for path, mode := range map[string]os.FileMode{"a": 0o600, "dir": 0o700, "dir/run": 0o700} {
				if err := errors.Join(os.Chmod(filepath.Join(src.Dir, path), mode), os.Chtimes(filepath.Join(src.Dir, path), old, old)); err != nil {
					t.Fatal(err)
				}
			}
			writeFile(t, src.Dir, ".git/HEAD", "ref: refs/heads/main")
			writeFile(t, src.Dir, "dir/.git", "gitdir: elsewhere")
		}
		req, out := newRequest(t, fmt.Sprintf("%s/%d", host, i%2))
		built := build(t, startBuildkitd(t, "").newBuilder(t), src, req)
		if imported := strings.Contains(out.String(), "importing cache manifest"); imported != (i == 2) {
			t.Errorf("build %d uses a cache: %v", i, imported)
		}
		digests = append(digests, built.Image.Digest())
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		t.Errorf("the digests are %q", digests)
	}
}

// The revision is in the index and its attestation, and not in the image.
func TestBuild_AnnotationsAndProvenance(t *testing.T) {
	src := newSource(t, map[string]string{"Dockerfile": "FROM base:1\nARG WORD\nARG DEFAULT=x\nRUN echo $WORD > /word\n"})
	req, _ := newRequest(t, newRegistry(t))
	req.Recipe.Args = map[string]string{"WORD": "private-word"}
	b := startBuildkitd(t, "").newBuilder(t)
	built := build(t, b, src, req)

	tag, err := name.NewTag(req.Repository + ":" + req.Tag)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"org.opencontainers.image.revision": src.Revision.Commit, "org.opencontainers.image.created": "2026-03-04T05:06:07Z",
		"org.opencontainers.image.source": "https://git.example/shop", "release.recipe": req.Recipe.Hash(),
	} {
		if got := manifest.Annotations[key]; got != want {
			t.Errorf("annotation %s is %q, want %q", key, got, want)
		}
	}
	img, config := pull(t, built.Image)
	if config.Config.Labels["org.opencontainers.image.source"] != "https://git.example/shop" || config.Created.Year() != 1980 {
		t.Errorf("labels %v, created %v", config.Config.Labels, config.Created)
	}
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if all := string(raw) + string(doc); strings.Contains(all, src.Revision.Commit) || strings.Contains(all, "2026-03") {
		t.Errorf("the image names its revision: %s", all)
	}
	p := built.Provenance
	if p == nil || p.Type != "https://slsa.dev/provenance/v1" || p.Started.IsZero() || len(p.Materials) != 1 || !strings.Contains(p.Materials[0].URI, "base@1") {
		t.Errorf("provenance %+v", p)
	}
	attested := readAttestation(t, index)
	if !strings.Contains(attested, src.Revision.Commit) || !strings.Contains(attested, "https://git.example/shop") {
		t.Errorf("the attestation does not name the revision: %s", attested)
	}
	if strings.Contains(attested, "private-word") {
		t.Errorf("the attestation contains a build argument: %s", attested)
	}
	if built.Bytes < 1e6 {
		t.Errorf("%d bytes were pushed to an empty registry", built.Bytes)
	}
	writeFile(t, src.Dir, "more", "more")
	if err := os.WriteFile(filepath.Join(src.Dir, "Dockerfile"), []byte("FROM base:1\nARG WORD\nARG DEFAULT=x\nRUN echo $WORD > /word\nCOPY more /more\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	req.Tag = "v2"
	if again := build(t, b, src, req); again.Bytes > 100e3 || again.Bytes < 100 {
		t.Errorf("%d bytes were pushed for one more file, %d before", again.Bytes, built.Bytes)
	}
}

func pull(t *testing.T, ref release.Image) (v1.Image, *v1.ConfigFile) {
	t.Helper()
	parsed, err := name.NewDigest(string(ref))
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(parsed)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return img, config
}

// readAttestation returns BuildKit's attestation of an image as JSON.
func readAttestation(t *testing.T, index v1.ImageIndex) string {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		if d.Annotations["vnd.docker.reference.type"] != "attestation-manifest" {
			continue
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatal(layers, err)
		}
		return readLayer(t, layers[0])
	}
	t.Fatal("there is no attestation")
	return ""
}

// buildUntilPermanent returns the error of a build. It retries other errors than a
// BuildError, as the worker does: BuildKit fails with "unsupported offset" when it
// resumes a copy that an earlier build left unfinished.
func buildUntilPermanent(t *testing.T, b *buildkit.Builder, src image.Source, req image.Request) error {
	t.Helper()
	for attempt := 1; ; attempt++ {
		_, err := b.Build(t.Context(), src, req)
		var failed *image.BuildError
		if err == nil || errors.As(err, &failed) || attempt == 3 {
			return err
		}
		t.Logf("attempt %d: %v", attempt, err)
	}
}

// An invalid source is a BuildError, with a reason for the author of the Dockerfile.
func TestBuild_InvalidSource(t *testing.T) {
	host := newRegistry(t)
	pushArmIndex(t, host+"/arm:1")
	b := startBuildkitd(t, "").newBuilder(t)
	for title, test := range map[string]struct {
		files  map[string]string
		recipe release.Recipe
		want   []string
	}{
		"no Dockerfile":                        {map[string]string{"a": ""}, release.Recipe{Dockerfile: "infra/Dockerfile"}, []string{"infra/Dockerfile: there is no such file in the repository"}},
		"a folder":                             {map[string]string{"Dockerfile/a": ""}, release.Recipe{}, []string{"Dockerfile: not a file"}},
		"a link out of the repository":         {map[string]string{"Dockerfile": "-> /etc/passwd"}, release.Recipe{}, []string{"Dockerfile leads out of the repository"}},
		"a link in the path":                   {map[string]string{"up": "-> ../..", "a": ""}, release.Recipe{Dockerfile: "up/etc/passwd"}, []string{"up/etc/passwd leads out of the repository"}},
		"an ignore file out of the repository": {map[string]string{"Dockerfile": "FROM base:1", "x": "-> /etc/passwd"}, release.Recipe{Ignorefile: "x"}, []string{"x leads out of the repository"}},
		"no ignore file":                       {map[string]string{"Dockerfile": "FROM base:1"}, release.Recipe{Ignorefile: "no/ignore"}, []string{"no/ignore: there is no such file"}},
		"a bad ignore file":                    {map[string]string{"Dockerfile": "FROM base:1\nCOPY . /x", "x": "[\n"}, release.Recipe{Ignorefile: "x"}, []string{"x: ", "["}},
		"an empty Dockerfile":                  {map[string]string{"Dockerfile": "# nothing\n"}, release.Recipe{}, []string{"Dockerfile: it has no instructions"}},
		"a syntax error":                       {map[string]string{"infra/api/Dockerfile": "FROM base:1\n\nRUNN x\n"}, release.Recipe{Dockerfile: "infra/api/Dockerfile"}, []string{"infra/api/Dockerfile:3: unknown instruction: RUNN"}},
		"a step that fails":                    {map[string]string{"Dockerfile": "FROM base:1\nRUN echo so far >&2; echo it broke >&2; exit 3\n"}, release.Recipe{}, []string{"Dockerfile:2: RUN echo so far", "ended with exit code 3: it broke"}},
		"a missing file":                       {map[string]string{"Dockerfile": "FROM base:1\nCOPY nope /x\n"}, release.Recipe{}, []string{`Dockerfile:2: COPY nope /x: there is no "/nope" to copy`, ".dockerignore"}},
		"no base":                              {map[string]string{"Dockerfile": "FROM base:1 AS a\n\nFROM " + host + "/nope:1\n"}, release.Recipe{}, []string{"Dockerfile:3: there is no image " + host + "/nope:1: check its name and tag"}},
		"no build target":                      {map[string]string{"Dockerfile": "FROM base:1 AS one\nFROM base:1 AS two\n"}, release.Recipe{BuildTarget: "three"}, []string{"Dockerfile has no build target three: it has one, two"}},
		"a secret not named":                   {map[string]string{"Dockerfile": "FROM base:1\nRUN --mount=type=secret,id=KEY,required=true cat /run/secrets/KEY\n"}, release.Recipe{}, []string{"Dockerfile:2: RUN --mount=type=secret", "secret KEY: not found"}},
		"no base for that platform":            {map[string]string{"Dockerfile": "FROM " + host + "/arm:1\n"}, release.Recipe{}, []string{"Dockerfile:1: there is no image " + host + "/arm:1 for linux/amd64"}},
		"another platform":                     {map[string]string{"Dockerfile": "FROM arm:1\n"}, release.Recipe{}, []string{"Dockerfile builds an image for linux/arm64, but linux/amd64 is needed"}},
	} {
		t.Run(title, func(t *testing.T) {
			if title == "another platform" {
				b.Layouts["arm:1"] = makeArmBase(t)
			}
			src := newSource(t, test.files)
			req, _ := newRequest(t, host)
			req.Tag = ""
			if test.recipe.Dockerfile == "" {
				test.recipe.Dockerfile = "Dockerfile"
			}
			req.Recipe = test.recipe
			failed := wantBuildError(t, buildUntilPermanent(t, b, src, req))
			for _, want := range test.want {
				if !strings.Contains(failed.Reason, want) {
					t.Errorf("the reason is %q, want %q in it", failed.Reason, want)
				}
			}
			if strings.Contains(failed.Reason, "\n") || strings.Contains(failed.Reason, src.Dir) {
				t.Errorf("the reason is %q", failed.Reason)
			}
			if title == "a step that fails" && failed.Output != "so far\nit broke\n" {
				t.Errorf("the output is %q", failed.Output)
			}
		})
	}
}

// Errors that a retry may get past are no BuildErrors.
func TestBuild_TransientErrors(t *testing.T) {
	d := startBuildkitd(t, "")
	for title, test := range map[string]struct {
		dockerfile, address, want string
	}{
		"the base's registry is unreachable": {"FROM 127.0.0.1:1/base:1\n", d.address, "can't be looked up"},
		"a step finds the disk full":         {"FROM base:1\nRUN echo write: No space left on device >&2; exit 1\n", d.address, "prune"},
		"a download's server is unreachable": {"FROM scratch\nADD http://127.0.0.1:1/a /a\n", d.address, "Dockerfile: ADD http://127.0.0.1:1/a"},
		"BuildKit is unreachable":            {"FROM base:1\n", "unix:///nowhere/buildkitd.sock", "BuildKit at unix:///nowhere/buildkitd.sock does not answer"},
		"the target registry is unreachable": {"FROM base:1\n", d.address, "127.0.0.1:1"},
	} {
		t.Run(title, func(t *testing.T) {
			host := newRegistry(t)
			if title == "the target registry is unreachable" {
				host = "127.0.0.1:1"
			}
			b := d.newBuilder(t)
			b.Address = test.address
			req, _ := newRequest(t, host)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := b.Build(ctx, newSource(t, map[string]string{"Dockerfile": test.dockerfile}), req)
			var failed *image.BuildError
			if err == nil || errors.As(err, &failed) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %T %v, want %q in it", err, err, test.want)
			}
		})
	}
}

func TestReady(t *testing.T) {
	d := startBuildkitd(t, "")
	b := d.newBuilder(t)
	b.Secrets = map[string]string{"KEY": "x"}
	for title, test := range map[string]struct {
		address string
		recipe  release.Recipe
		want    string // "": ready
	}{
		"ready":               {d.address, release.Recipe{Dockerfile: "Dockerfile", Secrets: []string{"KEY"}}, ""},
		"an unknown secret":   {d.address, release.Recipe{Secrets: []string{"OTHER"}}, "start the worker with --build-secret OTHER and OTHER set in its environment"},
		"another platform":    {d.address, release.Recipe{Platform: "linux/mips64"}, "does not build for linux/mips64, but for linux/amd64"},
		"an invalid platform": {d.address, release.Recipe{Platform: "a/b/c/d"}, `platform "a/b/c/d"`},
		"unreachable":         {"unix:///nowhere/s", release.Recipe{}, "BuildKit at unix:///nowhere/s does not answer"},
		"no address":          {"", release.Recipe{}, "start the worker with --buildkit ADDRESS or BUILDKIT_HOST"},
	} {
		b := &buildkit.Builder{Address: test.address, Secrets: b.Secrets}
		start := time.Now()
		err := b.Ready(t.Context(), test.recipe)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", title, err, test.want)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: Ready took %v", title, took)
		}
	}
}

// pushArmIndex pushes an index with an image for another platform alone.
func pushArmIndex(t *testing.T, ref string) {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: empty.Image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatal(err)
	}
}
