package buildkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // for docker-container:// in BUILDKIT_HOST
	_ "github.com/moby/buildkit/client/connhelper/kubepod"         // kube-pod://
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer" // podman-container://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // ssh://
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/microbima/release/release"
)

// A Builder builds Dockerfiles. One value may run several builds concurrently.
type Builder struct {
	Address  string         // in the form of BUILDKIT_HOST or of Find
	Keychain authn.Keychain // logins for registries; nil for Docker's settings
	// Secrets are the values that Dockerfiles may mount, by name. A build gets only
	// those that its recipe names.
	// The operator of the worker allows these, and the repository names those that it
	// needs: otherwise everyone who may change a Dockerfile could read the environment
	// of a worker.
	Secrets map[string]string
	Cache   Cache // the steps that are cached in the registry
	// Layouts are base images by their names in FROM, as folders with OCI layouts of
	// one image each. They are not pulled from a registry.
	Layouts map[string]string
	Large   int64 // bytes of a context from which a note is added; 0 for 1 GB
}

// A Cache says which steps of a build are cached in the registry, for any worker.
type Cache string

// The values of Cache. The zero value is CacheMax.
const (
	CacheMax Cache = "max" // all steps
	CacheMin Cache = "min" // the steps whose layers are in the image
	CacheOff Cache = "off"
)

// readyTimeout is how long Ready waits for BuildKit.
const readyTimeout = 5 * time.Second

// Ready returns the reason why recipe can't be built with this builder, or nil. It
// asks BuildKit, and waits for five seconds.
func (b *Builder) Ready(ctx context.Context, recipe release.Recipe) error {
	if !slices.Contains([]Cache{"", CacheMax, CacheMin, CacheOff}, b.Cache) {
		return fmt.Errorf("build cache %q: must be max, min or off", b.Cache)
	}
	return errors.Join(b.checkSecrets(recipe), b.checkPlatform(ctx, recipe.PlatformOrDefault()))
}

// checkSecrets returns an error for each secret of a recipe that this worker does not
// have.
func (b *Builder) checkSecrets(recipe release.Recipe) error {
	var missing []error
	for _, name := range recipe.Secrets {
		if _, ok := b.Secrets[name]; !ok {
			missing = append(missing, fmt.Errorf("this worker has no build secret %s: start the worker with --build-secret %s and %s set in its environment", name, name, name))
		}
	}
	return errors.Join(missing...)
}

// checkPlatform returns an error unless BuildKit answers and builds for a platform.
func (b *Builder) checkPlatform(ctx context.Context, platform string) error {
	want, err := platforms.Parse(platform)
	if err != nil {
		return fmt.Errorf("platform %q: %w; must be os/architecture, such as linux/amd64", platform, err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := b.checkEngine(ctx); err != nil {
		return err
	}
	c, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return b.unreachable(err)
	}
	var supported []string
	for _, w := range workers {
		if platforms.Any(w.Platforms...).Match(want) {
			return nil
		}
		for _, p := range w.Platforms {
			supported = append(supported, platforms.Format(p))
		}
	}
	return fmt.Errorf("BuildKit at %s does not build for %s, but for %s: give the worker another one with --buildkit, or install emulation where it runs (docker run --privileged tonistiigi/binfmt --install all)",
		b.Address, platform, cmp.Or(strings.Join(supported, ", "), "nothing"))
}

// connect returns a client that the caller closes. It does not wait for BuildKit.
func (b *Builder) connect(ctx context.Context) (*client.Client, error) {
	if b.Address == "" {
		return nil, errors.New("there is no BuildKit: start the worker with --buildkit ADDRESS or BUILDKIT_HOST, or on a machine with a Docker Engine")
	}
	address, options, err := dialOptions(b.Address)
	if err != nil {
		return nil, err
	}
	c, err := client.New(ctx, address, options...)
	if err != nil {
		return nil, b.unreachable(err)
	}
	return c, nil
}

// unreachable returns the error for a BuildKit that does not answer.
func (b *Builder) unreachable(err error) error {
	reason := err.Error()
	if grpcerrors.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		reason = "timeout"
	}
	return &unreachableError{fmt.Sprintf("BuildKit at %s does not answer: %s; is buildkitd running there, and may this worker's user connect to it?", b.Address, reason), err}
}

// An unreachableError is a BuildKit that did not answer. A retry may succeed.
type unreachableError struct {
	msg string
	err error
}

func (e *unreachableError) Error() string { return e.msg }
func (e *unreachableError) Unwrap() error { return e.err }
