package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/microbima/release/release"
)

// Permanent errors of a registry. Test with errors.Is.
var (
	ErrNotFound     = errors.New("not in its registry") // no such image, or it was deleted
	ErrUnauthorized = errors.New("login refused")       // 401, 403
	ErrReference    = errors.New("not a reference to an image")
	ErrPlatform     = errors.New("not for that platform")
)

// A Source is an exact checkout of a revision. A build does not change it.
type Source struct {
	Dir      string
	Revision release.Revision // for messages and annotations: it is not in the image
}

// A Request says what to build from a Source, and where to push the image.
type Request struct {
	Name       string // of the build, in messages: the app's name
	Recipe     release.Recipe
	Repository string    // in a registry, as host/name
	Tag        string    // of the pushed index; "" for none
	Origin     string    // the address that the source was fetched from, for an annotation
	Platform   string    // os/architecture; "" for the recipe's
	Log        io.Writer // the build's log; nil for none
	Insecure   bool      // use plain HTTP with the registry; always allowed on loopback
}

// platform returns the platform to build for.
func (r Request) platform() string { return cmp.Or(r.Platform, r.Recipe.PlatformOrDefault()) }

// A Built is an image in its registry.
type Built struct {
	Image      release.Image // the image for one platform, never an index
	Bytes      int64         // sent to the registry, which did not have them yet
	Notes      []string      // hints for the user
	Provenance *release.Provenance
}

// A BuildError is a permanent error: the source can't be built.
type BuildError struct {
	Name   string // of the build
	Reason string // one line
	Output string // the compiler's whole output
}

func (e *BuildError) Error() string { return fmt.Sprintf("build %s: %s", e.Name, e.Reason) }

// registryError adds ErrNotFound or ErrUnauthorized to an error whose HTTP status
// says so.
func registryError(err error) error {
	var failed *transport.Error
	if !errors.As(err, &failed) {
		return err
	}
	switch failed.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	return err
}

// imageRef returns the reference of an image by its digest.
func imageRef(repository name.Repository, digest string) release.Image {
	return release.Image(repository.Name() + "@" + digest)
}

// loginOptions returns the options of requests with the logins of a keychain; nil
// is Docker's settings.
func loginOptions(ctx context.Context, keychain authn.Keychain) []remote.Option {
	if keychain == nil {
		return withDefaults(ctx, nil)
	}
	return withDefaults(ctx, []remote.Option{remote.WithAuthFromKeychain(keychain)})
}

// withDefaults returns options that add ctx and Docker's logins to the given ones,
// which take precedence.
func withDefaults(ctx context.Context, options []remote.Option) []remote.Option {
	return append([]remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}, options...)
}

// repository parses the repository to push to.
func (r Request) repository() (name.Repository, error) {
	var options []name.Option
	if r.Insecure {
		options = append(options, name.Insecure)
	}
	repository, err := name.NewRepository(r.Repository, options...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("repository %q: %w; must be host/name", r.Repository, err)
	}
	return repository, nil
}

// logf writes a line to the build's log.
func (r Request) logf(format string, args ...any) {
	if r.Log != nil {
		fmt.Fprintln(r.Log, strings.TrimRight(fmt.Sprintf(format, args...), "\n"))
	}
}
