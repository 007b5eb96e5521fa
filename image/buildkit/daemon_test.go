package buildkit_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/microbima/release/image"
	"github.com/microbima/release/image/buildkit"
	"github.com/microbima/release/release"
)

// shared has the files that all tests use.
var shared struct {
	dir  string // removed after the tests
	base func() (string, error)
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "release-buildkit-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared.dir = dir
	shared.base = sync.OnceValues(func() (string, error) { return makeHostBase(filepath.Join(dir, "base")) })
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// findBuildkitd returns the path of buildkitd, or skips the test if a program is
// missing. scripts/buildkit installs them.
func findBuildkitd(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for runc to make containers")
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("needs runc in PATH: scripts/buildkit installs it")
	}
	if path, err := exec.LookPath("buildkitd"); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip("needs buildkitd in PATH: scripts/buildkit builds it")
	}
	path := filepath.Join(cache, "release", "buildkit", "buildkitd")
	if _, err := os.Stat(path); err != nil {
		t.Skip("needs buildkitd, in PATH or in the cache: scripts/buildkit builds it")
	}
	return path
}

// A daemon is a running buildkitd.
type daemon struct {
	address string
	root    string
	cmd     *exec.Cmd
	ended   chan struct{}
	output  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startBuildkitd starts a buildkitd in a root folder, by default a new one, and stops
// it after the test.
func startBuildkitd(t *testing.T, root string) *daemon {
	t.Helper()
	buildkitd := findBuildkitd(t)
	if root == "" {
		root = filepath.Join(tempDir(t), "root")
	}
	socket := filepath.Join(tempDir(t), "s")
	d := &daemon{address: "unix://" + socket, root: root, ended: make(chan struct{}), output: new(lockedBuffer)}
	d.cmd = exec.Command(buildkitd, "--root", root, "--addr", d.address, "--config", os.DevNull, "--oci-worker-net", "host")
	d.cmd.Stdout, d.cmd.Stderr = d.output, d.output
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.cmd.Wait()
		close(d.ended)
	}()
	t.Cleanup(func() { d.stop(t) })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return d
		}
		select {
		case <-d.ended:
			t.Fatalf("buildkitd ended:\n%s", d.output)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("buildkitd does not listen:\n%s", d.output)
		}
	}
}

// kill kills buildkitd and its children at once.
func (d *daemon) kill() {
	syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.ended
}

func (d *daemon) stop(t *testing.T) {
	syscall.Kill(d.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second):
		t.Error("buildkitd did not end after SIGTERM")
		d.kill()
	}
	if t.Failed() {
		t.Logf("output of buildkitd:\n%s", tail(d.output.String(), 4000))
	}
	unmount(t, d.root)
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// unmount unmounts everything below a folder.
func unmount(t *testing.T, below string) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	var points []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if point := strings.Fields(lines.Text())[4]; strings.HasPrefix(point, below+"/") {
			points = append(points, point)
		}
	}
	for _, point := range slices.Backward(points) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", point, err)
		}
	}
}

// tempDir returns a new folder whose path is short enough for a socket.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// newRegistry starts a registry on loopback and returns its host.
func newRegistry(t *testing.T) string {
	t.Helper()
	return serve(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
}

// serve starts an HTTP server and returns its host.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// newBuilder returns a Builder that uses d and has a base image with a shell, base:1.
func (d *daemon) newBuilder(t *testing.T) *buildkit.Builder {
	t.Helper()
	base, err := shared.base()
	if err != nil {
		t.Fatal(err)
	}
	return &buildkit.Builder{Address: d.address, Layouts: map[string]string{"base:1": base}}
}

// newSource writes a checkout: path → content. "-> x" is a link to x, "#!" makes a
// file executable.
func newSource(t *testing.T, files map[string]string) image.Source {
	t.Helper()
	dir := tempDir(t)
	for path, content := range files {
		writeFile(t, dir, path, content)
	}
	return image.Source{Dir: dir, Revision: release.Revision{Commit: strings.Repeat("ab", 20), Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}}
}

func writeFile(t *testing.T, dir, path, content string) {
	t.Helper()
	path = filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if to, link := strings.CutPrefix(content, "-> "); link {
		err = os.Symlink(to, path)
	} else {
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		err = os.WriteFile(path, []byte(content), mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// newRequest returns a request to build the Dockerfile in a checkout's root, and the
// build's log.
func newRequest(t *testing.T, host string) (image.Request, *lockedBuffer) {
	out := new(lockedBuffer)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the build:\n%s", tail(out.String(), 6000))
		}
	})
	return image.Request{
		Name: "api", Recipe: release.Recipe{Dockerfile: "Dockerfile"}, Repository: host + "/shop", Tag: "v1",
		Origin: "https://git.example/shop", Log: out,
	}, out
}

// makeHostBase writes an OCI layout with a shell and some tools of this machine, so
// that tests need no network.
func makeHostBase(dir string) (string, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	seen := map[string]bool{}
	add := func(path string) error {
		if seen[path] {
			return nil
		}
		seen[path] = true
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: 0o755, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}
	for _, name := range []string{"sh", "cat", "sleep", "ls", "env", "id", "dd", "sha256sum", "mkdir", "rm"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", err
		}
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			return "", fmt.Errorf("ldd %s: %w", path, err)
		}
		for _, word := range strings.Fields(string(out)) {
			if strings.HasPrefix(word, "/") {
				if err := add(word); err != nil {
					return "", err
				}
			}
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + name, Mode: 0o755, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)}); err != nil {
			return "", err
		}
		if _, err := w.Write(content); err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return dir, saveImage(dir, "amd64", v1.Config{Env: []string{"PATH=/bin"}}, layer.Bytes())
}

// saveImage writes an image as an OCI layout.
func saveImage(dir, architecture string, config v1.Config, layers ...[]byte) error {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, l := range layers {
		var err error
		if img, err = mutate.AppendLayers(img, static.NewLayer(l, types.OCIUncompressedLayer)); err != nil {
			return err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", architecture, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(img)
}

// wantBuildError returns err as an *image.BuildError, or fails the test.
func wantBuildError(t *testing.T, err error) *image.BuildError {
	t.Helper()
	var failed *image.BuildError
	if !errors.As(err, &failed) {
		t.Fatalf("got %T %v, want a BuildError", err, err)
	}
	return failed
}

func build(t *testing.T, b *buildkit.Builder, src image.Source, req image.Request) image.Built {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	built, err := b.Build(ctx, src, req)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// makeArmBase writes an OCI layout with an image for linux/arm64.
func makeArmBase(t *testing.T) string {
	t.Helper()
	dir := tempDir(t)
	var layer bytes.Buffer
	if err := tar.NewWriter(&layer).Close(); err != nil {
		t.Fatal(err)
	}
	if err := saveImage(dir, "arm64", v1.Config{}, layer.Bytes()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func readLayer(t *testing.T, layer v1.Layer) string {
	t.Helper()
	r, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// readImageFile returns the content of a file in an image, "" if there is none.
func readImageFile(t *testing.T, img v1.Image, path string) string {
	t.Helper()
	all := mutate.Extract(img)
	defer all.Close()
	for r := tar.NewReader(all); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Name == path {
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return string(content)
		}
	}
}

// listImageFiles returns the paths of the files in an image.
func listImageFiles(t *testing.T, img v1.Image) (names []string) {
	t.Helper()
	all := mutate.Extract(img)
	defer all.Close()
	for r := tar.NewReader(all); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}
