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

// OpenInput names the targets and images of a rollout.
type OpenInput struct {
	Targets []release.TargetPlan `json:"targets"`          // targets that the plan changes
	Images  []release.Image      `json:"images,omitempty"` // running images, which a rollback may start again
}

// Opened is the result of OpenRollout, by Fly app.
type Opened struct {
	Releases  map[string]FlyRelease `json:"releases,omitempty"`
	Secrets   map[string]uint64     `json:"secrets,omitempty"`   // versions of the secrets that machines must see
	Addresses map[string][]string   `json:"addresses,omitempty"` // assigned IP addresses
	Notes     []string              `json:"notes,omitempty"`
}

// OpenRollout prepares a rollout at Fly: it creates a Fly release for each target,
// assigns the IP addresses of a first rollout, and tags the running images so that
// their registry keeps them. It is safe to call twice. A refused request becomes a
// note, because machines can be changed without it.
func (a *Activities) OpenRollout(ctx context.Context, in OpenInput) (Opened, error) {
	ctx, stop := a.beginAttempt(ctx)
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
		return Opened{}, classifyError(ctx, err)
	}
	out := Opened{Releases: map[string]FlyRelease{}, Secrets: map[string]uint64{}, Addresses: map[string][]string{}}
	for i, t := range in.Targets {
		out.addTarget(t.FlyApp, opened[i])
	}
	for _, note := range notes {
		if note != "" {
			out.Notes = append(out.Notes, note)
		}
	}
	return out, nil
}

// addTarget adds the result of one target.
func (out *Opened) addTarget(app string, o driver.Opened) {
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

// keepImage tags an image so that the registry of releases keeps it, or returns a note
// why that failed. It ignores images in other registries.
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
