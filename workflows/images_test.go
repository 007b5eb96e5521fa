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

// Shelves are image registries in memory, whatever their hosts are called.
type shelves struct {
	http.Handler
	down atomic.Bool
}

func newShelves() *shelves {
	return &shelves{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
}

// RoundTrip implements http.RoundTripper.
func (s *shelves) RoundTrip(req *http.Request) (*http.Response, error) {
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

// put pushes an image whose only file has that content.
func (s *shelves) put(ref, content string, about map[string]string) (v1.Hash, error) {
	img, err := layered(content)
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

// layered is an image with one file: content is its path and its text, with a
// colon between.
func layered(content string) (v1.Image, error) {
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
	if _, wrong := io.WriteString(w, text); err == nil {
		err = wrong
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, static.NewLayer(files.Bytes(), types.OCIUncompressedLayer))
}

// A baker builds for the shelves: an image is its recipe and the version.
type baker struct {
	*shelves
	fails map[string]error // by what is built or tested
	leaks bool             // there is an .env in what it builds

	mu    sync.Mutex
	built []string
}

func (*baker) Ready(context.Context, release.Recipe) error { return nil }

func (b *baker) Build(_ context.Context, src image.Source, req image.Request) (image.Built, error) {
	b.mu.Lock()
	b.built = append(b.built, req.Recipe.String())
	b.mu.Unlock()
	if err := b.fails[req.Recipe.String()]; err != nil {
		return image.Built{}, err
	}
	content := "app:" + baked(req.Recipe, src.Revision)
	if b.leaks {
		content = ".env:" + content
	}
	digest, err := b.put(req.Repository+":"+req.Tag, content, map[string]string{
		"org.opencontainers.image.revision": src.Revision.Commit, "release.recipe": req.Recipe.Hash(),
	})
	return image.Built{Image: release.Image(req.Repository + "@" + digest.String())}, err
}

func (b *baker) Test(_ context.Context, _ image.Source, req image.Request) error {
	return b.fails[req.Recipe.String()]
}

// baked is what comes of a recipe: v3 changes nothing but a text that is in no
// image.
func baked(r release.Recipe, revision release.Revision) string {
	version := revision.Subject
	if version == "version v3" {
		version = "version v2"
	}
	return r.String() + " at " + version
}

// digestBaked is the digest that this has.
func digestBaked(t *testing.T, recipe, version string) string {
	t.Helper()
	img, err := layered("app:" + recipe + " at version " + version)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// A dockyard is a repo whose apps have Dockerfiles.
type dockyard struct {
	repo
	more map[string]string // files
	toml string            // of release.toml
}

func (d dockyard) files() fstest.MapFS {
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
func (d dockyard) Files(context.Context, string, string) (fs.FS, error) { return d.files(), nil }

// dock is a scenario with Dockerfiles, registries and somebody who builds.
func dock(t *testing.T, d dockyard) (*scenario, *baker) {
	t.Helper()
	s := newScenario(t, d.repo)
	b := &baker{shelves: newShelves(), fails: map[string]error{}}
	s.act.Git = d
	s.act.Go, s.act.Docker, s.act.Images = nil, b, &image.Registry{Transport: b.shelves}
	s.whenAsked(s.approve)
	return s, b
}

// images are what the machines of an environment run, by app.
func (s *scenario) images(environment string) map[string]string {
	images := map[string]string{}
	for _, app := range []string{"api", "web"} {
		for _, m := range s.sim.Machines("shop-" + environment + "-" + app) {
			images[app] = fmt.Sprintf("%s@%s", m.ImageRef.Repository, m.ImageRef.Digest)
		}
	}
	return images
}

// again is another release to the same Fly, from the same registries.
func again(t *testing.T, first *scenario, b *baker, version string) *scenario {
	t.Helper()
	s := newScenario(t, repo{})
	s.sim, s.act.Fly, s.act.Edge = first.sim, first.act.Fly, first.act.Edge
	s.act.Git, s.act.Go, s.act.Docker, s.act.Images = first.act.Git, first.act.Go, first.act.Docker, first.act.Images
	s.req.Revision = revision(version)
	s.whenAsked(s.approve)
	b.built = nil
	return s
}

// Production runs the very image that staging verified, from its own repository.
func TestAnImageIsBuiltOnceAndPromoted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := dock(t, dockyard{})
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
				want[app] = "shop-" + environment + "-" + app + "@" + digestBaked(t, "infra/fly/"+app+"/Dockerfile", "v1")
			}
			if got := s.images(environment); !maps.Equal(got, want) {
				t.Errorf("%s runs %v, want %v", environment, got, want)
			}
		}
	})
}

// A production with a Dockerfile of its own runs what was built of that before
// staging changed; who approves reads that it was not verified.
func TestProductionHasItsOwnDockerfile(t *testing.T) {
	const own = "infra/fly/web/production/Dockerfile"
	d := dockyard{more: map[string]string{own: "FROM scratch"}}
	bubble(t, func(t *testing.T) {
		s, _ := dock(t, d)
		var notes []string
		s.when(release.Awaiting, "production", func() {
			for _, target := range s.status().Plan.Targets {
				notes = append(notes, target.Target.App+": "+strings.Join(target.Notes, "; "))
			}
		})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if got, want := s.images("production")["web"], "shop-production-web@"+digestBaked(t, own, "v1"); got != want {
			t.Errorf("production runs %s, want %s", got, want)
		}
		if got, want := s.images("staging")["web"], "shop-staging-web@"+digestBaked(t, "infra/fly/web/Dockerfile", "v1"); got != want {
			t.Errorf("staging runs %s, want %s", got, want)
		}
		want := []string{"api: ", "web: NOT THE IMAGE THAT staging VERIFIED: this one is made of " + own + ", that one of infra/fly/web/Dockerfile"}
		if !slices.Equal(notes, want) {
			t.Errorf("whoever approved read %q, want %q", notes, want)
		}
	})
	bubble(t, func(t *testing.T) {
		s, b := dock(t, d)
		b.fails[own] = &image.BuildError{Name: "web/production", Reason: own + ":1: no such base"}
		rep := s.run()
		if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, own+":1: no such base") {
			t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if changed := s.changes(create); len(changed) > 0 {
			t.Errorf("staging was changed, and production can't follow: %v", changed)
		}
	})
}

// A revision that touches no file of an app leaves its machines alone, though
// its image is made again.
func TestWhatDidNotChangeIsLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first, b := dock(t, dockyard{})
		first.req.Revision = revision("v2")
		first.run()
		s := again(t, first, b, "v3")
		before := len(s.sim.Requests())
		if rep := s.run(); rep.Outcome != release.Unchanged {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if len(b.built) != 2 {
			t.Errorf("built %q", b.built)
		}
		for _, r := range s.sim.Requests()[before:] {
			if r.Route == update || r.Route == create {
				t.Errorf("a machine was touched: %s", r.Route)
			}
		}
	})
}

// The same revision once more finds its images: after a crash, or on a retry,
// nothing is built again.
func TestWhatIsInTheRegistryIsNotBuiltAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first, b := dock(t, dockyard{})
		first.run()
		s := again(t, first, b, "v1")
		rep := s.run()
		if rep.Outcome != release.Unchanged || len(b.built) > 0 {
			t.Errorf("%s, built %q", rep.Outcome, b.built)
		}
		for _, built := range rep.Builds {
			if !built.Found {
				t.Errorf("it does not say that %s was there", built.App)
			}
		}
	})
}

// What a tag means when the release begins is what runs everywhere, wherever
// the tag moves.
func TestATagThatMovesMovesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := dock(t, dockyard{})
		const ref = "example.com/web:1"
		begin, err := b.put(ref, "app:the first", nil)
		if err != nil {
			t.Fatal(err)
		}
		s.req.Images = map[string]string{"web": ref}
		s.when(release.RollingOut, "staging", func() {
			if _, err := b.put(ref, "app:another", nil); err != nil {
				t.Error(err)
			}
		})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		for _, environment := range []string{"staging", "production"} {
			if got, want := s.images(environment)["web"], "shop-"+environment+"-web@"+begin.String(); got != want {
				t.Errorf("%s runs %s, want %s", environment, got, want)
			}
		}
	})
}

// What is wrong with an image stops the release before anything runs it.
func TestWhatStopsAReleaseBeforeStaging(t *testing.T) {
	const scan = `
[scan]
run = "echo looking at $IMAGE; test -z \"$(echo $IMAGE | grep shop-staging-web)\""
`
	for name, test := range map[string]struct {
		yard   dockyard
		before func(*scenario, *baker)
		cause  string
	}{
		"the scanner says no": {
			yard: dockyard{toml: scan}, cause: "scan of web: ",
		},
		"there is a secret in it": {
			before: func(_ *scenario, b *baker) { b.leaks = true }, cause: ".env",
		},
		"no image is there under that name": {
			before: func(s *scenario, _ *baker) { s.req.Images = map[string]string{"web": "example.com/web:gone"} },
			cause:  "example.com/web:gone",
		},
		"the worker has no BuildKit": {
			before: func(s *scenario, _ *baker) { s.act.Docker = nil },
			cause:  "app web: this worker has no BuildKit for infra/fly/web/Dockerfile",
		},
		"a test in a Dockerfile fails": {
			yard: dockyard{
				toml: "[test.lint]\ntarget = \"lint\"\n", more: map[string]string{"Dockerfile": "FROM scratch AS lint"},
			},
			before: func(_ *scenario, b *baker) {
				b.fails["Dockerfile up to lint"] = &image.BuildError{Name: "lint", Reason: "Dockerfile:3: exit code 2"}
			},
			cause: "test lint: Dockerfile:3: exit code 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, b := dock(t, test.yard)
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

// A scanner looks at what it is asked to look at, and what it says is kept.
func TestTheScannerLooksAtWhatRunsInProduction(t *testing.T) {
	const own = "infra/fly/web/production/Dockerfile"
	bubble(t, func(t *testing.T) {
		s, _ := dock(t, dockyard{
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

// A registry that is away while images are copied is waited for.
func TestARegistryThatIsAwayIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := dock(t, dockyard{})
		s.when(release.RollingOut, "staging", func() {
			b.down.Store(true)
			time.AfterFunc(4*time.Minute, func() { b.down.Store(false) })
		})
		if rep := s.run(); rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if got, want := s.images("production")["web"], "shop-production-web@"+digestBaked(t, "infra/fly/web/Dockerfile", "v1"); got != want {
			t.Errorf("production runs %s, want %s", got, want)
		}
	})
}
