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

// shared is what is made once for all tests.
var shared struct {
	dir  string // removed in the end
	base func() (string, error)
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "release-buildkit-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared.dir = dir
	shared.base = sync.OnceValues(func() (string, error) { return hostBase(filepath.Join(dir, "base")) })
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// programs returns where buildkitd is, or skips: scripts/buildkit brings it.
func programs(t *testing.T) string {
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

// A daemon is a real buildkitd.
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

// start starts a buildkitd with a clean cache, or in the root that is given.
func start(t *testing.T, root string) *daemon {
	t.Helper()
	program := programs(t)
	if root == "" {
		root = filepath.Join(folder(t), "root")
	}
	socket := filepath.Join(folder(t), "s")
	d := &daemon{address: "unix://" + socket, root: root, ended: make(chan struct{}), output: new(lockedBuffer)}
	d.cmd = exec.Command(program, "--root", root, "--addr", d.address, "--config", os.DevNull, "--oci-worker-net", "host")
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

// kill is what a machine's end is to buildkitd.
func (d *daemon) kill() {
	syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.ended
}

func (d *daemon) stop(t *testing.T) {
	syscall.Kill(d.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second):
		t.Error("buildkitd did not end when told to")
		d.kill()
	}
	if t.Failed() {
		t.Logf("buildkitd said:\n%s", tail(d.output.String(), 4000))
	}
	unmount(t, d.root)
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// unmount undoes what is mounted below a folder.
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

// folder is a folder whose name is short enough for sockets.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// shop is a registry on loopback.
func shop(t *testing.T) string {
	t.Helper()
	return serve(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))))
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// builder is a Builder that uses d, and knows a base image with a shell.
func (d *daemon) builder(t *testing.T) *buildkit.Builder {
	t.Helper()
	base, err := shared.base()
	if err != nil {
		t.Fatal(err)
	}
	return &buildkit.Builder{Address: d.address, Layouts: map[string]string{"base:1": base}}
}

// source writes a checkout: path → content. "-> x" is a link to x, "#!" makes a
// file executable.
func source(t *testing.T, files map[string]string) image.Source {
	t.Helper()
	dir := folder(t)
	for path, content := range files {
		write(t, dir, path, content)
	}
	return image.Source{Dir: dir, Revision: release.Revision{Commit: strings.Repeat("ab", 20), Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}}
}

func write(t *testing.T, dir, path, content string) {
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

// request is to build the Dockerfile of a checkout's root.
func request(t *testing.T, host string) (image.Request, *lockedBuffer) {
	out := new(lockedBuffer)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the build said:\n%s", tail(out.String(), 6000))
		}
	})
	return image.Request{
		Name: "api", Recipe: release.Recipe{Dockerfile: "Dockerfile"}, Repository: host + "/shop", Tag: "v1",
		Origin: "https://git.example/shop", Log: out,
	}, out
}

// hostBase makes an image of the shell and some tools of this machine, as an OCI
// layout: nothing can be had of Docker Hub here.
func hostBase(dir string) (string, error) {
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

// buildError is the *image.BuildError that err has to be.
func buildError(t *testing.T, err error) *image.BuildError {
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

// armBase is an image that says it is for another platform.
func armBase(t *testing.T) string {
	t.Helper()
	dir := folder(t)
	var layer bytes.Buffer
	if err := tar.NewWriter(&layer).Close(); err != nil {
		t.Fatal(err)
	}
	if err := saveImage(dir, "arm64", v1.Config{}, layer.Bytes()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func content(t *testing.T, layer v1.Layer) string {
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

// fileOf is the content of a file in an image, "" where there is none.
func fileOf(t *testing.T, img v1.Image, path string) string {
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

// filesOf are the paths of an image.
func filesOf(t *testing.T, img v1.Image) (names []string) {
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
