package workflows_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// A memoryRegistry is a transport to image registries in memory, for every host name.
type memoryRegistry struct {
	http.Handler
	down atomic.Bool
}

func newMemoryRegistry() *memoryRegistry {
	return &memoryRegistry{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
}

// RoundTrip implements http.RoundTripper.
func (s *memoryRegistry) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if s.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		served := req.Clone(req.Context())
		if served.Body == nil {
			served.Body = http.NoBody
		}
		s.ServeHTTP(w, served)
	}
	answer := w.Result()
	answer.Request = req
	return answer, nil
}

// put pushes an index with one image, whose only file has that content.
func (s *memoryRegistry) put(ref, content string, about map[string]string) (v1.Hash, error) {
	img, err := newImage(content)
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return v1.Hash{}, err
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return v1.Hash{}, err
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{
		Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
	})
	return digest, remote.WriteIndex(parsed, mutate.Annotations(index, about).(v1.ImageIndex), remote.WithTransport(s))
}

// newImage returns an image with one file. content is its path and its text, joined by a
// colon.
func newImage(content string) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, err
	}
	path, text, _ := strings.Cut(content, ":")
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	err = w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
	if _, writeErr := io.WriteString(w, text); err == nil {
		err = writeErr
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, static.NewLayer(files.Bytes(), types.OCIUncompressedLayer))
}

// An imageBuilder builds images into a registry in memory. Their content is the recipe
// and the version.
type imageBuilder struct {
	*memoryRegistry
	fails map[string]error // by recipe
	leaks bool             // its images contain a file .env

	mu    sync.Mutex
	built []string
}

func (*imageBuilder) Ready(context.Context, release.Recipe) error { return nil }

func (b *imageBuilder) Build(_ context.Context, src image.Source, req image.Request) (image.Built, error) {
	b.mu.Lock()
	b.built = append(b.built, req.Recipe.String())
	b.mu.Unlock()
	if err := b.fails[req.Recipe.String()]; err != nil {
		return image.Built{}, err
	}
	content := "app:" + builtContent(req.Recipe, src.Revision)
	if b.leaks {
		content = ".env:" + content
	}
	digest, err := b.put(req.Repository+":"+req.Tag, content, map[string]string{
		"org.opencontainers.image.revision": src.Revision.Commit, "release.recipe": req.Recipe.Hash(),
	})
	return image.Built{Image: release.Image(req.Repository + "@" + digest.String())}, err
}

func (b *imageBuilder) Test(_ context.Context, _ image.Source, req image.Request) error {
	return b.fails[req.Recipe.String()]
}

// builtContent returns the content that a recipe gives. v3 has the content of v2: it
// changes only files that are in no image.
func builtContent(r release.Recipe, revision release.Revision) string {
	version := revision.Subject
	if version == "version v3" {
		version = "version v2"
	}
	return r.String() + " at " + version
}

// builtDigest returns the digest of the image that a recipe gives for a version.
func builtDigest(t *testing.T, recipe, version string) string {
	t.Helper()
	img, err := newImage("app:" + recipe + " at version " + version)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// A dockerRepo is a repo whose apps have Dockerfiles.
type dockerRepo struct {
	repo
	more map[string]string // files
	toml string            // of release.toml
}

func (d dockerRepo) files() fstest.MapFS {
	files := d.repo.files()
	toml := string(files["release.toml"].Data)
	toml = strings.NewReplacer("go = \"./api\"\n", "", "go = \"./web\"\n", "").Replace(toml) + d.toml
	files["release.toml"] = &fstest.MapFile{Data: []byte(toml)}
	for _, app := range []string{"api", "web"} {
		files["infra/fly/"+app+"/Dockerfile"] = &fstest.MapFile{Data: []byte("FROM scratch")}
	}
	for path, content := range d.more {
		files[path] = &fstest.MapFile{Data: []byte(content)}
	}
	return files
}

// Files implements activities.Git.
func (d dockerRepo) Files(context.Context, string, string) (fs.FS, error) { return d.files(), nil }

// newDockerScenario returns a scenario with Dockerfiles, registries and a builder.
func newDockerScenario(t *testing.T, d dockerRepo) (*scenario, *imageBuilder) {
	t.Helper()
	s := newScenario(t, d.repo)
	b := &imageBuilder{memoryRegistry: newMemoryRegistry(), fails: map[string]error{}}
	s.act.Git = d
	s.act.Go, s.act.Docker, s.act.Images = nil, b, &image.Registry{Transport: b.memoryRegistry}
	s.onApproval(s.approve)
	return s, b
}

// runningImages returns the images that the machines of an environment run, by app.
func (s *scenario) runningImages(environment string) map[string]string {
	images := map[string]string{}
	for _, app := range []string{"api", "web"} {
		for _, m := range s.sim.Machines("shop-" + environment + "-" + app) {
			images[app] = fmt.Sprintf("%s@%s", m.ImageRef.Repository, m.ImageRef.Digest)
		}
	}
	return images
}

// repeatRelease returns a scenario of another release with the Fly and the registries
// of first.
func repeatRelease(t *testing.T, first *scenario, b *imageBuilder, version string) *scenario {
	t.Helper()
	s := newScenario(t, repo{})
	s.sim, s.act.Fly, s.act.Edge = first.sim, first.act.Fly, first.act.Edge
	s.act.Git, s.act.Go, s.act.Docker, s.act.Images = first.act.Git, first.act.Go, first.act.Docker, first.act.Images
	s.req.Revision = revision(version)
	s.onApproval(s.approve)
	b.built = nil
	return s
}

// Production runs the image that staging verified, copied into its own repository.
func TestImages_BuiltOnceAndPromoted(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s, b := newDockerScenario(t, dockerRepo{})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		slices.Sort(b.built)
		if want := []string{"infra/fly/api/Dockerfile", "infra/fly/web/Dockerfile"}; !slices.Equal(b.built, want) {
			t.Errorf("built %q, want %q", b.built, want)
		}
		for _, environment := range []string{"staging", "production"} {
			want := map[string]string{}
			for _, app := range []string{"api", "web"} {
				want[app] = "shop-" + environment + "-" + app + "@" + builtDigest(t, "infra/fly/"+app+"/Dockerfile", "v1")
			}
			if got := s.runningImages(environment); !maps.Equal(got, want) {
				t.Errorf("%s runs %v, want %v", environment, got, want)
			}
		}
	})
}

// An app with a Dockerfile of its own for production is built before staging changes.
// The plan notes that staging did not verify its image.
func TestImages_ProductionDockerfile(t *testing.T) {
	const own = "infra/fly/web/production/Dockerfile"
	d := dockerRepo{more: map[string]string{own: "FROM scratch"}}
	inVirtualTime(t, func(t *testing.T) {
		s, _ := newDockerScenario(t, d)
		var notes []string
		s.onPhase(release.AwaitingApproval, "production", func() {
			for _, target := range s.status().Plan.Targets {
				notes = append(notes, target.Target.App+": "+strings.Join(target.Notes, "; "))
			}
		})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if got, want := s.runningImages("production")["web"], "shop-production-web@"+builtDigest(t, own, "v1"); got != want {
			t.Errorf("production runs %s, want %s", got, want)
		}
		if got, want := s.runningImages("staging")["web"], "shop-staging-web@"+builtDigest(t, "infra/fly/web/Dockerfile", "v1"); got != want {
			t.Errorf("staging runs %s, want %s", got, want)
		}
		want := []string{"api: ", "web: NOT THE IMAGE THAT staging VERIFIED: this one is made of " + own + ", that one of infra/fly/web/Dockerfile"}
		if !slices.Equal(notes, want) {
			t.Errorf("the plan has the notes %q, want %q", notes, want)
		}
	})
	inVirtualTime(t, func(t *testing.T) {
		s, b := newDockerScenario(t, d)
		b.fails[own] = &image.BuildError{Name: "web/production", Reason: own + ":1: no such base"}
		rep := s.run()
		if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, own+":1: no such base") {
			t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if changed := s.changes(create); len(changed) > 0 {
			t.Errorf("staging was changed, but production cannot be built: %v", changed)
		}
	})
}

// If a revision changes no file of an app, its machines are not changed, although its
// image is built again.
func TestImages_UnchangedApp(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		first, b := newDockerScenario(t, dockerRepo{})
		first.req.Revision = revision("v2")
		first.run()
		s := repeatRelease(t, first, b, "v3")
		before := len(s.sim.Requests())
		if rep := s.run(); rep.Outcome != release.Unchanged {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if len(b.built) != 2 {
			t.Errorf("built %q", b.built)
		}
		for _, r := range s.sim.Requests()[before:] {
			if r.Route == update || r.Route == create {
				t.Errorf("a machine was changed: %s", r.Route)
			}
		}
	})
}

// A second release of a revision finds its images in the registry and builds nothing.
func TestImages_FoundInRegistry(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		first, b := newDockerScenario(t, dockerRepo{})
		first.run()
		s := repeatRelease(t, first, b, "v1")
		rep := s.run()
		if rep.Outcome != release.Unchanged || len(b.built) > 0 {
			t.Errorf("%s, built %q", rep.Outcome, b.built)
		}
		for _, built := range rep.Builds {
			if !built.Reused {
				t.Errorf("the result of %s is not marked as found", built.App)
			}
		}
	})
}

// The digest of a tag at the start of the release is what every environment runs, even
// if the tag moves.
func TestImages_TagMoves(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s, b := newDockerScenario(t, dockerRepo{})
		const ref = "example.com/web:1"
		begin, err := b.put(ref, "app:the first", nil)
		if err != nil {
			t.Fatal(err)
		}
		s.req.Images = map[string]string{"web": ref}
		s.onPhase(release.RollingOut, "staging", func() {
			if _, err := b.put(ref, "app:another", nil); err != nil {
				t.Error(err)
			}
		})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		for _, environment := range []string{"staging", "production"} {
			if got, want := s.runningImages(environment)["web"], "shop-"+environment+"-web@"+begin.String(); got != want {
				t.Errorf("%s runs %s, want %s", environment, got, want)
			}
		}
	})
}

// A problem with an image stops the release before any machine runs it.
func TestImages_StopReleaseBeforeStaging(t *testing.T) {
	const scan = `
[scan]
run = "echo looking at $IMAGE; test -z \"$(echo $IMAGE | grep shop-staging-web)\""
`
	for name, test := range map[string]struct {
		yard   dockerRepo
		before func(*scenario, *imageBuilder)
		cause  string
	}{
		"the scanner fails": {
			yard: dockerRepo{toml: scan}, cause: "scan of web: ",
		},
		"the image contains a secret": {
			before: func(_ *scenario, b *imageBuilder) { b.leaks = true }, cause: ".env",
		},
		"the image does not exist": {
			before: func(s *scenario, _ *imageBuilder) { s.req.Images = map[string]string{"web": "example.com/web:gone"} },
			cause:  "example.com/web:gone",
		},
		"the worker has no BuildKit": {
			before: func(s *scenario, _ *imageBuilder) { s.act.Docker = nil },
			cause:  "app web: this worker has no BuildKit for infra/fly/web/Dockerfile",
		},
		"a test in a Dockerfile fails": {
			yard: dockerRepo{
				toml: "[test.lint]\ntarget = \"lint\"\n", more: map[string]string{"Dockerfile": "FROM scratch AS lint"},
			},
			before: func(_ *scenario, b *imageBuilder) {
				b.fails["Dockerfile up to lint"] = &image.BuildError{Name: "lint", Reason: "Dockerfile:3: exit code 2"}
			},
			cause: "test lint: Dockerfile:3: exit code 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T) {
				s, b := newDockerScenario(t, test.yard)
				if test.before != nil {
					test.before(s, b)
				}
				rep := s.run()
				if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, test.cause) {
					t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
				}
				if changed := s.changes(create); len(changed) > 0 {
					t.Errorf("staging was changed: %v", changed)
				}
			})
		})
	}
}

// The scanner scans the images of the configured environments, and its output is kept.
func TestScan_ProductionImages(t *testing.T) {
	const own = "infra/fly/web/production/Dockerfile"
	inVirtualTime(t, func(t *testing.T) {
		s, _ := newDockerScenario(t, dockerRepo{
			more: map[string]string{own: "FROM scratch"},
			toml: "[scan]\nrun = \"echo looked at $IMAGE; test -f $IMAGE_LAYOUT/index.json\"\non = [\"production\"]\n",
		})
		rep := s.run()
		if rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		var scanned []string
		for _, r := range rep.Scans {
			scanned = append(scanned, r.Name)
			if want := "looked at " + string(r.Image) + "\n"; r.Tail != want || !r.Passed {
				t.Errorf("scan of %s: passed %v, %q", r.Name, r.Passed, r.Tail)
			}
		}
		slices.Sort(scanned)
		if want := []string{"api", "web/production"}; !slices.Equal(scanned, want) {
			t.Errorf("scanned %q, want %q", scanned, want)
		}
	})
}

// The copy of images is retried while a registry is unavailable.
func TestImages_RegistryUnavailable(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s, b := newDockerScenario(t, dockerRepo{})
		s.onPhase(release.RollingOut, "staging", func() {
			b.down.Store(true)
			time.AfterFunc(4*time.Minute, func() { b.down.Store(false) })
		})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if got, want := s.runningImages("production")["web"], "shop-production-web@"+builtDigest(t, "infra/fly/web/Dockerfile", "v1"); got != want {
			t.Errorf("production runs %s, want %s", got, want)
		}
	})
}
