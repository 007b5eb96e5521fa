package workflows

import (
	"slices"
	"strconv"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// open tells Fly that the rollout begins.
func (r *roller) open(ctx workflow.Context) error {
	in := activities.OpenInput{}
	for _, t := range r.in.Plan.Targets {
		if t.Changed {
			in.Targets = append(in.Targets, t)
		}
	}
	for _, s := range r.states {
		for _, m := range s.Machines {
			if m.Image.Digest() != "" && !slices.Contains(in.Images, m.Image) {
				in.Images = append(in.Images, m.Image)
			}
		}
	}
	err := workflow.ExecuteActivity(calling(ctx, "tell Fly that "+r.in.Plan.Environment+" is about to change"), act.OpenRollout, in).Get(ctx, &r.opened)
	if err != nil {
		r.unopened = map[string]release.Image{}
		for _, t := range in.Targets {
			r.unopened[t.FlyApp] = t.Image
		}
		return err
	}
	r.status.Notes = append(r.status.Notes, r.opened.Notes...)
	targets := r.status.Environments[0].Targets
	for i := range targets {
		targets[i].FlyRelease = r.opened.Releases[targets[i].FlyApp].Version
	}
	for i := range r.states {
		r.states[i].SecretsVersion = r.opened.Secrets[r.states[i].FlyApp]
		r.baselines[i].State.SecretsVersion = r.states[i].SecretsVersion
	}
	return nil
}

// stamp says, on every machine that is changed, by which release it was: in our
// words and in Fly's.
func (r *roller) stamp(step release.Step) map[string]string {
	stamp := map[string]string{
		release.MetaRelease:  r.in.Release,
		release.MetaRevision: r.in.Revision.Commit,
		"fly_flyctl_version": activities.ClientVersion,
	}
	if fly, ok := r.opened.Releases[step.FlyApp]; ok {
		stamp["fly_release_id"], stamp["fly_release_version"] = fly.ID, strconv.Itoa(fly.Version)
	}
	return stamp
}

// letGo leaves nothing of the rollout behind on Fly. It begins the work and
// returns what waits for it.
func (r *roller) letGo(ctx workflow.Context, outcome release.Outcome, cause error) (wait func()) {
	if r.leases.end != nil {
		r.leases.end()
	}
	in := activities.CloseInput{
		Release: r.in.Release, Holder: r.holder(), Machines: r.leases.machines, Releases: r.opened.Releases, Commands: r.commanded(), Status: "failed",
		CommandMachines: r.commandMachines(),
		Begun:           r.unopened, Since: r.status.Started,
	}
	switch {
	case outcome == release.Promoted, outcome == release.Restored:
		in.Status = "complete"
	case temporal.IsCanceledError(cause):
		in.Status, in.Error = "interrupted", release.ErrAborted.Error()
	case cause != nil:
		in.Error = causeOf(cause).Message
	}
	if outcome == release.RolledBack || outcome == release.Stopped {
		in.Addresses = r.opened.Addresses
	}
	if len(in.Machines)+len(in.Releases)+len(in.Commands)+len(in.Begun) == 0 {
		return func() {}
	}
	closed := workflow.ExecuteActivity(calling(ctx, "leave nothing behind on Fly"), act.CloseRollout, in)
	return func() {
		if err := closed.Get(ctx, nil); err != nil {
			r.note("not all that this rollout left on Fly could be removed (leases, Fly releases, machines of commands): %s", plain(err))
		}
	}
}

// commandMachines returns the IDs of the machines that are known to have run a
// command, by Fly app.
func (r *roller) commandMachines() map[string][]string {
	known := map[string][]string{}
	for _, c := range r.status.Environments[0].Commands {
		for _, t := range r.in.Plan.Targets {
			if t.Target == c.Target && c.Machine != "" {
				known[t.FlyApp] = append(known[t.FlyApp], c.Machine)
			}
		}
	}
	return known
}

// commanded are the Fly apps in which a machine may have run a command.
func (r *roller) commanded() (apps []string) {
	if !r.begun {
		return nil
	}
	for _, s := range r.in.Plan.Steps() {
		if (s.Verb == release.Run || len(s.MachineChecks) > 0) && !slices.Contains(apps, s.FlyApp) {
			apps = append(apps, s.FlyApp)
		}
	}
	return apps
}
