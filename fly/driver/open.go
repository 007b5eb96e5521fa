package driver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A FlyRelease is Fly's own record of a rollout of one target. It is stored in
// histories.
type FlyRelease struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
}

// Opened is the result of OpenTarget.
type Opened struct {
	Release   FlyRelease
	Secrets   uint64   // version of the secrets that machines must see
	Addresses []string // IP addresses that the target has or was given
	Notes     []string // refused requests and missing facts
}

// OpenTarget prepares the rollout of a target at Fly: it creates a running Fly release,
// reads the version of the secrets, and assigns the IP addresses of a first rollout. It
// is safe to call again. A refused request becomes a note, because machines can be
// changed without it.
func (d *Driver) OpenTarget(ctx context.Context, t release.TargetPlan) (Opened, error) {
	g, ctx := errgroup.WithContext(ctx)
	var out Opened
	var notes [3]string
	g.Go(func() (err error) {
		out.Release, notes[0], err = openRelease(ctx, d.Fly, t)
		return err
	})
	g.Go(func() (err error) {
		out.Secrets, err = RetryRead(ctx, func() (uint64, error) { return d.Fly.SecretsVersion(ctx, t.FlyApp) })
		if isForbidden(err) {
			notes[1] = fmt.Sprintf("the version of the secrets of %s could not be read: %v", t.Target, err)
			out.Secrets, err = 0, nil
		}
		return err
	})
	g.Go(func() (err error) {
		out.Addresses, err = assignAddresses(ctx, d.Fly, t)
		if isForbidden(err) {
			notes[2] = fmt.Sprintf("%s has no IP address, and got none: %v; get one with: fly ips allocate-v6 -a %s", t.Target, err, t.FlyApp)
			out.Addresses, err = nil, nil
		}
		return err
	})
	err := g.Wait()
	for _, note := range notes {
		if note != "" {
			out.Notes = append(out.Notes, note)
		}
	}
	return out, err
}

// openRelease creates the Fly release of the target, or returns a note if Fly refuses
// that.
func openRelease(ctx context.Context, f ReleaseAPI, t release.TargetPlan) (r FlyRelease, note string, err error) {
	r, err = createRelease(ctx, f, t)
	switch {
	case isForbidden(err) && r.ID != "":
		return r, fmt.Sprintf("Fly release v%d of %s could not be marked as running: %v", r.Version, t.Target, err), nil
	case isForbidden(err):
		return r, fmt.Sprintf("no Fly release of %s could be created: %v", t.Target, err), nil
	}
	return r, "", err
}

// createRelease creates the Fly release of the target and marks it as running. It
// reuses the one of an earlier attempt: the newest of that image that has not ended and
// was created since the first attempt. The leases keep other clients from creating one
// meanwhile.
func createRelease(ctx context.Context, f ReleaseAPI, t release.TargetPlan) (FlyRelease, error) {
	var r fly.FlyRelease
	var err error
	if a := attemptOf(ctx); a.Number > 1 {
		if r, err = findUnfinishedRelease(ctx, f, t.FlyApp, t.Image, a.Scheduled); err != nil {
			return FlyRelease{}, err
		}
	}
	if r.ID == "" {
		r, err = f.CreateRelease(ctx, fly.NewRelease{App: t.FlyApp, Image: string(t.Image), Strategy: string(t.Strategy), Definition: t.Definition})
		if err != nil {
			return FlyRelease{}, err
		}
	}
	return FlyRelease{ID: r.ID, Version: r.Version}, f.UpdateRelease(ctx, r.ID, "running", "")
}

// findUnfinishedRelease returns the newest unfinished Fly release of that image since
// that time, or one without an ID. Clocks may differ by a minute.
func findUnfinishedRelease(ctx context.Context, f ReleaseAPI, app string, image release.Image, since time.Time) (fly.FlyRelease, error) {
	have, err := RetryRead(ctx, func() ([]fly.FlyRelease, error) { return f.Releases(ctx, app) })
	for _, h := range have {
		if h.ImageRef == string(image) && h.CreatedAt.After(since.Add(-time.Minute)) &&
			!slices.Contains([]string{"complete", "failed", "interrupted"}, strings.ToLower(h.Status)) {
			return h, err
		}
	}
	return fly.FlyRelease{}, err
}

// assignAddresses assigns the missing IP addresses of the target, and returns all that
// the plan wants.
func assignAddresses(ctx context.Context, f AddressAPI, t release.TargetPlan) (ips []string, err error) {
	if len(t.Addresses) == 0 {
		return nil, nil
	}
	have, err := RetryRead(ctx, func() ([]fly.Address, error) { return f.Addresses(ctx, t.FlyApp) })
	if err != nil {
		return nil, err
	}
	all := make([]string, len(t.Addresses))
	var g errgroup.Group
	for n, kind := range t.Addresses {
		if i := slices.IndexFunc(have, func(h fly.Address) bool { return h.Kind() == kind }); i >= 0 {
			all[n] = have[i].IP
			continue
		}
		g.Go(func() error {
			ip, err := f.AssignAddress(ctx, t.FlyApp, kind)
			all[n] = ip.IP
			return err
		})
	}
	err = g.Wait()
	return slices.DeleteFunc(all, func(ip string) bool { return ip == "" }), err
}
