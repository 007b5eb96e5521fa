package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/release"
)

func TestMain(m *testing.M) {
	if IsCompilerProcess() {
		os.Exit(RunCompiler(os.Stdin, os.Stdout))
	}
	log.SetOutput(io.Discard) // ko logs there
	os.Exit(m.Run())
}

const program = `package main

import "fmt"

func main() { fmt.Println("hello") }
`

// newSource returns a checkout with the given files and a go.mod.
func newSource(t *testing.T, files map[string]string) Source {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"go.mod": "module example.com/shop\n\ngo 1.26\n"}
	for path, content := range files {
		all[path] = content
	}
	for path, content := range all {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Source{Dir: dir, Revision: release.Revision{Commit: strings.Repeat("ab", 20)}}
}

// newRequest returns a request to build the app api and push it to a registry in this
// process.
func newRequest(t *testing.T) Request {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	return Request{
		Name: "api", Recipe: release.Recipe{Go: "./apps/api"},
		Repository: strings.TrimPrefix(srv.URL, "http://") + "/shop",
	}
}

func mustBuild(t *testing.T, src Source, req Request) release.Image {
	t.Helper()
	img, err := new(Go).Build(t.Context(), src, req)
	if err != nil {
		t.Fatal(err)
	}
	return img.Image
}

func pull(t *testing.T, image release.Image) v1.Image {
	t.Helper()
	ref, err := name.NewDigest(string(image))
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestGoBuild_ImageRuns(t *testing.T) {
	var log bytes.Buffer
	req := newRequest(t)
	req.Log, req.Tag = &log, "r1"
	image := mustBuild(t, newSource(t, map[string]string{"apps/api/main.go": program}), req)
	if !strings.HasPrefix(string(image), req.Repository+"@sha256:") {
		t.Errorf("got %s", image)
	}
	if !strings.Contains(log.String(), image.Digest()) {
		t.Errorf("the log does not name the digest: %s", log.String())
	}
	config, err := pull(t, image).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "amd64" || config.Config.User != "65532" || len(config.Config.Entrypoint) != 1 {
		t.Errorf("config: %+v", config)
	}
	root := unpack(t, pull(t, image))
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !strings.Contains(string(passwd), ":65532:65532:") {
		t.Errorf("etc/passwd: %q, %v", passwd, err)
	}
	if err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, "sh") || strings.HasSuffix(path, ".go") {
			t.Errorf("%s must not be in the image", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(root, config.Config.Entrypoint[0])).Output()
	if err != nil || string(out) != "hello\n" {
		t.Errorf("it prints %q, %v", out, err)
	}
}

// unpack writes an image's files to a new directory.
func unpack(t *testing.T, img v1.Image) string {
	t.Helper()
	root := t.TempDir()
	files := mutate.Extract(img)
	defer files.Close()
	r := tar.NewReader(files)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, h.FileInfo().Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGoBuild_SameSourceSameDigest(t *testing.T) {
	req := newRequest(t)
	files := map[string]string{"apps/api/main.go": program, "apps/other/main.go": program}
	one := mustBuild(t, newSource(t, files), req)

	// Another directory, another revision, a changed other app and other settings of
	// the worker do not change this app.
	files["apps/other/main.go"] = strings.ReplaceAll(program, "hello", "bye")
	src := newSource(t, files)
	src.Revision.Commit = strings.Repeat("cd", 20)
	for key, v := range map[string]string{"GOFLAGS": "-tags=x", "GOOS": "plan9", "GOAMD64": "v3", "CGO_ENABLED": "1", "SECRET": "x"} {
		t.Setenv(key, v)
	}
	if two := mustBuild(t, src, req); one != two {
		t.Errorf("two builds of one source: %s and %s", one, two)
	}
	files["apps/api/main.go"] = strings.ReplaceAll(program, "hello", "bye")
	if three := mustBuild(t, newSource(t, files), req); one == three {
		t.Error("another source has the same digest")
	}
}

func TestGoBuild_OtherPlatform(t *testing.T) {
	req := newRequest(t)
	req.Platform = "linux/arm64"
	config, err := pull(t, mustBuild(t, newSource(t, map[string]string{"apps/api/main.go": program}), req)).ConfigFile()
	if err != nil || config.Architecture != "arm64" {
		t.Errorf("got %+v, %v", config, err)
	}
}

func TestGoBuild_ModuleInSubdirectory(t *testing.T) {
	mustBuild(t, newSource(t, map[string]string{
		"apps/api/go.mod": "module example.com/api\n\ngo 1.26\n", "apps/api/main.go": program,
	}), newRequest(t))
}

// Files beside a checkout belong to the worker, such as checkouts of other
// repositories. They must not get into an image.
func TestGoBuild_CodeOutsideCheckout(t *testing.T) {
	outside := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/private\n\ngo 1.26\n", "private.go": "package private\n\nconst Secret = 4711\n"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const uses = "package main\n\nimport \"example.com/private\"\n\nfunc main() { println(private.Secret) }\n"
	const requires = "module example.com/shop\n\ngo 1.26\n\nrequire example.com/private v0.0.0\n\nreplace example.com/private => "
	const inner = "module example.com/private\n\ngo 1.26\n"
	for name, test := range map[string]struct {
		files map[string]string
		ok    bool
	}{
		"replaced by a directory within":  {map[string]string{"go.mod": requires + "./lib/..x\n", "lib/..x/go.mod": inner, "lib/..x/x.go": "package private\n\nconst Secret = 1\n"}, true},
		"replaced by a directory outside": {map[string]string{"go.mod": requires + outside + "\n"}, false},
		"replaced by way of ..":           {map[string]string{"go.mod": requires + "./" + strings.Repeat("../", 40) + outside[1:] + "\n"}, false},
		"vendored, so that it is not read": {map[string]string{"go.mod": requires + outside + "\n", "vendor/example.com/private/x.go": "package private\n\nconst Secret = 1\n",
			"vendor/modules.txt": "# example.com/private v0.0.0 => " + outside + "\n## explicit; go 1.26\nexample.com/private\n# example.com/private => " + outside + "\n"}, true},
		"used by a workspace":     {map[string]string{"go.work": "go 1.26\n\nuse (\n\t.\n\t" + outside + "\n)\n"}, false},
		"replaced in a workspace": {map[string]string{"go.mod": "module example.com/shop\n\ngo 1.26\n\nrequire example.com/private v0.0.0\n", "go.work": "go 1.26\n\nuse .\n\nreplace example.com/private => " + outside + "\n"}, false},
		"replaced in another module of a workspace": {map[string]string{
			"go.work": "go 1.26\n\nuse (\n\t.\n\t./other\n)\n", "other/go.mod": "module example.com/other\n\ngo 1.26\n\nrequire example.com/private v0.0.0\n\nreplace example.com/private => " + outside + "\n",
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			test.files["apps/api/main.go"] = uses
			_, err := new(Go).Build(t.Context(), newSource(t, test.files), newRequest(t))
			var failed *BuildError
			switch {
			case test.ok && err != nil:
				t.Error(err)
			case !test.ok && (!errors.As(err, &failed) || !strings.Contains(err.Error(), "out of the repository")):
				t.Errorf("got %v; want a BuildError for code out of the repository", err)
			}
		})
	}
}

func TestGoBuild_InvalidSource(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		pkg   string
		want  []string
	}{
		"a syntax error":  {map[string]string{"apps/api/main.go": "package main\n\nfunc main() { oops"}, "./apps/api", []string{"does not compile", "apps/api/main.go:3:"}},
		"a type error":    {map[string]string{"apps/api/main.go": "package main\n\nfunc main() { var x int = \"\" }"}, "./apps/api", []string{"does not compile", "apps/api/main.go:3:"}},
		"a library":       {map[string]string{"apps/api/x.go": "package api"}, "./apps/api", []string{"apps.api.go", "package api"}},
		"no directory":    {nil, "./apps/api", []string{"apps.api.go", "no such directory"}},
		"only tests":      {map[string]string{"apps/api/x_test.go": "package main"}, "./apps/api", nil},
		"out of the tree": {nil, "./../../etc", []string{"apps.api.go", "directory of the repository"}},
		"an option":       {nil, "-toolexec=x", []string{"apps.api.go", "directory of the repository"}},
		"an import path":  {nil, "example.com/shop/apps/api", []string{"apps.api.go"}},
		"a missing module": {map[string]string{"apps/api/main.go": "package main\n\nimport _ \"example.com/none\"\n\nfunc main() {}"},
			"./apps/api", []string{"example.com/none"}},
		"a broken go.mod": {map[string]string{"go.mod": "modul x", "apps/api/main.go": program}, "./apps/api", []string{"go.mod"}},
	} {
		t.Run(name, func(t *testing.T) {
			req := newRequest(t)
			var log bytes.Buffer
			req.Recipe.Go, req.Log = test.pkg, &log
			_, err := new(Go).Build(t.Context(), newSource(t, test.files), req)
			var failed *BuildError
			if !errors.As(err, &failed) {
				t.Fatalf("got %v; want a BuildError", err)
			}
			for _, text := range test.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("got %q; want it to contain %q", err, text)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("got more than one line: %q", err)
			}
			if failed.Output != "" && !strings.Contains(log.String(), failed.Output) {
				t.Errorf("the log lacks the compiler's output: %q", log.String())
			}
		})
	}
}

// wrapGoBuild puts a go command into PATH that runs a shell script before each go
// build.
func wrapGoBuild(t *testing.T, script string) {
	t.Helper()
	wrapGo(t, "if [ \"$1\" = build ]; then "+script+"; fi")
}

// wrapGo puts a go command into PATH that runs a shell script before each command.
func wrapGo(t *testing.T, script string) {
	t.Helper()
	real, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script = "#!/bin/sh\n" + script + "\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func TestGoBuild_CancelKillsCompiler(t *testing.T) {
	// A compiler that reports its start and then runs until it is killed.
	fifo := filepath.Join(t.TempDir(), "started")
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Fatal(err)
	}
	// go starts other processes, which do not end when only go is killed.
	wrapGoBuild(t, "sleep 600 & echo $$ $! >"+fifo+"; wait")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	src, req := newSource(t, map[string]string{"apps/api/main.go": program}), newRequest(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := new(Go).Build(ctx, src, req)
		ended <- err
	}()
	pids, err := os.ReadFile(fifo) // waits for the compiler
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	err = <-ended
	var failed *BuildError
	if !errors.Is(err, context.Canceled) || errors.As(err, &failed) {
		t.Errorf("got %v; want it cancelled, and no BuildError", err)
	}
	for _, pid := range strings.Fields(string(pids)) {
		if !endsSoon(pid) {
			t.Errorf("process %s of the compiler still runs", pid)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// endsSoon reports whether a process ends within five seconds. A zombie has ended.
func endsSoon(pid string) bool {
	for range 100 {
		state, err := exec.Command("ps", "-o", "stat=", "-p", pid).Output()
		if err != nil || bytes.HasPrefix(bytes.TrimSpace(state), []byte("Z")) {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

func TestGoBuild_TransientError(t *testing.T) {
	wrapGoBuild(t, "echo 'go: example.com/x: dial tcp 192.0.2.1:443: i/o timeout' >&2; exit 1")
	_, err := new(Go).Build(t.Context(), newSource(t, map[string]string{"apps/api/main.go": program}), newRequest(t))
	var failed *BuildError
	if err == nil || errors.As(err, &failed) || !strings.Contains(err.Error(), "i/o timeout") {
		t.Errorf("got %v; want an error that may be retried", err)
	}
}

// No go command may see secrets, not only go build: each may run git, or another
// toolchain that go.mod names.
func TestGoBuild_HidesWorkerSecrets(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "env")
	wrapGo(t, "echo \"called with $*\" >>"+seen+"; env >>"+seen)
	t.Setenv("FLY_API_TOKEN", "fm2_secret")
	t.Setenv("TEMPORAL_API_KEY", "key_secret")
	t.Setenv("GOFLAGS", "-tags=x")
	mustBuild(t, newSource(t, map[string]string{"apps/api/main.go": program}), newRequest(t))
	env, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	for _, planted := range []string{"fm2_secret", "key_secret", "-tags=x"} {
		for call := range strings.SplitSeq(string(env), "called with ") {
			if strings.Contains(call, planted) {
				args, _, _ := strings.Cut(call, "\n")
				t.Errorf("go %s sees %s", args, planted)
			}
		}
	}
	if !strings.Contains(string(env), "called with build") {
		t.Error("the wrapped go command was not called with build")
	}
}

func TestGoBuild_UnreachableRegistry(t *testing.T) {
	req := newRequest(t)
	req.Repository = "127.0.0.1:1/shop"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := new(Go).Build(ctx, newSource(t, map[string]string{"apps/api/main.go": program}), req)
	var failed *BuildError
	if err == nil || errors.As(err, &failed) || !strings.Contains(err.Error(), "push 127.0.0.1:1/shop") {
		t.Errorf("got %v", err)
	}
}
