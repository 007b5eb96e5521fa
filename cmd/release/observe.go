package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// A place where apps run: Fly, or the Fly of a running release dev.
type place struct {
	*fly.Client
	registry string
	platform string // of all machines there; "" is whatever a recipe says
}

// images are the registries as whoever uses p may see them.
func (p place) images() *image.Registry {
	return &image.Registry{
		Keychain: keychain{host: p.registry, password: fly.RegistryPassword(p.Token)}, Insecure: p.platform != "", Platform: p.platform,
	}
}

// fly is the Fly that the environment names, else the one of release dev if
// that is also whose Temporal is used.
func (e *env) fly() place {
	p := place{Client: fly.FromEnv(e.getenv), registry: fly.Registry(e.getenv)}
	explicit := p.Token != "" || p.FlapsURL != "" || p.APIURL != "" || e.getenv("FLY_REGISTRY_HOST") != ""
	dev := e.readDevFile()
	if explicit || dev == nil || dev.Fly == "" {
		return p
	}
	if o, err := e.temporalOptions(); err != nil || o.HostPort != dev.Temporal {
		return p
	}
	p.FlapsURL, p.APIURL, p.UIEXURL, p.Token = dev.Fly, dev.Fly, dev.Fly, dev.Token
	p.registry, p.platform = cmp.Or(dev.Registry, p.registry), here
	return p
}

// observe looks at every target, in their order. What cannot be seen says why.
func (p place) observe(ctx context.Context, targets []release.TargetFile) []view.Place {
	places := make([]view.Place, len(targets))
	var all errgroup.Group
	all.SetLimit(driver.ConcurrentTargets)
	for i, t := range targets {
		all.Go(func() error {
			state, err := driver.ObserveTarget(ctx, p, driver.TargetRef{Target: t.Target, FlyApp: t.FlyApp})
			places[i] = view.Place{State: state, Drift: view.Drift(state)}
			switch {
			case errors.Is(err, fly.ErrNotFound):
				places[i].State, places[i].Missing = release.State{Target: t.Target, FlyApp: t.FlyApp}, p.make(t.FlyApp)
			case err != nil:
				places[i].Unknown = flySaid(err)
			}
			return nil
		})
	}
	_ = all.Wait() // what failed is said in its place
	return places
}

// isDev reports whether p is the Fly of a release dev.
func (p place) isDev() bool { return p.platform != "" }

// make says how a Fly app is made.
func (p place) make(app string) string {
	if p.isDev() {
		return "the first release makes it"
	}
	return "fly apps create " + app
}

// flySaid is an error of Fly's with what to do about it.
func flySaid(err error) string {
	if errors.Is(err, fly.ErrUnauthorized) {
		return fmt.Sprintf("%v; set FLY_API_TOKEN to a token for it (fly tokens create deploy)", err)
	}
	return err.Error()
}

// image is the image of a build at a revision: the one that a release of it has
// made, or "" if there is none.
func (p place) image(ctx context.Context, b release.Build, r release.Revision) release.Image {
	found, err := p.images().Find(ctx, p.registry+"/"+b.Repository, image.Tag(r, b.Recipe), r, b.Recipe)
	if b.Recipe.Image != "" {
		found.Image, err = p.images().Pin(ctx, b.Recipe.Image, b.Recipe.On())
	}
	if err != nil {
		return "" // not built, or not to be seen: the caller says so
	}
	return found.Image
}
