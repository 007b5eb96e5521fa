package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/microbima/release/release"
)

// apart is set for a process that Build has started. Source is compiled in a
// process of its own, because ko runs go and git with the environment of the
// process it is in, which has a worker's tokens, and because such a process can
// be killed with all that it started.
const apart = "RELEASE_COMPILES_APART"

// Apart says whether this process was started by Build to compile. A program
// that builds asks this first of all, and if so calls Compile and ends.
func Apart() bool { return os.Getenv(apart) != "" }

// A task is what a compiling process is told.
type task struct {
	Source   Source
	Name     string
	Recipe   release.Recipe
	Platform v1.Platform
	Base     *chosenBase // nil is the one of three files
	Into     string      // a directory for the image, as an OCI layout without the layers of Base
}

// An answer is what it says when it is done: nothing, why the source can't be
// built, or what else went wrong.
type answer struct {
	Failed *BuildError
	Wrong  string
}

// Compile reads a task, does it and writes an answer. It returns the exit code.
func Compile(in io.Reader, out io.Writer) int {
	log.SetOutput(io.Discard) // ko's
	var t task
	var a answer
	err := json.NewDecoder(in).Decode(&t)
	if err == nil {
		err = t.do(context.Background()) // ended by a signal, not by a context
	}
	if err != nil && !errors.As(err, &a.Failed) {
		a.Wrong = err.Error()
	}
	if json.NewEncoder(out).Encode(a) != nil {
		return 1 // there is nobody to tell
	}
	return 0
}

func (t task) do(ctx context.Context) error {
	img, err := compile(ctx, t.Source, Request{Name: t.Name, Recipe: t.Recipe}, t.Platform, t.Base)
	if err != nil {
		return err
	}
	path, err := layout.Write(t.Into, empty.Index)
	if err == nil {
		err = t.Base.write(img, path)
	}
	if err != nil {
		return fmt.Errorf("build %s: write the image: %w", t.Name, err)
	}
	return nil
}

// compileApart has another process compile, and keeps the image below dir. All
// temporary files are there, too, so that those of a process that was killed go
// with it.
func compileApart(ctx context.Context, dir string, src Source, req Request, platform v1.Platform, base *chosenBase) (v1.Image, error) {
	if Apart() {
		return nil, errors.New("this program does not ask image.Apart before it builds")
	}
	t := task{Source: src, Name: req.Name, Recipe: req.Recipe, Platform: platform, Base: base, Into: filepath.Join(dir, "image")}
	scratch := filepath.Join(dir, "tmp")
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	a, err := t.send(ctx, environment(os.Environ(), src.Dir, scratch, platform))
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("build %s: %w", req.Name, context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("build %s: the process that compiles: %w", req.Name, err)
	case a.Failed != nil:
		return nil, a.Failed
	case a.Wrong != "":
		return nil, errors.New(a.Wrong)
	}
	index, err := layout.ImageIndexFromPath(t.Into)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("build %s: there is not one image in %s: %w", req.Name, t.Into, err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil || base == nil {
		return img, err
	}
	return onBase{img, base}, nil
}

// send runs this program once more, in a process group of its own, and waits
// for its answer. When ctx ends, so does the whole group.
func (t task) send(ctx context.Context, environ []string) (a answer, err error) {
	path, err := self()
	if err != nil {
		return a, err
	}
	words, err := json.Marshal(t)
	if err != nil {
		return a, err
	}
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(environ, apart+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(words), &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return a, fmt.Errorf("%w %s", err, bytes.TrimSpace(said.Bytes()))
	}
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		return a, fmt.Errorf("its answer: %w", err)
	}
	return a, nil
}

// self is the file of this very program. Linux knows it also when another
// version has been put in its place.
func self() (string, error) {
	const same = "/proc/self/exe"
	if exists(same) {
		return same, nil
	}
	return os.Executable()
}

// visible are the variables of a worker that compiling may see: where things
// are and where modules come from. Tokens are not among them.
var visible = []string{
	"PATH", "HOME", "USER", "LANG", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK",
	"GOROOT", "GOPATH", "GOCACHE", "GOMODCACHE", "GOENV", "GOTOOLCHAIN",
	"GOPROXY", "GOPRIVATE", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOINSECURE", "GOAUTH", "NETRC",
	"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// environment is that of the process that compiles: what is visible of the
// worker's, and what would change the program if a worker could set it.
func environment(worker []string, source, scratch string, platform v1.Platform) (env []string) {
	for _, entry := range worker {
		if key, _, _ := strings.Cut(entry, "="); slices.Contains(visible, key) {
			env = append(env, entry)
		}
	}
	workspace := "off" // one that lies above the checkout is somebody else's
	if path := filepath.Join(source, "go.work"); exists(path) {
		workspace = path
	}
	return append(env,
		"TMPDIR="+scratch, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK="+workspace,
		"GOOS="+platform.OS, "GOARCH="+platform.Architecture,
		"GOAMD64=v1", "GOARM64=v8.0", "GIT_TERMINAL_PROMPT=0",
	)
}
