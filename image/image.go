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

// What a registry may say that time will not cure. Test with errors.Is.
var (
	ErrNotFound     = errors.New("not in its registry") // no such image, or no longer
	ErrUnauthorized = errors.New("login refused")       // 401, 403
	ErrReference    = errors.New("not a reference to an image")
	ErrPlatform     = errors.New("not for that platform")
)

// A Source is what is built: an exact checkout of a revision, which the build
// reads and does not change.
type Source struct {
	Dir      string
	Revision release.Revision // for messages: nothing of it is in the image
}

// A Request says what to build of a Source, and where the image goes.
type Request struct {
	Name       string // of the build, for people: the app's
	Recipe     release.Recipe
	Repository string    // in a registry, as host/name
	Tag        string    // put on what is pushed besides its digest; "" for none
	Origin     string    // where the source is fetched from, without any login: an annotation
	Platform   string    // os/architecture; "" is what the recipe says
	Log        io.Writer // what the build says, for people; nil for nowhere
	Insecure   bool      // the registry may speak plain HTTP. One on loopback always may
}

// on is the platform to build for.
func (r Request) on() string { return cmp.Or(r.Platform, r.Recipe.On()) }

// A Built image is in its registry.
type Built struct {
	Image      release.Image // the image for one platform, never an index: what machines run
	Bytes      int64         // how much was pushed: what the registry did not have yet
	Notes      []string      // what a person should know
	Provenance *release.Provenance
}

// A BuildError is a source that can't be built. Building it again would end the
// same way.
type BuildError struct {
	Name   string // of the build
	Reason string // one line: what is wrong
	Output string // all that the compiler said
}

func (e *BuildError) Error() string { return fmt.Sprintf("build %s: %s", e.Name, e.Reason) }

// said tells what kind of answer of a registry err is.
func said(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	return err
}

func pin(repository name.Repository, digest string) release.Image {
	return release.Image(repository.Name() + "@" + digest)
}

// login are the options of somebody who logs in by those keys; nil is Docker's
// own settings.
func login(ctx context.Context, keys authn.Keychain) []remote.Option {
	if keys == nil {
		return with(ctx, nil)
	}
	return with(ctx, []remote.Option{remote.WithAuthFromKeychain(keys)})
}

// with puts what everybody needs before the caller's options, which win.
func with(ctx context.Context, options []remote.Option) []remote.Option {
	return append([]remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}, options...)
}

// repository parses the place an image goes to.
func (r Request) repository() (name.Repository, error) {
	var options []name.Option
	if r.Insecure {
		options = append(options, name.Insecure)
	}
	repository, err := name.NewRepository(r.Repository, options...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("repository %q: %w; it should be host/name", r.Repository, err)
	}
	return repository, nil
}

// say writes a line for people.
func (r Request) say(format string, args ...any) {
	if r.Log != nil {
		fmt.Fprintln(r.Log, strings.TrimRight(fmt.Sprintf(format, args...), "\n"))
	}
}
