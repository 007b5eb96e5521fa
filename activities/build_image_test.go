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

// A builder fails with err.
type builder struct{ err error }

func (b builder) Ready(context.Context, release.Recipe) error { return b.err }

func (b builder) Build(context.Context, image.Source, image.Request) (image.Built, error) {
	return image.Built{}, b.err
}

func (b builder) Test(context.Context, image.Source, image.Request) error { return b.err }

// shelf is a registry on loopback with one image, for a platform.
func shelf(t *testing.T, platform v1.Platform) (host string, ref release.Image) {
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

// A worker that can't build says all that it lacks at once, before anything is
// tested.
func TestPreflightBuilds_NamesEverythingMissing(t *testing.T) {
	host, _ := shelf(t, v1.Platform{OS: "linux", Architecture: "arm64"})
	a := &activities.Activities{Images: &image.Registry{}, Docker: builder{errors.New("BuildKit does not answer")}}
	build := func(app string, recipe release.Recipe) release.Build { return release.Build{Name: app, Recipe: recipe} }
	in := activities.BuilderInput{
		Builds: []release.Build{
			build("api", release.Recipe{Go: "./api"}), build("web", release.Recipe{Dockerfile: "Dockerfile"}),
			build("gone", release.Recipe{Image: host + "/gone:1"}), build("arm", release.Recipe{Image: host + "/there:1"}),
			build("odd", release.Recipe{Image: "NOT A REFERENCE"}),
		},
		Tests: []release.Test{{Name: "unit", Run: "true"}, {Name: "lint", Dockerfile: "Dockerfile", BuildTarget: "lint"}},
	}
	_, err := run[any](t, a, a.PreflightBuilds, in)
	if kind(err) != release.KindPreflight {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"app api: this worker does not build Go programs", "app web: BuildKit does not answer", "app gone: ", "/gone:1", "app arm: ", "linux/arm64",
		`app odd: image "NOT A REFERENCE"`, "test lint: BuildKit does not answer",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "test unit") {
		t.Errorf("a command needs no builder:\n%v", err)
	}

	a.Docker = nil
	_, err = run[any](t, a, a.PreflightBuilds, in)
	if err == nil || !strings.Contains(err.Error(), "app web: this worker has no BuildKit for Dockerfile: start it with --buildkit ADDRESS") {
		t.Errorf("without BuildKit: %v", err)
	}
	a.Go, a.Docker = builder{}, builder{}
	in.Builds = in.Builds[:2]
	if _, err = run[any](t, a, a.PreflightBuilds, in); err != nil {
		t.Errorf("nothing is missing: %v", err)
	}
}

// A registry that is away for a moment is no verdict on an image.
func TestPreflightBuilds_RegistryUnavailable(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	t.Cleanup(srv.Close)
	a := &activities.Activities{Images: &image.Registry{}}
	_, err := run[any](t, a, a.PreflightBuilds, activities.BuilderInput{Builds: []release.Build{
		{Name: "web", Recipe: release.Recipe{Image: strings.TrimPrefix(srv.URL, "http://") + "/web:1"}},
	}})
	if err == nil || kind(err) != "" {
		t.Errorf("got %v of kind %q, which is not tried again", err, kind(err))
	}
}

// A scanner has the image before it, and no token.
func TestScanImage_SeesImageAndNoToken(t *testing.T) {
	host, ref := shelf(t, v1.Platform{OS: "linux", Architecture: "amd64"})
	a := &activities.Activities{
		Images: &image.Registry{}, Registry: host, Git: checkout(t.TempDir()), Logs: t.TempDir(),
		Environ: []string{"PATH=/usr/bin:/bin", "FLY_API_TOKEN=fm2_secret"},
	}
	in := activities.ScanInput{Name: "web", Image: ref, Scan: release.Scan{Timeout: release.Duration(time.Minute),
		Run: `echo "$IMAGE"; ls "$IMAGE_LAYOUT"; echo "token:$FLY_API_TOKEN"; cat "$IMAGE_LAYOUT/index.json"`}}
	result, err := run[release.ScanResult](t, a, a.ScanImage, in)
	if err != nil || !result.Passed {
		t.Fatalf("%+v, %v", result, err)
	}
	for _, want := range []string{string(ref) + "\n", "blobs\n", "oci-layout\n", "token:\n", ref.Digest()} {
		if !strings.Contains(result.Tail, want) {
			t.Errorf("it did not see %q:\n%s", want, result.Tail)
		}
	}

	in.Scan.Run = "echo CVE-2026-1; exit 4"
	_, err = run[release.ScanResult](t, a, a.ScanImage, in)
	if kind(err) != release.KindScan || !strings.Contains(err.Error(), "exit code 4") || !strings.Contains(err.Error(), fmt.Sprintf("%s was not released", ref)) {
		t.Errorf("a scanner that found something: %v", err)
	}
	in.Scan.Run, in.Scan.Timeout = "sleep 100", release.Duration(100*time.Millisecond)
	if _, err = run[release.ScanResult](t, a, a.ScanImage, in); kind(err) != release.KindScan || !strings.Contains(err.Error(), "took longer than 100ms") {
		t.Errorf("a scanner that hangs: %v", err)
	}
}

// What BuildKit can't do now is tried again; what a Dockerfile does wrong is not.
func TestRunTest_DockerErrors(t *testing.T) {
	a := &activities.Activities{Git: checkout(t.TempDir()), Logs: t.TempDir()}
	in := activities.TestInput{Test: release.Test{Name: "lint", Dockerfile: "Dockerfile", BuildTarget: "lint", Timeout: release.Duration(time.Minute)}}
	a.Docker = builder{&image.BuildError{Name: "lint", Reason: "Dockerfile:3: exit code 2"}}
	if _, err := run[release.TestResult](t, a, a.RunTest, in); kind(err) != release.KindTest || !strings.Contains(err.Error(), "test lint: Dockerfile:3: exit code 2") {
		t.Errorf("a test that fails: %v", err)
	}
	a.Docker = builder{errors.New("BuildKit died")}
	if _, err := run[release.TestResult](t, a, a.RunTest, in); err == nil || kind(err) != "" {
		t.Errorf("a BuildKit that died: %v of kind %q", err, kind(err))
	}
	a.Docker = builder{}
	if result, err := run[release.TestResult](t, a, a.RunTest, in); err != nil || !result.Passed {
		t.Errorf("a test that passes: %+v, %v", result, err)
	}
}

// A build that a worker of before has asked for is done as it was meant, when the
// worker is replaced while it waits.
func TestBuildImage_InputOfOlderWorkflow(t *testing.T) {
	noted := &noting{}
	a := &activities.Activities{Git: checkout(t.TempDir()), Logs: t.TempDir(), Go: noted, Registry: "registry.fly.io"}
	var in activities.BuildInput
	err := json.Unmarshal([]byte(`{"repository": "https://example.com/shop.git", "app": {"name": "api", "go": "./api"}, "registry": "shop-staging-api"}`), &in)
	if err != nil {
		t.Fatal(err)
	}
	result, err := run[release.BuildResult](t, a, a.BuildImage, in)
	if err != nil || result.App != "api" {
		t.Errorf("%+v, %v", result, err)
	}
	if noted.asked.Name != "api" || noted.asked.Recipe.Go != "./api" || noted.asked.Repository != "registry.fly.io/shop-staging-api" {
		t.Errorf("built %+v", noted.asked)
	}
}

// A noting builder keeps what it was asked for.
type noting struct {
	builder
	asked image.Request
}

func (n *noting) Build(_ context.Context, _ image.Source, req image.Request) (image.Built, error) {
	n.asked = req
	return image.Built{}, nil
}
