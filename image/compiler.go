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
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/microbima/release/internal/procgroup"
	"github.com/microbima/release/release"
)

// compilerVar is set in the environment of a compiler process. Source is compiled
// in a process of its own, because ko runs go and git with the environment of its
// process, which in a worker holds tokens, and because such a process can be
// killed together with its children.
const compilerVar = "RELEASE_COMPILER_PROCESS"

// IsCompilerProcess reports whether Go.Build started this process to compile. The
// main function of a program that builds images calls it first, and if it is true
// calls RunCompiler and exits with its result.
func IsCompilerProcess() bool { return os.Getenv(compilerVar) != "" }

// A compileTask is the input of a compiler process, as JSON.
type compileTask struct {
	Source    Source
	Name      string
	Recipe    release.Recipe
	Platform  v1.Platform
	Base      *baseImage // nil for the default base
	OutputDir string     // for the image, as an OCI layout without the layers of Base
}

// A compileResult is the output of a compiler process, as JSON. It is empty on
// success.
type compileResult struct {
	Failed *BuildError // the source can't be built
	Error  string      // any other error
}

// RunCompiler reads a task from in, compiles, and writes the result to out. It
// returns the exit code of the process.
func RunCompiler(in io.Reader, out io.Writer) int {
	log.SetOutput(io.Discard) // ko logs there
	var task compileTask
	var result compileResult
	err := json.NewDecoder(in).Decode(&task)
	if err == nil {
		err = task.compile(context.Background()) // a signal ends it, not a context
	}
	if err != nil && !errors.As(err, &result.Failed) {
		result.Error = err.Error()
	}
	if json.NewEncoder(out).Encode(result) != nil {
		return 1
	}
	return 0
}

// compile compiles and writes the image to OutputDir.
func (t compileTask) compile(ctx context.Context) error {
	img, err := compileProgram(ctx, t.Source, Request{Name: t.Name, Recipe: t.Recipe}, t.Platform, t.Base)
	if err != nil {
		return err
	}
	path, err := layout.Write(t.OutputDir, empty.Index)
	if err == nil {
		err = t.Base.writeWithoutBase(img, path)
	}
	if err != nil {
		return fmt.Errorf("build %s: write the image: %w", t.Name, err)
	}
	return nil
}

// compileInSubprocess compiles in another process, which writes the image and all
// temporary files below dir. The caller removes dir, also after a killed process.
func compileInSubprocess(ctx context.Context, dir string, src Source, req Request, platform v1.Platform, base *baseImage) (v1.Image, error) {
	if IsCompilerProcess() {
		return nil, errors.New("this program does not call image.IsCompilerProcess before it builds")
	}
	task := compileTask{Source: src, Name: req.Name, Recipe: req.Recipe, Platform: platform, Base: base, OutputDir: filepath.Join(dir, "image")}
	tempDir := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tempDir, 0o700); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	result, err := task.runSubprocess(ctx, compilerEnv(os.Environ(), src.Dir, tempDir, platform))
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("build %s: %w", req.Name, context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("build %s: compiler process: %w", req.Name, err)
	case result.Failed != nil:
		return nil, result.Failed
	case result.Error != "":
		return nil, errors.New(result.Error)
	}
	return task.readImage()
}

// readImage reads the image that the compiler process wrote.
func (t compileTask) readImage() (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(t.OutputDir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("build %s: %s must hold one image: %w", t.Name, t.OutputDir, err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil || t.Base == nil {
		return img, err
	}
	return imageOnBase{img, t.Base}, nil
}

// runSubprocess runs this program again as a compiler process and returns its
// result. When ctx ends, the process and its children are killed.
func (t compileTask) runSubprocess(ctx context.Context, env []string) (result compileResult, err error) {
	path, err := executablePath()
	if err != nil {
		return result, err
	}
	input, err := json.Marshal(t)
	if err != nil {
		return result, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(env, compilerVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	procgroup.Set(cmd)
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return result, fmt.Errorf("%w %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		return result, fmt.Errorf("read its result: %w", err)
	}
	return result, nil
}

// executablePath returns the path of the running program. On Linux it is the
// same program even if the file was replaced by another version.
func executablePath() (string, error) {
	const running = "/proc/self/exe"
	if fileExists(running) {
		return running, nil
	}
	return os.Executable()
}

// allowedEnv lists the env vars of a worker that a compiler process gets: where
// files are and where modules come from. Tokens are not among them.
var allowedEnv = []string{
	"PATH", "HOME", "USER", "LANG", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK",
	"GOROOT", "GOPATH", "GOCACHE", "GOMODCACHE", "GOENV", "GOTOOLCHAIN",
	"GOPROXY", "GOPRIVATE", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOINSECURE", "GOAUTH", "NETRC",
	"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// compilerEnv returns the environment of a compiler process: the allowed env vars
// of the worker, and fixed values for those that change the compiled program.
func compilerEnv(worker []string, sourceDir, tempDir string, platform v1.Platform) (env []string) {
	for _, entry := range worker {
		if key, _, _ := strings.Cut(entry, "="); slices.Contains(allowedEnv, key) {
			env = append(env, entry)
		}
	}
	workspace := "off" // a go.work above the checkout is not part of the revision
	if path := filepath.Join(sourceDir, "go.work"); fileExists(path) {
		workspace = path
	}
	return append(env,
		"TMPDIR="+tempDir, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK="+workspace,
		"GOOS="+platform.OS, "GOARCH="+platform.Architecture,
		"GOAMD64=v1", "GOARM64=v8.0", "GIT_TERMINAL_PROMPT=0",
	)
}
