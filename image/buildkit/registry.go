package buildkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/image"
)

func repositoryOf(req image.Request) (name.Repository, error) {
	var options []name.Option
	if req.Insecure {
		options = append(options, name.Insecure)
	}
	repository, err := name.NewRepository(req.Repository, options...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("repository %q: %w; it should be host/name", req.Repository, err)
	}
	return repository, nil
}

// insecure says whether a registry may speak plain HTTP.
func insecure(repository name.Repository) bool { return repository.Scheme() == "http" }

func (b *Builder) keychain() authn.Keychain {
	return cmp.Or[authn.Keychain](b.Keychain, authn.DefaultKeychain)
}

func (b *Builder) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(b.keychain())}
}

// logins answers BuildKit when a registry asks who it is. A build sees none of it.
func (b *Builder) logins() session.Attachable {
	return authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: func(ctx context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
			if host == authprovider.DockerHubRegistryHost {
				host = name.DefaultRegistry
			}
			registry, err := name.NewRegistry(host)
			if err != nil {
				return types.AuthConfig{}, err
			}
			login, err := authn.Resolve(ctx, b.keychain(), registry)
			if err != nil {
				return types.AuthConfig{}, err
			}
			said, err := authn.Authorization(ctx, login)
			if err != nil {
				return types.AuthConfig{}, err
			}
			return types.AuthConfig{Username: said.Username, Password: said.Password, Auth: said.Auth, IdentityToken: said.IdentityToken, RegistryToken: said.RegistryToken, ServerAddress: host}, nil
		},
	})
}

// mayPush fails with image.ErrUnauthorized where the registry does not take the
// login. Any other answer is for BuildKit to find out: it may reach a registry by
// ways of its own.
func (b *Builder) mayPush(ctx context.Context, repository name.Repository) error {
	err := remote.CheckPushPermission(repository.Tag("release"), b.keychain(), within{ctx})
	var said *transport.Error
	if !errors.As(err, &said) || said.StatusCode != http.StatusUnauthorized && said.StatusCode != http.StatusForbidden {
		return nil
	}
	return fmt.Errorf("push to %s: %w: %s said %v; the worker needs a login that may push there: a token of that organization for Fly's registry, or docker login %s for others",
		repository, image.ErrUnauthorized, repository.RegistryStr(), err, repository.RegistryStr())
}

// within ends requests with ctx, for a call that takes none.
type within struct{ ctx context.Context }

func (w within) RoundTrip(req *http.Request) (*http.Response, error) {
	return remote.DefaultTransport.RoundTrip(req.WithContext(w.ctx))
}

// cacheTag is the tag under which the steps of a recipe lie, whatever the
// revision that they were carried out for.
const cacheTag = "release-cache-"

// cache has steps taken from the registry, and put there: BuildKits come and go.
// A build does not fail for it.
func (b *Builder) cache(ctx context.Context, s *solve, repository name.Repository) {
	if b.Cache == CacheOff {
		return
	}
	tag := repository.Tag(cacheTag + s.req.Recipe.Hash())
	attrs := map[string]string{"ref": tag.Name(), "registry.insecure": strconv.FormatBool(insecure(repository))}
	// One that is not there yet is nothing that people should read of as an error.
	if _, err := remote.Head(tag, b.options(ctx)...); err == nil {
		s.opt.CacheImports = []client.CacheOptionsEntry{{Type: "registry", Attrs: attrs}}
	}
	s.opt.CacheExports = []client.CacheOptionsEntry{{Type: "registry", Attrs: map[string]string{
		"ref": tag.Name(), "registry.insecure": attrs["registry.insecure"],
		"mode": string(cmp.Or(b.Cache, CacheMax)), "oci-mediatypes": "true", "image-manifest": "true", "ignore-error": "true",
	}}}
}

// How many images of a repository are looked at for what it has.
const looks = 20

// lying finds out, while something is built, what the registry has in a
// repository already: BuildKit does not tell what it sent. It goes by the images
// there, those that are kept because they run first, and not by all where there
// are many.
func (b *Builder) lying(ctx context.Context, repository name.Repository) func() map[v1.Hash]bool {
	there := map[v1.Hash]bool{}
	tags, err := remote.List(repository, b.options(ctx)...)
	if err != nil {
		return func() map[v1.Hash]bool { return there } // the first push makes it
	}
	slices.SortStableFunc(tags, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	var mu sync.Mutex
	var reads errgroup.Group
	reads.SetLimit(4)
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		for _, tag := range tags[:min(looks, len(tags))] {
			reads.Go(func() error {
				// What can't be read, or is no image, does not count as there.
				blobs, _ := b.blobs(ctx, repository.Tag(tag))
				mu.Lock()
				defer mu.Unlock()
				for _, blob := range blobs {
					there[blob.Digest] = true
				}
				return nil
			})
		}
	}()
	return func() map[v1.Hash]bool {
		<-begun
		reads.Wait()
		return there
	}
}

// rank is how much a tag's image may have of the next one: the layers of a cache
// are not yet what they are in an image.
func rank(tag string) int {
	switch {
	case strings.HasPrefix(tag, "release-keep-"):
		return 0
	case strings.HasPrefix(tag, cacheTag):
		return 2
	}
	return 1
}

// sent is how much of an image was not there before.
func (b *Builder) sent(ctx context.Context, ref name.Reference, there map[v1.Hash]bool) (total int64, err error) {
	blobs, err := b.blobs(ctx, ref)
	for _, blob := range blobs {
		if !there[blob.Digest] {
			there[blob.Digest] = true
			total += blob.Size
		}
	}
	return total, err
}

// blobs are the layers and configs that an image or an index leads to.
func (b *Builder) blobs(ctx context.Context, ref name.Reference) (found []v1.Descriptor, err error) {
	there, err := remote.Get(ref, b.options(ctx)...)
	if err != nil {
		return nil, err
	}
	if there.MediaType.IsIndex() {
		index, err := there.ImageIndex()
		if err != nil {
			return nil, err
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			return nil, err
		}
		for _, d := range manifest.Manifests {
			if !d.MediaType.IsImage() {
				continue
			}
			more, err := b.blobs(ctx, ref.Context().Digest(d.Digest.String()))
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
		return found, nil
	}
	img, err := there.Image()
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	return append(manifest.Layers, manifest.Config), nil
}
