package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	gobuild "go/build"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/ko/pkg/build"

	"github.com/microbima/release/release"
)

// Go builds Go programs without Docker. The image is a static binary on the
// default base, for which nothing is pulled, or on the base image that the recipe
// names; of that no layer is pulled that the target registry can mount. Go needs
// the Go toolchain in PATH, and a program that calls IsCompilerProcess first. The
// zero value is ready to use. One value may build several apps concurrently.
type Go struct {
	Keychain authn.Keychain // logins for registries; nil for Docker's settings
}

// programUser is the user ID that programs run as on the default base. It is not
// root and owns no files.
const programUser = "65532"

// Build compiles the main package that req.Recipe.Go names, pushes the image in an
// index that records what it was built from, and returns the image with its
// digest. A source that does not compile, or has no such package, is a
// *BuildError.
func (g *Go) Build(ctx context.Context, src Source, req Request) (Built, error) {
	repository, err := req.repository()
	if err != nil {
		return Built{}, err
	}
	platform, err := v1.ParsePlatform(req.platform())
	if err != nil {
		return Built{}, fmt.Errorf("platform %q: %w", req.platform(), err)
	}
	if err := checkMainPackage(src, req, *platform); err != nil {
		return Built{}, err
	}
	req.logf("go build %s for %s at %s", req.Recipe.Go, platform, src.Revision.Short())
	start := time.Now()
	annotations := Annotations(req, src.Revision)
	base, err := g.lookUpBase(ctx, req.Recipe, platform.String(), req.Insecure)
	switch {
	case isPermanent(err):
		return Built{}, &BuildError{Name: req.Name, Reason: fmt.Sprintf("%s = %q in release.toml: %v", settingName(req, "base"), req.Recipe.Base, err)}
	case err != nil:
		return Built{}, fmt.Errorf("build %s: %s: %w", req.Name, settingName(req, "base"), err)
	case base != nil:
		annotations[annotationBase], annotations[annotationBaseAt] = base.Name, base.reference.DigestStr()
		req.logf("on %s, which is %s", base.Name, base.reference)
	}
	dir, err := os.MkdirTemp("", "release-build-")
	if err != nil {
		return Built{}, fmt.Errorf("build %s: %w", req.Name, err)
	}
	defer os.RemoveAll(dir)
	img, err := compileInSubprocess(ctx, dir, src, req, *platform, base)
	if err != nil {
		var failed *BuildError
		if errors.As(err, &failed) {
			req.logf("%s", failed.Output)
		}
		return Built{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Built{}, err
	}
	req.logf("built %s in %v", digest, time.Since(start).Round(time.Millisecond))
	built := Built{Image: imageRef(repository, digest.String())}
	index := newIndex(img, *platform, annotations)
	if built.Bytes, err = g.pushIndex(ctx, repository, req.Tag, index); err != nil {
		return Built{}, err
	}
	req.logf("pushed %s: %d bytes that the registry did not have", built.Image, built.Bytes)
	return built, nil
}

// Ready returns the reason why a recipe can't be built on this worker, or nil. An
// unreachable registry of its base image is not an error.
func (g *Go) Ready(ctx context.Context, recipe release.Recipe) error {
	if err := checkSystem(); err != nil {
		return err
	}
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("this worker has no Go toolchain in PATH: %w; install it from https://go.dev/dl", err)
	}
	_, err := g.lookUpBase(ctx, recipe, recipe.PlatformOrDefault(), false)
	if isPermanent(err) || errors.Is(err, ErrUnauthorized) {
		return fmt.Errorf("base %q: %w", recipe.Base, err)
	}
	return nil
}

// settingName returns the path of an app's setting in release.toml.
func settingName(req Request, key string) string {
	app, _, _ := strings.Cut(req.Name, " (") // a build's name may list environments
	return "apps." + app + "." + key
}

// pushIndex pushes an index under a tag, or under its digest if there is no tag. It
// returns the number of bytes sent.
func (g *Go) pushIndex(ctx context.Context, repository name.Repository, tag string, index v1.ImageIndex) (int64, error) {
	if tag != "" {
		return push(repository.Tag(tag), index, loginOptions(ctx, g.Keychain), remote.DefaultTransport)
	}
	digest, err := index.Digest()
	if err != nil {
		return 0, err
	}
	return push(repository.Digest(digest.String()), index, loginOptions(ctx, g.Keychain), remote.DefaultTransport)
}

// checkMainPackage returns a *BuildError that names the setting if the recipe's
// package is not a program. It does not report what the compiler reports better.
func checkMainPackage(src Source, req Request, platform v1.Platform) error {
	invalid := func(format string, args ...any) error {
		return &BuildError{Name: req.Name, Reason: fmt.Sprintf("%s = %q in release.toml: ", settingName(req, "go"), req.Recipe.Go) + fmt.Sprintf(format, args...)}
	}
	local, ok := strings.CutPrefix(req.Recipe.Go, "./")
	if !ok || !filepath.IsLocal(local) {
		return invalid("must be a directory of the repository, such as ./apps/%s", req.Name)
	}
	dir := filepath.Join(src.Dir, local)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return invalid("there is no such directory at %s", src.Revision.Short())
	}
	conf := gobuild.Default
	conf.GOOS, conf.GOARCH, conf.CgoEnabled = platform.OS, platform.Architecture, false
	pkg, err := conf.ImportDir(dir, 0)
	var none *gobuild.NoGoError
	switch {
	case errors.As(err, &none):
		return invalid("there are no Go files for %s in it", platform)
	case err == nil && pkg.Name != "main":
		return invalid("it has package %s; must be package main", pkg.Name)
	}
	return nil
}

// compileProgram runs the compiler through ko and returns the image without
// pushing it. It is called in a compiler process. base is nil for the default base.
func compileProgram(ctx context.Context, src Source, req Request, platform v1.Platform, base *baseImage) (v1.Image, error) {
	module, err := findModule(src, req)
	if err != nil {
		return nil, err
	}
	if err := checkModules(ctx, src, req, module); err != nil {
		return nil, err
	}
	builder, err := newKoBuilder(ctx, module, platform, base)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Rel(module, filepath.Join(src.Dir, req.Recipe.Go))
	if err != nil {
		return nil, err
	}
	path, err := builder.QualifyImport("./" + filepath.ToSlash(dir))
	if err != nil {
		_, stderr, _ := strings.Cut(err.Error(), "stderr: ") // the output of go list
		output := cmp.Or(stderr, err.Error())
		return nil, &BuildError{Name: req.Name, Reason: strings.Join(strings.Fields(output), " "), Output: output}
	}
	result, err := builder.Build(ctx, path)
	if err != nil {
		return nil, compilerError(ctx, req, err)
	}
	img, ok := result.(v1.Image)
	if !ok {
		return nil, fmt.Errorf("build %s: ko returned a %T instead of one image", req.Name, result)
	}
	return img, nil
}

// newKoBuilder returns a ko builder for the module in a directory. Its images do
// not depend on the time or on the worker.
func newKoBuilder(ctx context.Context, module string, platform v1.Platform, base *baseImage) (build.Interface, error) {
	getBase, err := koBase(base, platform)
	if err != nil {
		return nil, err
	}
	options := []build.Option{
		build.WithBaseImages(getBase),
		build.WithPlatforms(platform.String()),
		build.WithCreationTime(v1.Time{Time: time.Unix(0, 0)}),
		build.WithKoDataCreationTime(v1.Time{Time: time.Unix(0, 0)}),
		build.WithTrimpath(true),
		build.WithDefaultFlags([]string{"-buildvcs=false", "-mod=" + modFlag(module)}),
		build.WithDefaultLdflags([]string{"-s", "-w"}),
		build.WithDisabledSBOM(),
	}
	if base == nil { // a base image names its own user
		options = append(options, build.WithUser(programUser))
	}
	return build.NewGo(ctx, module, options...)
}

// koBase returns a function that gives ko the base image.
func koBase(base *baseImage, platform v1.Platform) (build.GetBase, error) {
	img, err := defaultBase(platform)
	from := "scratch"
	if base != nil {
		img, err = partial.CompressedToImage(base)
		from = base.Name
	}
	if err != nil {
		return nil, err
	}
	ref, err := name.ParseReference(from)
	return func(context.Context, string) (name.Reference, build.Result, error) { return ref, img, nil }, err
}

// findModule returns the directory of the go.mod that the app's package belongs to.
func findModule(src Source, req Request) (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return "", fmt.Errorf("build %s: this worker has no Go toolchain in PATH: %w", req.Name, err)
	}
	for dir := filepath.Join(src.Dir, req.Recipe.Go); ; dir = filepath.Dir(dir) {
		if fileExists(filepath.Join(dir, "go.mod")) {
			return dir, nil
		}
		if dir == filepath.Clean(src.Dir) {
			return "", &BuildError{Name: req.Name, Reason: fmt.Sprintf("neither %s nor a directory above it has a go.mod", req.Recipe.Go)}
		}
	}
}

// compilerError returns a *BuildError for a source that does not compile, the cause
// of ctx for a cancelled build, and err for anything else.
func compilerError(ctx context.Context, req Request, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("build %s: %w", req.Name, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Exited() {
		return fmt.Errorf("build %s: %w", req.Name, err)
	}
	// ko's error is the exit code followed by the compiler's output.
	_, output, _ := strings.Cut(err.Error(), exit.Error()+": ")
	output = strings.TrimSpace(output)
	if slices.ContainsFunc(transientErrors, func(text string) bool { return strings.Contains(output, text) }) {
		return fmt.Errorf("build %s: %s: %w", req.Name, output, exit)
	}
	reason := "it does not compile"
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			reason += ": " + line
			break
		}
	}
	return &BuildError{Name: req.Name, Reason: reason, Output: output}
}

// transientErrors are texts in the compiler's output that are not errors of the
// source, although the exit code is the same. A retry may succeed.
var transientErrors = []string{
	"dial tcp", "i/o timeout", "TLS handshake", "connection reset", "connection refused", "no such host",
	"no space left on device", "cannot allocate memory", "signal: killed",
}

// modFlag returns the value of the go command's -mod flag for a module: vendor if it
// has a vendor directory, else readonly, so that go.mod is not changed.
func modFlag(dir string) string {
	if fileExists(filepath.Join(dir, "vendor", "modules.txt")) {
		return "vendor"
	}
	return "readonly"
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
