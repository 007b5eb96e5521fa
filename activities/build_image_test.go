package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// A failingBuilder returns err from all its methods.
type failingBuilder struct{ err error }

func (b failingBuilder) Ready(context.Context, release.Recipe) error { return b.err }

func (b failingBuilder) Build(context.Context, image.Source, image.Request) (image.Built, error) {
	return image.Built{}, b.err
}

func (b failingBuilder) Test(context.Context, image.Source, image.Request) error { return b.err }

// newRegistry starts a registry on loopback with one image for a platform.
func newRegistry(t *testing.T, platform v1.Platform) (host string, ref release.Image) {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	host = strings.TrimPrefix(srv.URL, "http://")
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = platform.OS, platform.Architecture
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(host + "/there:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return host, release.Image(host + "/there@" + digest.String())
}

// The check of builders reports everything that is missing at once.
func TestPreflightBuilds_NamesEverythingMissing(t *testing.T) {
	host, _ := newRegistry(t, v1.Platform{OS: "linux", Architecture: "arm64"})
	a := &activities.Activities{Images: &image.Registry{}, Docker: failingBuilder{errors.New("BuildKit does not answer")}}
	build := func(app string, recipe release.Recipe) release.Build { return release.Build{Name: app, Recipe: recipe} }
	in := activities.BuilderInput{
		Builds: []release.Build{
			build("api", release.Recipe{Go: "./api"}), build("web", release.Recipe{Dockerfile: "Dockerfile"}),
			build("gone", release.Recipe{Image: host + "/gone:1"}), build("arm", release.Recipe{Image: host + "/there:1"}),
			build("odd", release.Recipe{Image: "NOT A REFERENCE"}),
		},
		Tests: []release.Test{{Name: "unit", Run: "true"}, {Name: "lint", Dockerfile: "Dockerfile", BuildTarget: "lint"}},
	}
	_, err := runActivity[any](t, a, a.PreflightBuilds, in)
	if permanentKind(err) != release.KindPreflight {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"app api: this worker does not build Go programs", "app web: BuildKit does not answer", "app gone: ", "/gone:1", "app arm: ", "linux/arm64",
		`app odd: image "NOT A REFERENCE"`, "test lint: BuildKit does not answer",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in the error:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "test unit") {
		t.Errorf("a command needs no builder:\n%v", err)
	}

	a.Docker = nil
	_, err = runActivity[any](t, a, a.PreflightBuilds, in)
	if err == nil || !strings.Contains(err.Error(), "app web: this worker has no BuildKit for Dockerfile: start it with --buildkit ADDRESS") {
		t.Errorf("without BuildKit: %v", err)
	}
	a.Go, a.Docker = failingBuilder{}, failingBuilder{}
	in.Builds = in.Builds[:2]
	if _, err = runActivity[any](t, a, a.PreflightBuilds, in); err != nil {
		t.Errorf("nothing is missing: %v", err)
	}
}

// An unavailable registry is retried.
func TestPreflightBuilds_RegistryUnavailable(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	t.Cleanup(srv.Close)
	a := &activities.Activities{Images: &image.Registry{}}
	_, err := runActivity[any](t, a, a.PreflightBuilds, activities.BuilderInput{Builds: []release.Build{
		{Name: "web", Recipe: release.Recipe{Image: strings.TrimPrefix(srv.URL, "http://") + "/web:1"}},
	}})
	if err == nil || permanentKind(err) != "" {
		t.Errorf("got %v of kind %q, want an error that is retried", err, permanentKind(err))
	}
}

// The scanner gets the image and no token.
func TestScanImage_SeesImageAndNoToken(t *testing.T) {
	host, ref := newRegistry(t, v1.Platform{OS: "linux", Architecture: "amd64"})
	a := &activities.Activities{
		Images: &image.Registry{}, Registry: host, Git: checkout(t.TempDir()), Logs: t.TempDir(),
		Environ: []string{"PATH=/usr/bin:/bin", "FLY_API_TOKEN=fm2_secret"},
	}
	in := activities.ScanInput{Name: "web", Image: ref, Scan: release.Scan{Timeout: release.Duration(time.Minute),
		Run: `echo "$IMAGE"; ls "$IMAGE_LAYOUT"; echo "token:$FLY_API_TOKEN"; cat "$IMAGE_LAYOUT/index.json"`}}
	result, err := runActivity[release.ScanResult](t, a, a.ScanImage, in)
	if err != nil || !result.Passed {
		t.Fatalf("%+v, %v", result, err)
	}
	for _, want := range []string{string(ref) + "\n", "blobs\n", "oci-layout\n", "token:\n", ref.Digest()} {
		if !strings.Contains(result.Tail, want) {
			t.Errorf("%q is not in its output:\n%s", want, result.Tail)
		}
	}

	in.Scan.Run = "echo CVE-2026-1; exit 4"
	_, err = runActivity[release.ScanResult](t, a, a.ScanImage, in)
	if permanentKind(err) != release.KindScan || !strings.Contains(err.Error(), "exit code 4") || !strings.Contains(err.Error(), fmt.Sprintf("%s was not released", ref)) {
		t.Errorf("a scanner that found something: %v", err)
	}
	in.Scan.Run, in.Scan.Timeout = "sleep 100", release.Duration(100*time.Millisecond)
	if _, err = runActivity[release.ScanResult](t, a, a.ScanImage, in); permanentKind(err) != release.KindScan || !strings.Contains(err.Error(), "took longer than 100ms") {
		t.Errorf("a scanner that hangs: %v", err)
	}
}

// A failure of BuildKit is retried; a failure of the Dockerfile is permanent.
func TestRunTest_DockerErrors(t *testing.T) {
	a := &activities.Activities{Git: checkout(t.TempDir()), Logs: t.TempDir()}
	in := activities.TestInput{Test: release.Test{Name: "lint", Dockerfile: "Dockerfile", BuildTarget: "lint", Timeout: release.Duration(time.Minute)}}
	a.Docker = failingBuilder{&image.BuildError{Name: "lint", Reason: "Dockerfile:3: exit code 2"}}
	if _, err := runActivity[release.TestResult](t, a, a.RunTest, in); permanentKind(err) != release.KindTest || !strings.Contains(err.Error(), "test lint: Dockerfile:3: exit code 2") {
		t.Errorf("a test that fails: %v", err)
	}
	a.Docker = failingBuilder{errors.New("BuildKit died")}
	if _, err := runActivity[release.TestResult](t, a, a.RunTest, in); err == nil || permanentKind(err) != "" {
		t.Errorf("a BuildKit that died: %v of kind %q", err, permanentKind(err))
	}
	a.Docker = failingBuilder{}
	if result, err := runActivity[release.TestResult](t, a, a.RunTest, in); err != nil || !result.Passed {
		t.Errorf("a test that passes: %+v, %v", result, err)
	}
}

// A build that an older workflow scheduled is built after an upgrade of the worker.
func TestBuildImage_InputOfOlderWorkflow(t *testing.T) {
	recorder := &recordingBuilder{}
	a := &activities.Activities{Git: checkout(t.TempDir()), Logs: t.TempDir(), Go: recorder, Registry: "registry.fly.io"}
	var in activities.BuildInput
	err := json.Unmarshal([]byte(`{"repository": "https://example.com/shop.git", "app": {"name": "api", "go": "./api"}, "image_repository": "shop-staging-api"}`), &in)
	if err != nil {
		t.Fatal(err)
	}
	result, err := runActivity[release.BuildResult](t, a, a.BuildImage, in)
	if err != nil || result.App != "api" {
		t.Errorf("%+v, %v", result, err)
	}
	if recorder.request.Name != "api" || recorder.request.Recipe.Go != "./api" || recorder.request.Repository != "registry.fly.io/shop-staging-api" {
		t.Errorf("built %+v", recorder.request)
	}
}

// A recordingBuilder records the last request.
type recordingBuilder struct {
	failingBuilder
	request image.Request
}

func (n *recordingBuilder) Build(_ context.Context, _ image.Source, req image.Request) (image.Built, error) {
	n.request = req
	return image.Built{}, nil
}
