package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// Images is what activities need of registries. *image.Registry has it.
type Images interface {
	// Keep sees to it that the registry does not throw an image away.
	Keep(ctx context.Context, ref release.Image) error
	// Pin is the image for one platform that a registry has under a reference.
	Pin(ctx context.Context, ref, platform string) (release.Image, error)
	// Find is what was pushed under a tag for that revision and recipe.
	Find(ctx context.Context, repository, tag string, revision release.Revision, recipe release.Recipe) (image.Built, error)
	// Copy puts an image into another repository, under the same digest.
	Copy(ctx context.Context, from release.Image, repository string) (image.Built, error)
	// Save writes an image into an empty folder, as an OCI layout.
	Save(ctx context.Context, ref release.Image, dir string) error
	// Secrets are the files in an image that nobody should get hold of.
	Secrets(ctx context.Context, ref release.Image, tokens, allow []string) ([]string, error)
}

// OpenInput is what a rollout is about to change.
type OpenInput struct {
	Targets []release.TargetPlan `json:"targets"`          // those that change
	Images  []release.Image      `json:"images,omitempty"` // what runs now, and may have to run again
}

// Opened is what Fly was told of a rollout, by Fly app.
type Opened struct {
	Releases  map[string]FlyRelease `json:"releases,omitempty"`
	Secrets   map[string]uint64     `json:"secrets,omitempty"`   // versions of the secrets that machines must see
	Addresses map[string][]string   `json:"addresses,omitempty"` // IP addresses that were asked for
	Notes     []string              `json:"notes,omitempty"`
}

// A FlyRelease is Fly's own record of a rollout of one target.
type FlyRelease struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
}

// OpenRollout tells Fly that a rollout begins: a Fly release for each target,
// running; the IP addresses that a first rollout needs; tags that keep what runs
// now in its registry. It is safe to call again. What Fly does not let this
// token do, or does not have, is noted: none of it keeps machines from being
// changed.
func (a *Activities) OpenRollout(ctx context.Context, in OpenInput) (Opened, error) {
	defer beat(ctx)()
	opened := make([]Opened, len(in.Targets))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(TargetsAtOnce)
	for i, t := range in.Targets {
		g.Go(func() error { return a.open(all, t, &opened[i]) })
	}
	notes := make([]string, len(in.Images))
	for i, ref := range in.Images {
		g.Go(func() error { notes[i] = a.keep(all, ref); return nil })
	}
	if err := g.Wait(); err != nil {
		return Opened{}, classify(ctx, err)
	}
	out := Opened{Releases: map[string]FlyRelease{}, Secrets: map[string]uint64{}, Addresses: map[string][]string{}}
	for i, t := range in.Targets {
		o := opened[i]
		if r, ok := o.Releases[t.FlyApp]; ok {
			out.Releases[t.FlyApp] = r
		}
		if v := o.Secrets[t.FlyApp]; v > 0 {
			out.Secrets[t.FlyApp] = v
		}
		if ips := o.Addresses[t.FlyApp]; len(ips) > 0 {
			out.Addresses[t.FlyApp] = ips
		}
		out.Notes = append(out.Notes, o.Notes...)
	}
	for _, note := range notes {
		if note != "" {
			out.Notes = append(out.Notes, note)
		}
	}
	return out, nil
}

func (a *Activities) open(ctx context.Context, t release.TargetPlan, out *Opened) error {
	g, ctx := errgroup.WithContext(ctx)
	var notes [3]string
	g.Go(func() error {
		r, err := a.record(ctx, t)
		if r.ID != "" {
			out.Releases = map[string]FlyRelease{t.FlyApp: r}
		}
		switch {
		case forbidden(err) && r.ID != "":
			notes[0] = fmt.Sprintf("Fly release v%d of %s does not say that it runs: %v", r.Version, t.Target, err)
			return nil
		case forbidden(err):
			notes[0] = fmt.Sprintf("no Fly release of %s is on record: %v", t.Target, err)
			return nil
		}
		return err
	})
	g.Go(func() error {
		version, err := retryRead(ctx, func() (uint64, error) { return a.Fly.SecretsVersion(ctx, t.FlyApp) })
		if forbidden(err) {
			notes[1] = fmt.Sprintf("the version of the secrets of %s could not be read: %v", t.Target, err)
			return nil
		}
		out.Secrets = map[string]uint64{t.FlyApp: version}
		return err
	})
	g.Go(func() error {
		ips, err := a.assign(ctx, t)
		if forbidden(err) {
			notes[2] = fmt.Sprintf("%s has no IP address, and got none: %v; get one with: fly ips allocate-v6 -a %s", t.Target, err, t.FlyApp)
			return nil
		}
		out.Addresses = map[string][]string{t.FlyApp: ips}
		return err
	})
	err := g.Wait()
	for _, note := range notes {
		if note != "" {
			out.Notes = append(out.Notes, note)
		}
	}
	return err
}

// forbidden says whether Fly refused a request for good.
func forbidden(err error) bool {
	return errors.Is(err, fly.ErrUnauthorized) || errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrInvalid)
}

// record makes the target's Fly release and says that it runs. A Fly release
// that an earlier attempt made is recognised: the newest, of that image, not
// over, and made since this was asked for. The leases keep others from making
// one meanwhile.
func (a *Activities) record(ctx context.Context, t release.TargetPlan) (FlyRelease, error) {
	var r fly.FlyRelease
	var err error
	if info := activity.GetInfo(ctx); info.Attempt > 1 {
		if r, err = a.unfinished(ctx, t.FlyApp, t.Image, info.ScheduledTime); err != nil {
			return FlyRelease{}, err
		}
	}
	if r.ID == "" {
		r, err = a.Fly.CreateRelease(ctx, fly.NewRelease{App: t.FlyApp, Image: string(t.Image), Strategy: string(t.Strategy), Definition: t.Definition})
		if err != nil {
			return FlyRelease{}, err
		}
	}
	return FlyRelease{ID: r.ID, Version: r.Version}, a.Fly.UpdateRelease(ctx, r.ID, "running", "")
}

// unfinished is the newest Fly release of that image that is not over and was
// made since then; none has no ID. Clocks may differ by a minute.
func (a *Activities) unfinished(ctx context.Context, app string, image release.Image, since time.Time) (fly.FlyRelease, error) {
	have, err := retryRead(ctx, func() ([]fly.FlyRelease, error) { return a.Fly.Releases(ctx, app) })
	for _, h := range have {
		if h.ImageRef == string(image) && h.CreatedAt.After(since.Add(-time.Minute)) &&
			!slices.Contains([]string{"complete", "failed", "interrupted"}, strings.ToLower(h.Status)) {
			return h, err
		}
	}
	return fly.FlyRelease{}, err
}

// assign gets the target the IP addresses that it lacks, once.
func (a *Activities) assign(ctx context.Context, t release.TargetPlan) (ips []string, err error) {
	if len(t.Addresses) == 0 {
		return nil, nil
	}
	have, err := retryRead(ctx, func() ([]fly.Address, error) { return a.Fly.Addresses(ctx, t.FlyApp) })
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
			ip, err := a.Fly.AssignAddress(ctx, t.FlyApp, kind)
			all[n] = ip.IP
			return err
		})
	}
	err = g.Wait()
	return slices.DeleteFunc(all, func(ip string) bool { return ip == "" }), err
}

// keep sees to it that ref stays in its registry, or says why not. In registries
// that releases don't push to nothing can be kept.
func (a *Activities) keep(ctx context.Context, ref release.Image) (note string) {
	if a.Images == nil || ref.Digest() == "" || !strings.HasPrefix(string(ref), a.Registry+"/") {
		return ""
	}
	err := a.Images.Keep(ctx, ref)
	switch {
	case errors.Is(err, image.ErrNotFound):
		return fmt.Sprintf("%s runs now and is no longer in its registry: a rollback could not start it on a new host", ref)
	case err != nil:
		return fmt.Sprintf("%s runs now, and could not be marked to be kept in its registry: %v", ref, err)
	}
	return ""
}

// CloseInput is how a rollout ended.
type CloseInput struct {
	Release  string                `json:"release"`
	Holder   string                `json:"holder,omitempty"` // what the rollout's leases say of it
	Machines []Leased              `json:"machines,omitempty"`
	Releases map[string]FlyRelease `json:"releases,omitempty"`
	Status   string                `json:"status"` // complete, failed, interrupted
	Error    string                `json:"error,omitempty"`
	// Commands are the Fly apps in which machines ran a command.
	Commands []string `json:"commands,omitempty"`
	// CommandMachines are the IDs, by Fly app, of machines that are known to have
	// run a command: a list of Fly's may be older than they are.
	CommandMachines map[string][]string `json:"command_machines,omitempty"`
	// Addresses are IP addresses to be given back.
	Addresses map[string][]string `json:"addresses,omitempty"`
	// Begun are images by Fly app, of which a Fly release may have been made
	// since Since that nobody knows: making it was given up.
	Begun map[string]release.Image `json:"begun,omitempty"`
	Since time.Time                `json:"since,omitzero"`
	// Woken are stops of machines that the rollout started for a look and did not
	// stop again.
	Woken []StepInput `json:"woken,omitempty"`
}

// CloseRollout leaves nothing behind: it removes the machines that ran commands,
// says in each Fly release how it ended, gives back addresses that nobody needs
// now, stops the machines that run for a look only, and then gives back the leases.
// It is safe to call again.
func (a *Activities) CloseRollout(ctx context.Context, in CloseInput) error {
	defer beat(ctx)()
	var g errgroup.Group
	g.SetLimit(TargetsAtOnce)
	for _, app := range in.Commands {
		g.Go(func() error { return a.removeCommands(ctx, app, in) })
	}
	for _, r := range in.Releases {
		g.Go(func() error { return a.Fly.UpdateRelease(ctx, r.ID, in.Status, excerpt(in.Error, 2000)) })
	}
	for app, image := range in.Begun {
		g.Go(func() error {
			r, err := a.unfinished(ctx, app, image, in.Since)
			if err != nil || r.ID == "" {
				return err
			}
			return a.Fly.UpdateRelease(ctx, r.ID, in.Status, excerpt(in.Error, 2000))
		})
	}
	for app, ips := range in.Addresses {
		for _, ip := range ips {
			g.Go(func() error {
				if err := a.Fly.ReleaseAddress(ctx, app, ip); !errors.Is(err, fly.ErrNotFound) {
					return err
				}
				return nil
			})
		}
	}
	g.Go(func() error {
		a.keepers.close(ctx, in.Holder)
		slept := a.putToSleep(ctx, in.Woken) // under the leases
		return errors.Join(slept, a.giveBack(ctx, in.Holder, in.Machines))
	})
	return classify(ctx, g.Wait())
}

// removeCommands destroys the machines on which a release ran commands. After a
// failure it looks for a while before it believes that there are none: one may
// just have been made. Those that are known are removed also where Fly's list does
// not show them.
func (a *Activities) removeCommands(ctx context.Context, app string, in CloseInput) error {
	looks := 1
	if in.Status != "complete" {
		looks = 4
	}
	known := slices.Clone(in.CommandMachines[app])
	for found := len(known) > 0; looks > 0; {
		machines, err := retryRead(ctx, func() ([]fly.Machine, error) { return a.Fly.Machines(ctx, app) })
		if err != nil {
			return err
		}
		for _, m := range machines {
			meta := release.Metadata(configOf(m))
			group := meta["fly_process_group"]
			if meta[release.MetaRelease] != in.Release || group != release.ReleaseCommandGroup && group != release.MachineCheckGroup {
				continue
			}
			found = true
			known = slices.DeleteFunc(known, func(id string) bool { return id == m.ID })
			if err := a.remove(ctx, app, m.ID, ""); err != nil {
				return err
			}
		}
		if looks--; looks == 0 || found {
			break
		}
		if err := pause(ctx, a.poll()); err != nil {
			return err
		}
	}
	for _, id := range known {
		if err := a.remove(ctx, app, id, ""); err != nil {
			return err
		}
	}
	return nil
}

// isFinal says whether Temporal would not try again after err.
func isFinal(err error) bool {
	var app interface{ NonRetryable() bool }
	return errors.As(err, &app) && app.NonRetryable()
}
