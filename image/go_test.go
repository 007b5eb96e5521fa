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
	if Apart() {
		os.Exit(Compile(os.Stdin, os.Stdout))
	}
	log.SetOutput(io.Discard) // ko's
	os.Exit(m.Run())
}

const program = `package main

import "fmt"

func main() { fmt.Println("hello") }
`

// source is a checkout with those files, and a go.mod.
func source(t *testing.T, files map[string]string) Source {
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

// shop is a request for the app api, to a registry in this process.
func shop(t *testing.T) Request {
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

func TestTheImageRuns(t *testing.T) {
	var said bytes.Buffer
	req := shop(t)
	req.Log, req.Tag = &said, "r1"
	image := mustBuild(t, source(t, map[string]string{"apps/api/main.go": program}), req)
	if !strings.HasPrefix(string(image), req.Repository+"@sha256:") {
		t.Errorf("got %s", image)
	}
	if !strings.Contains(said.String(), image.Digest()) {
		t.Errorf("the log does not name the digest: %s", said.String())
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
			t.Errorf("%s has no business there", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(root, config.Config.Entrypoint[0])).Output()
	if err != nil || string(out) != "hello\n" {
		t.Errorf("it says %q, %v", out, err)
	}
}

// unpack writes an image's files below a fresh directory.
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

func TestTheSameSourceIsTheSameDigest(t *testing.T) {
	req := shop(t)
	files := map[string]string{"apps/api/main.go": program, "apps/other/main.go": program}
	one := mustBuild(t, source(t, files), req)

	// Another directory, another revision, another app changed, a worker with
	// other settings: all of it is no change of this app.
	files["apps/other/main.go"] = strings.ReplaceAll(program, "hello", "bye")
	src := source(t, files)
	src.Revision.Commit = strings.Repeat("cd", 20)
	for key, v := range map[string]string{"GOFLAGS": "-tags=x", "GOOS": "plan9", "GOAMD64": "v3", "CGO_ENABLED": "1", "SECRET": "x"} {
		t.Setenv(key, v)
	}
	if two := mustBuild(t, src, req); one != two {
		t.Errorf("two builds of one source: %s and %s", one, two)
	}
	files["apps/api/main.go"] = strings.ReplaceAll(program, "hello", "bye")
	if three := mustBuild(t, source(t, files), req); one == three {
		t.Error("another source has the same digest")
	}
}

func TestOtherPlatforms(t *testing.T) {
	req := shop(t)
	req.Platform = "linux/arm64"
	config, err := pull(t, mustBuild(t, source(t, map[string]string{"apps/api/main.go": program}), req)).ConfigFile()
	if err != nil || config.Architecture != "arm64" {
		t.Errorf("got %+v, %v", config, err)
	}
}

func TestAModuleOfItsOwn(t *testing.T) {
	mustBuild(t, source(t, map[string]string{
		"apps/api/go.mod": "module example.com/api\n\ngo 1.26\n", "apps/api/main.go": program,
	}), shop(t))
}

// What lies beside a checkout is the worker's: checkouts of other repositories,
// people's files. It does not get into an image.
func TestCodeComesFromTheCheckoutOnly(t *testing.T) {
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
		good  bool
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
			_, err := new(Go).Build(t.Context(), source(t, test.files), shop(t))
			var failed *BuildError
			switch {
			case test.good && err != nil:
				t.Error(err)
			case !test.good && (!errors.As(err, &failed) || !strings.Contains(err.Error(), "out of the repository")):
				t.Errorf("got %v; want what leads out to be refused", err)
			}
		})
	}
}

func TestSourcesThatCannotBeBuilt(t *testing.T) {
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
			req := shop(t)
			var said bytes.Buffer
			req.Recipe.Go, req.Log = test.pkg, &said
			_, err := new(Go).Build(t.Context(), source(t, test.files), req)
			var failed *BuildError
			if !errors.As(err, &failed) {
				t.Fatalf("got %v; want a BuildError", err)
			}
			for _, w := range test.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %q; want it to say %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			if failed.Output != "" && !strings.Contains(said.String(), failed.Output) {
				t.Errorf("the log lacks what the compiler said: %q", said.String())
			}
		})
	}
}

// standIn puts a go into PATH that does as the shell script says before it
// compiles.
func standIn(t *testing.T, script string) {
	t.Helper()
	everyTime(t, "if [ \"$1\" = build ]; then "+script+"; fi")
}

// everyTime is standIn for whatever the go command is asked to do.
func everyTime(t *testing.T, script string) {
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

func TestCancelledBuildsStopTheCompiler(t *testing.T) {
	// A compiler that says it has started, and then never ends by itself.
	fifo := filepath.Join(t.TempDir(), "started")
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Fatal(err)
	}
	// What go starts is the larger part of it, and does not end with go alone.
	standIn(t, "sleep 600 & echo $$ $! >"+fifo+"; wait")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	src, req := source(t, map[string]string{"apps/api/main.go": program}), shop(t)
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
		t.Errorf("got %v; want it cancelled, and no verdict on the source", err)
	}
	for _, pid := range strings.Fields(string(pids)) {
		if !ends(pid) {
			t.Errorf("process %s of the compiler still runs", pid)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// ends says whether a process is gone within seconds. One that nobody has
// collected yet is a zombie.
func ends(pid string) bool {
	for range 100 {
		state, err := exec.Command("ps", "-o", "stat=", "-p", pid).Output()
		if err != nil || bytes.HasPrefix(bytes.TrimSpace(state), []byte("Z")) {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

func TestTroubleOfTheMomentIsNoVerdict(t *testing.T) {
	standIn(t, "echo 'go: example.com/x: dial tcp 192.0.2.1:443: i/o timeout' >&2; exit 1")
	_, err := new(Go).Build(t.Context(), source(t, map[string]string{"apps/api/main.go": program}), shop(t))
	var failed *BuildError
	if err == nil || errors.As(err, &failed) || !strings.Contains(err.Error(), "i/o timeout") {
		t.Errorf("got %v; want an error that may be tried again", err)
	}
}

// Asking for the package and its files counts, too: the go command may run git,
// or another toolchain that go.mod names.
func TestTheGoCommandSeesNoSecrets(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "env")
	everyTime(t, "echo \"called with $*\" >>"+seen+"; env >>"+seen)
	t.Setenv("FLY_API_TOKEN", "fm2_secret")
	t.Setenv("TEMPORAL_API_KEY", "key_secret")
	t.Setenv("GOFLAGS", "-tags=x")
	mustBuild(t, source(t, map[string]string{"apps/api/main.go": program}), shop(t))
	env, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	for _, planted := range []string{"fm2_secret", "key_secret", "-tags=x"} {
		for call := range strings.SplitSeq(string(env), "called with ") {
			if strings.Contains(call, planted) {
				words, _, _ := strings.Cut(call, "\n")
				t.Errorf("go %s sees %s", words, planted)
			}
		}
	}
	if !strings.Contains(string(env), "called with build") {
		t.Error("the stand-in was never asked to build")
	}
}

func TestARegistryThatIsAwayIsNoVerdictOnTheSource(t *testing.T) {
	req := shop(t)
	req.Repository = "127.0.0.1:1/shop"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := new(Go).Build(ctx, source(t, map[string]string{"apps/api/main.go": program}), req)
	var failed *BuildError
	if err == nil || errors.As(err, &failed) || !strings.Contains(err.Error(), "push 127.0.0.1:1/shop") {
		t.Errorf("got %v", err)
	}
}
