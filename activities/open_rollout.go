package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// OpenInput is what a rollout is about to change.
type OpenInput struct {
	Targets []release.TargetPlan `json:"targets"`          // those that change
	Images  []release.Image      `json:"images,omitempty"` // that run now, and may have to run again
}

// Opened is what Fly has recorded of a rollout, by Fly app.
type Opened struct {
	Releases  map[string]FlyRelease `json:"releases,omitempty"`
	Secrets   map[string]uint64     `json:"secrets,omitempty"`   // versions of the secrets that machines must see
	Addresses map[string][]string   `json:"addresses,omitempty"` // IP addresses that were asked for
	Notes     []string              `json:"notes,omitempty"`
}

// OpenRollout prepares a rollout at Fly: a running Fly release for each target, the IP
// addresses that a first rollout needs, and tags that keep the running images in their
// registry. It is safe to call again. What is refused or missing is a note: it does not
// keep machines from being changed.
func (a *Activities) OpenRollout(ctx context.Context, in OpenInput) (Opened, error) {
	ctx, stop := a.begin(ctx)
	defer stop()
	opened, notes := make([]driver.Opened, len(in.Targets)), make([]string, len(in.Images))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(driver.ConcurrentTargets)
	for i, t := range in.Targets {
		g.Go(func() (err error) {
			opened[i], err = a.driver().OpenTarget(all, t)
			return err
		})
	}
	for i, ref := range in.Images {
		g.Go(func() error { notes[i] = keepImage(all, a.Images, a.Registry, ref); return nil })
	}
	if err := g.Wait(); err != nil {
		return Opened{}, classify(ctx, err)
	}
	out := Opened{Releases: map[string]FlyRelease{}, Secrets: map[string]uint64{}, Addresses: map[string][]string{}}
	for i, t := range in.Targets {
		out.add(t.FlyApp, opened[i])
	}
	for _, note := range notes {
		if note != "" {
			out.Notes = append(out.Notes, note)
		}
	}
	return out, nil
}

// add adds what Fly has recorded of one target.
func (out *Opened) add(app string, o driver.Opened) {
	if o.Release.ID != "" {
		out.Releases[app] = o.Release
	}
	if o.Secrets > 0 {
		out.Secrets[app] = o.Secrets
	}
	if len(o.Addresses) > 0 {
		out.Addresses[app] = o.Addresses
	}
	out.Notes = append(out.Notes, o.Notes...)
}

// keepImage keeps an image in the registry that releases push to, or returns a note on
// why it could not. In other registries nothing can be kept.
func keepImage(ctx context.Context, images Images, registry string, ref release.Image) (note string) {
	if images == nil || ref.Digest() == "" || !strings.HasPrefix(string(ref), registry+"/") {
		return ""
	}
	err := images.Keep(ctx, ref)
	switch {
	case errors.Is(err, image.ErrNotFound):
		return fmt.Sprintf("%s runs now and is no longer in its registry: a rollback could not start it on a new host", ref)
	case err != nil:
		return fmt.Sprintf("%s runs now, and could not be marked to be kept in its registry: %v", ref, err)
	}
	return ""
}
