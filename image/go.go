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

// Go builds Go programs without Docker: a static binary on a base of three
// files, which is made on the spot, so that nothing is pulled, or on the base
// that the recipe names, of which no layer is pulled that a registry can take
// from another. It needs the Go
// toolchain in PATH, and a program that asks Apart first. The zero value is
// ready; one value may build several apps at a time.
type Go struct {
	Keychain authn.Keychain // logs in to registries; nil is Docker's own settings
}

// user is who the program runs as: not root, and nobody with files.
const user = "65532"

// Build compiles the main package that req.Recipe.Go names, pushes the image in
// an index that says what it was built of, and returns it with its digest. A source that does not compile, or has no such
// package, is a *BuildError.
func (g *Go) Build(ctx context.Context, src Source, req Request) (Built, error) {
	repository, err := req.repository()
	if err != nil {
		return Built{}, err
	}
	platform, err := v1.ParsePlatform(req.on())
	if err != nil {
		return Built{}, fmt.Errorf("platform %q: %w", req.on(), err)
	}
	if err := mainPackage(src, req, *platform); err != nil {
		return Built{}, err
	}
	req.say("go build %s for %s at %s", req.Recipe.Go, platform, src.Revision.Short())
	began := time.Now()
	about := Annotations(req, src.Revision)
	base, err := g.choose(ctx, req.Recipe, platform.String(), req.Insecure)
	switch {
	case final(err):
		return Built{}, &BuildError{Name: req.Name, Reason: fmt.Sprintf("%s = %q in release.toml: %v", setting(req, "base"), req.Recipe.Base, err)}
	case err != nil:
		return Built{}, fmt.Errorf("build %s: %s: %w", req.Name, setting(req, "base"), err)
	case base != nil:
		about[annotationBase], about[annotationBaseAt] = base.Name, base.reference.DigestStr()
		req.say("on %s, which is %s", base.Name, base.reference)
	}
	dir, err := os.MkdirTemp("", "release-build-")
	if err != nil {
		return Built{}, fmt.Errorf("build %s: %w", req.Name, err)
	}
	defer os.RemoveAll(dir)
	img, err := compileApart(ctx, dir, src, req, *platform, base)
	if err != nil {
		var failed *BuildError
		if errors.As(err, &failed) {
			req.say("%s", failed.Output)
		}
		return Built{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Built{}, err
	}
	req.say("built %s in %v", digest, time.Since(began).Round(time.Millisecond))
	built := Built{Image: pin(repository, digest.String())}
	index := indexOf(img, *platform, about)
	if built.Bytes, err = g.push(ctx, repository, req.Tag, index); err != nil {
		return Built{}, err
	}
	req.say("pushed %s: %d bytes that the registry did not have", built.Image, built.Bytes)
	return built, nil
}

// Ready says why a recipe can't be built here, or nil. That its base's registry
// does not answer now is no reason.
func (g *Go) Ready(ctx context.Context, recipe release.Recipe) error {
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("this worker has no Go toolchain in PATH: %w; install it from https://go.dev/dl", err)
	}
	_, err := g.choose(ctx, recipe, recipe.On(), false)
	if final(err) || errors.Is(err, ErrUnauthorized) {
		return fmt.Errorf("base %q: %w", recipe.Base, err)
	}
	return nil
}

// setting is how release.toml calls that of an app.
func setting(req Request, key string) string {
	app, _, _ := strings.Cut(req.Name, " (") // a build may be of some of its environments
	return "apps." + app + "." + key
}

// push writes an index under a tag, or under its digest alone.
func (g *Go) push(ctx context.Context, repository name.Repository, tag string, index v1.ImageIndex) (int64, error) {
	if tag != "" {
		return push(repository.Tag(tag), index, login(ctx, g.Keychain), remote.DefaultTransport)
	}
	digest, err := index.Digest()
	if err != nil {
		return 0, err
	}
	return push(repository.Digest(digest.String()), index, login(ctx, g.Keychain), remote.DefaultTransport)
}

// mainPackage refuses what can't become a program, in words that name the
// setting.
func mainPackage(src Source, req Request, platform v1.Platform) error {
	wrong := func(format string, args ...any) error {
		return &BuildError{Name: req.Name, Reason: fmt.Sprintf("%s = %q in release.toml: ", setting(req, "go"), req.Recipe.Go) + fmt.Sprintf(format, args...)}
	}
	local, ok := strings.CutPrefix(req.Recipe.Go, "./")
	if !ok || !filepath.IsLocal(local) {
		return wrong("it should be a directory of the repository, as ./apps/%s", req.Name)
	}
	dir := filepath.Join(src.Dir, local)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return wrong("there is no such directory at %s", src.Revision.Short())
	}
	conf := gobuild.Default
	conf.GOOS, conf.GOARCH, conf.CgoEnabled = platform.OS, platform.Architecture, false
	pkg, err := conf.ImportDir(dir, 0)
	var none *gobuild.NoGoError
	switch {
	case errors.As(err, &none):
		return wrong("there are no Go files for %s in it", platform)
	case err == nil && pkg.Name != "main":
		return wrong("it holds package %s; a program is package main", pkg.Name)
	}
	return nil // what else is wrong the compiler says better
}

// compile runs the compiler by way of ko and returns the image, not pushed. The
// process that it is in is Apart.
func compile(ctx context.Context, src Source, req Request, platform v1.Platform, chosen *chosenBase) (v1.Image, error) {
	under, err := underneath(chosen, platform)
	if err != nil {
		return nil, err
	}
	module, err := moduleOf(src, req)
	if err != nil {
		return nil, err
	}
	if err := within(ctx, src, req, module); err != nil {
		return nil, err
	}
	options := []build.Option{
		build.WithBaseImages(under),
		build.WithPlatforms(platform.String()),
		build.WithCreationTime(v1.Time{Time: time.Unix(0, 0)}),
		build.WithKoDataCreationTime(v1.Time{Time: time.Unix(0, 0)}),
		build.WithTrimpath(true),
		build.WithDefaultFlags([]string{"-buildvcs=false", "-mod=" + modules(module)}),
		build.WithDefaultLdflags([]string{"-s", "-w"}),
		build.WithDisabledSBOM(),
	}
	if chosen == nil { // another base says itself who programs run as
		options = append(options, build.WithUser(user))
	}
	builder, err := build.NewGo(ctx, module, options...)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Rel(module, filepath.Join(src.Dir, req.Recipe.Go))
	if err != nil {
		return nil, err
	}
	path, err := builder.QualifyImport("./" + filepath.ToSlash(dir))
	if err != nil {
		_, words, _ := strings.Cut(err.Error(), "stderr: ") // what go list said
		words = cmp.Or(words, err.Error())
		return nil, &BuildError{Name: req.Name, Reason: strings.Join(strings.Fields(words), " "), Output: words}
	}
	result, err := builder.Build(ctx, path)
	if err != nil {
		return nil, failure(ctx, req, err)
	}
	img, ok := result.(v1.Image)
	if !ok {
		return nil, fmt.Errorf("build %s: ko made a %T, not one image", req.Name, result)
	}
	return img, nil
}

// underneath is what the program is put on, as ko asks for it.
func underneath(chosen *chosenBase, platform v1.Platform) (build.GetBase, error) {
	img, err := base(platform)
	from := "scratch"
	if chosen != nil {
		img, err = partial.CompressedToImage(chosen)
		from = chosen.Name
	}
	if err != nil {
		return nil, err
	}
	ref, err := name.ParseReference(from)
	return func(context.Context, string) (name.Reference, build.Result, error) { return ref, img, nil }, err
}

// moduleOf is the directory of the go.mod that the app's package belongs to.
func moduleOf(src Source, req Request) (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return "", fmt.Errorf("build %s: this worker has no Go toolchain in PATH: %w", req.Name, err)
	}
	for dir := filepath.Join(src.Dir, req.Recipe.Go); ; dir = filepath.Dir(dir) {
		if exists(filepath.Join(dir, "go.mod")) {
			return dir, nil
		}
		if dir == filepath.Clean(src.Dir) {
			return "", &BuildError{Name: req.Name, Reason: fmt.Sprintf("neither %s nor a directory above it has a go.mod", req.Recipe.Go)}
		}
	}
}

// failure tells a source that does not compile from a build that was stopped,
// and from one that something else went wrong with.
func failure(ctx context.Context, req Request, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("build %s: %w", req.Name, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Exited() {
		return fmt.Errorf("build %s: %w", req.Name, err)
	}
	// ko puts the compiler's words behind its exit code.
	_, words, _ := strings.Cut(err.Error(), exit.Error()+": ")
	words = strings.TrimSpace(words)
	if slices.ContainsFunc(passing, func(sign string) bool { return strings.Contains(words, sign) }) {
		return fmt.Errorf("build %s: %s: %w", req.Name, words, exit)
	}
	reason := "it does not compile"
	for line := range strings.Lines(words) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			reason += ": " + line
			break
		}
	}
	return &BuildError{Name: req.Name, Reason: reason, Output: words}
}

// passing are the signs of trouble that is not the source's: the compiler's exit
// code is the same for all, and these may be gone the next time.
var passing = []string{
	"dial tcp", "i/o timeout", "TLS handshake", "connection reset", "connection refused", "no such host",
	"no space left on device", "cannot allocate memory", "signal: killed",
}

// modules is how dependencies are found: as go.mod says, and never changing it.
func modules(dir string) string {
	if exists(filepath.Join(dir, "vendor", "modules.txt")) {
		return "vendor"
	}
	return "readonly"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
