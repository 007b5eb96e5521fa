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
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer" // BUILDKIT_HOST may say docker-container://
	_ "github.com/moby/buildkit/client/connhelper/kubepod"         // kube-pod://
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer" // podman-container://
	_ "github.com/moby/buildkit/client/connhelper/ssh"             // ssh://
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/microbima/release/release"
)

// A Builder builds Dockerfiles. One value may build several at a time.
type Builder struct {
	Address  string         // as BUILDKIT_HOST says it, or as Find does
	Keychain authn.Keychain // logs in to registries; nil is Docker's own settings
	// Secrets are what Dockerfiles may mount, by name. A recipe has to name
	// those that it wants: no build sees another one's.
	Secrets map[string]string
	Cache   Cache // how much of it goes to the registry
	// Layouts are images that Dockerfiles begin with, by their names as in FROM,
	// and the folders that have them as OCI layouts of one image each: no
	// registry is asked for those.
	Layouts map[string]string
	Large   int64 // bytes of a context that are worth a note; 0 is 1 GB
}

// A Cache says which steps of a build others may take from the registry,
// wherever they build.
type Cache string

// The caches that there are.
const (
	CacheMax Cache = "max" // all steps; also what the zero value means
	CacheMin Cache = "min" // those whose layers are in the image
	CacheOff Cache = "off"
)

// How long a BuildKit may take to say that it is there.
const patience = 5 * time.Second

// Ready says why recipe can't be built here, or nil. It asks BuildKit, and waits
// five seconds for its answer.
func (b *Builder) Ready(ctx context.Context, recipe release.Recipe) error {
	if !slices.Contains([]Cache{"", CacheMax, CacheMin, CacheOff}, b.Cache) {
		return fmt.Errorf("build cache %q: it should be max, min or off", b.Cache)
	}
	return errors.Join(b.knows(recipe), b.answers(ctx, recipe.On()))
}

// knows says which secrets of a recipe this worker was not started to give out.
func (b *Builder) knows(recipe release.Recipe) error {
	var unknown []error
	for _, name := range recipe.Secrets {
		if _, ok := b.Secrets[name]; !ok {
			unknown = append(unknown, fmt.Errorf("this worker gives builds no secret %s: start the worker with --build-secret %s and %s set in its environment", name, name, name))
		}
	}
	return errors.Join(unknown...)
}

// answers says why BuildKit would not build for a platform.
func (b *Builder) answers(ctx context.Context, platform string) error {
	want, err := platforms.Parse(platform)
	if err != nil {
		return fmt.Errorf("platform %q: %w; it should be os/architecture, as linux/amd64", platform, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := b.engineCan(ctx); err != nil {
		return err
	}
	c, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return b.away(err)
	}
	var builds []string
	for _, w := range workers {
		if platforms.Any(w.Platforms...).Match(want) {
			return nil
		}
		for _, p := range w.Platforms {
			builds = append(builds, platforms.Format(p))
		}
	}
	return fmt.Errorf("BuildKit at %s does not build for %s, but for %s: give the worker another one with --buildkit, or install emulation where it runs (docker run --privileged tonistiigi/binfmt --install all)",
		b.Address, platform, cmp.Or(strings.Join(builds, ", "), "nothing"))
}

// connect is a connection that its caller closes. BuildKit need not be there yet.
func (b *Builder) connect(ctx context.Context) (*client.Client, error) {
	if b.Address == "" {
		return nil, errors.New("there is no BuildKit: start the worker with --buildkit ADDRESS or BUILDKIT_HOST, or on a machine with a Docker Engine")
	}
	address, options, err := dial(b.Address)
	if err != nil {
		return nil, err
	}
	c, err := client.New(ctx, address, options...)
	if err != nil {
		return nil, b.away(err)
	}
	return c, nil
}

// away is what to tell of a BuildKit that does not answer.
func (b *Builder) away(err error) error {
	said := err.Error()
	if grpcerrors.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		said = "no answer"
	}
	return &awayError{fmt.Sprintf("BuildKit at %s does not answer: %s; is buildkitd running there, and may this worker's user connect to it?", b.Address, said), err}
}

// An awayError is a BuildKit that did not answer: it may, the next time.
type awayError struct {
	msg string
	err error
}

func (e *awayError) Error() string { return e.msg }
func (e *awayError) Unwrap() error { return e.err }
