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

// parseRepository parses the repository to push to.
func parseRepository(req image.Request) (name.Repository, error) {
	var options []name.Option
	if req.Insecure {
		options = append(options, name.Insecure)
	}
	repository, err := name.NewRepository(req.Repository, options...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("repository %q: %w; must be host/name", req.Repository, err)
	}
	return repository, nil
}

// isInsecure reports whether a registry may use plain HTTP.
func isInsecure(repository name.Repository) bool { return repository.Scheme() == "http" }

func (b *Builder) keychain() authn.Keychain {
	return cmp.Or[authn.Keychain](b.Keychain, authn.DefaultKeychain)
}

func (b *Builder) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(b.keychain())}
}

// authProvider gives BuildKit the logins for registries. Steps of a build don't see
// them.
func (b *Builder) authProvider() session.Attachable {
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
			auth, err := authn.Authorization(ctx, login)
			if err != nil {
				return types.AuthConfig{}, err
			}
			return types.AuthConfig{Username: auth.Username, Password: auth.Password, Auth: auth.Auth, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken, ServerAddress: host}, nil
		},
	})
}

// checkPush returns image.ErrUnauthorized if the registry refuses the login. It
// ignores all other errors, because BuildKit may reach a registry that this process
// can't.
func (b *Builder) checkPush(ctx context.Context, repository name.Repository) error {
	err := remote.CheckPushPermission(repository.Tag("release"), b.keychain(), contextTransport{ctx})
	var failed *transport.Error
	if !errors.As(err, &failed) || failed.StatusCode != http.StatusUnauthorized && failed.StatusCode != http.StatusForbidden {
		return nil
	}
	return fmt.Errorf("push to %s: %w: %s answered %v; the worker needs a login that may push there: for Fly's registry a token of that organization, for others docker login %s",
		repository, image.ErrUnauthorized, repository.RegistryStr(), err, repository.RegistryStr())
}

// A contextTransport ends requests with ctx, for a call without a context.
type contextTransport struct{ ctx context.Context }

func (t contextTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	return remote.DefaultTransport.RoundTrip(req.WithContext(t.ctx))
}

// cacheTagPrefix begins the tag of a recipe's cache, which all revisions share.
const cacheTagPrefix = "release-cache-"

// setCache makes the solve read and write a cache in the registry, which outlives a
// BuildKit. A failing cache does not fail the build.
func (b *Builder) setCache(ctx context.Context, s *solve, repository name.Repository) {
	if b.Cache == CacheOff {
		return
	}
	tag := repository.Tag(cacheTagPrefix + s.req.Recipe.Hash())
	attrs := map[string]string{"ref": tag.Name(), "registry.insecure": strconv.FormatBool(isInsecure(repository))}
	// BuildKit would log an error for a cache that does not exist yet.
	if _, err := remote.Head(tag, b.options(ctx)...); err == nil {
		s.opt.CacheImports = []client.CacheOptionsEntry{{Type: "registry", Attrs: attrs}}
	}
	s.opt.CacheExports = []client.CacheOptionsEntry{{Type: "registry", Attrs: map[string]string{
		"ref": tag.Name(), "registry.insecure": attrs["registry.insecure"],
		"mode": string(cmp.Or(b.Cache, CacheMax)), "oci-mediatypes": "true", "image-manifest": "true", "ignore-error": "true",
	}}}
}

// maxTags is how many images of a repository existingBlobs reads.
const maxTags = 20

// existingBlobs lists the blobs that are already in the repository, concurrently
// with the build, because BuildKit does not report what it sent. It reads the
// blobs of at most maxTags images, those with a tag of image.Registry.Keep first.
// The returned function waits for the result.
func (b *Builder) existingBlobs(ctx context.Context, repository name.Repository) func() map[v1.Hash]bool {
	existing := map[v1.Hash]bool{}
	tags, err := remote.List(repository, b.options(ctx)...)
	if err != nil {
		return func() map[v1.Hash]bool { return existing } // the first push creates the repository
	}
	slices.SortStableFunc(tags, func(a, b string) int { return cmp.Compare(tagOrder(a), tagOrder(b)) })
	var mu sync.Mutex
	var reads errgroup.Group
	reads.SetLimit(4)
	started := make(chan struct{})
	go func() {
		defer close(started)
		for _, tag := range tags[:min(maxTags, len(tags))] {
			reads.Go(func() error {
				// An image that can't be read counts as missing.
				blobs, _ := b.readBlobs(ctx, repository.Tag(tag))
				mu.Lock()
				defer mu.Unlock()
				for _, blob := range blobs {
					existing[blob.Digest] = true
				}
				return nil
			})
		}
	}()
	return func() map[v1.Hash]bool {
		<-started
		reads.Wait()
		return existing
	}
}

// tagOrder orders tags by how many blobs their image may share with the next one.
// Layers of a cache differ from those of an image.
func tagOrder(tag string) int {
	switch {
	case strings.HasPrefix(tag, "release-keep-"):
		return 0
	case strings.HasPrefix(tag, cacheTagPrefix):
		return 2
	}
	return 1
}

// countNewBytes returns the size of an image's blobs that are not in existing.
func (b *Builder) countNewBytes(ctx context.Context, ref name.Reference, existing map[v1.Hash]bool) (total int64, err error) {
	blobs, err := b.readBlobs(ctx, ref)
	for _, blob := range blobs {
		if !existing[blob.Digest] {
			existing[blob.Digest] = true
			total += blob.Size
		}
	}
	return total, err
}

// readBlobs returns the layers and configs of an image, or of all images of an
// index.
func (b *Builder) readBlobs(ctx context.Context, ref name.Reference) (found []v1.Descriptor, err error) {
	desc, err := remote.Get(ref, b.options(ctx)...)
	if err != nil {
		return nil, err
	}
	if desc.MediaType.IsIndex() {
		index, err := desc.ImageIndex()
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
			more, err := b.readBlobs(ctx, ref.Context().Digest(d.Digest.String()))
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
		return found, nil
	}
	img, err := desc.Image()
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	return append(manifest.Layers, manifest.Config), nil
}
