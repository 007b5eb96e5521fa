package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// LocalPlatform is the platform of this computer.
const LocalPlatform = runtime.GOOS + "/" + runtime.GOARCH

// A Platform is the Fly on which apps run: the real one, or the simulated one of a
// running release dev.
type Platform struct {
	*fly.Client
	Registry string
	// Local is the platform of all machines of a release dev, and "" for Fly.
	Local string
}

// findPlatform returns the Fly named by the environment, or else that of release dev, if
// commands use the Temporal of release dev, too.
func findPlatform(w *World) Platform {
	p := Platform{Client: fly.FromEnv(w.Env.Get), Registry: fly.Registry(w.Env.Get)}
	explicit := p.Token != "" || p.FlapsURL != "" || p.APIURL != "" || w.Env.Get("FLY_REGISTRY_HOST") != ""
	dev := ReadDevFile(w.Env)
	if explicit || dev == nil || dev.Fly == "" {
		return p
	}
	if o, err := ClientOptions(w); err != nil || o.Temporal.HostPort != dev.Temporal {
		return p
	}
	p.FlapsURL, p.APIURL, p.UIEXURL, p.Token = dev.Fly, dev.Fly, dev.Fly, dev.Token
	p.Registry, p.Local = cmp.Or(dev.Registry, p.Registry), LocalPlatform
	return p
}

// isDev reports whether p is the Fly of a release dev.
func (p Platform) isDev() bool { return p.Local != "" }

// newRegistry returns the registry client with the credentials of p.
func (p Platform) newRegistry() *image.Registry {
	return &image.Registry{
		Keychain: keychain{host: p.Registry, password: fly.RegistryPassword(p.Token)}, Insecure: p.isDev(), Platform: p.Local,
	}
}

// A keychain uses Fly's token for Fly's registry and Docker's logins for all others.
type keychain struct{ host, password string }

// Resolve implements authn.Keychain.
func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if r.RegistryStr() == k.host && k.password != "" {
		return &authn.Basic{Username: "x", Password: k.password}, nil
	}
	return authn.DefaultKeychain.Resolve(r)
}

// observeTargets reads the states of targets, in their order. If a state cannot be
// read, it sets Unknown or Missing to the reason.
func (p Platform) observeTargets(ctx context.Context, targets []release.TargetFile) []view.TargetState {
	observed := make([]view.TargetState, len(targets))
	var all errgroup.Group
	all.SetLimit(driver.ConcurrentTargets)
	for i, t := range targets {
		all.Go(func() error {
			state, err := driver.ObserveTarget(ctx, p, driver.TargetRef{Target: t.Target, FlyApp: t.FlyApp})
			observed[i] = view.TargetState{State: state, Drift: view.Drift(state)}
			switch {
			case errors.Is(err, fly.ErrNotFound):
				observed[i].State, observed[i].Missing = release.State{Target: t.Target, FlyApp: t.FlyApp}, p.howToCreate(t.FlyApp)
			case err != nil:
				observed[i].Unknown = explainFly(err)
			}
			return nil
		})
	}
	_ = all.Wait() // each target has its own error
	return observed
}

// howToCreate returns how to create a Fly app.
func (p Platform) howToCreate(app string) string {
	if p.isDev() {
		return "the first release makes it"
	}
	return "fly apps create " + app
}

// explainFly returns the text of an error of Fly with the remedy.
func explainFly(err error) string {
	if errors.Is(err, fly.ErrUnauthorized) {
		return fmt.Sprintf("%v; set FLY_API_TOKEN to a token for it (fly tokens create deploy)", err)
	}
	return err.Error()
}

// planRestore returns the plan that leads from the running machines to baselines.
func (p Platform) planRestore(ctx context.Context, environment string, baselines []release.Baseline) (release.Plan, error) {
	states := make([]release.State, len(baselines))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(driver.ConcurrentTargets)
	for i, b := range baselines {
		all.Go(func() (err error) {
			states[i], err = driver.ObserveTarget(ctx, p, driver.TargetRef{Target: b.State.Target, FlyApp: b.State.FlyApp})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return release.Plan{}, err
	}
	plan := release.Restore(environment, baselines, states, release.RestoreOptions{})
	plan.Lineage.Running = release.RunningRevisions(states)
	return plan, nil
}

// findImage returns the image built earlier for a revision, or "" if there is none or the
// registry cannot be read.
func (p Platform) findImage(ctx context.Context, b release.Build, r release.Revision) release.Image {
	found, err := p.newRegistry().Find(ctx, p.Registry+"/"+b.Repository, image.Tag(r, b.Recipe), r, b.Recipe)
	if b.Recipe.Image != "" {
		found.Image, err = p.newRegistry().Pin(ctx, b.Recipe.Image, b.Recipe.PlatformOrDefault())
	}
	if err != nil {
		return ""
	}
	return found.Image
}

// registryTimeout is the timeout for a registry to report whether it has an image.
const registryTimeout = 10 * time.Second

// findImages reports for each image of baselines whether its registry has it, by digest.
func (p Platform) findImages(ctx context.Context, baselines []release.Baseline) (images []view.ImageAvailability) {
	for _, b := range baselines {
		for _, m := range b.State.Machines {
			one := view.ImageAvailability{App: b.State.Target.App, Image: m.Image}
			if !slices.Contains(images, one) {
				images = append(images, one)
			}
		}
	}
	call, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	registry := p.newRegistry()
	var all sync.WaitGroup
	for i := range images {
		all.Go(func() {
			exists, err := registry.Exists(call, images[i].Image)
			if images[i].Exists = exists; err != nil {
				images[i].Unknown = err.Error()
			}
		})
	}
	all.Wait()
	return images
}
