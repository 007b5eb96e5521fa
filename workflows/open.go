package workflows

import (
	"slices"
	"strconv"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// openRollout prepares the rollout at Fly: Fly releases, addresses and kept images. If
// it fails, maybeOpened has the Fly apps that may have a Fly release.
func (r *rolloutRun) openRollout(ctx workflow.Context) error {
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
	err := workflow.ExecuteActivity(withCallOptions(ctx, "Create Fly releases for "+r.in.Plan.Environment), act.OpenRollout, in).Get(ctx, &r.opened)
	if err != nil {
		r.maybeOpened = map[string]release.Image{}
		for _, t := range in.Targets {
			r.maybeOpened[t.FlyApp] = t.Image
		}
		return err
	}
	for _, note := range r.opened.Notes {
		r.addNote(ctx, "%s", note)
	}
	versions := map[string]int{}
	for _, app := range workflow.DeterministicKeys(r.opened.Releases) {
		versions[app] = r.opened.Releases[app].Version
	}
	r.record(ctx, release.ReleasesOpened(r.in.Plan.Environment, versions))
	for i := range r.states {
		r.states[i].SecretsVersion = r.opened.Secrets[r.states[i].FlyApp]
		r.baselines[i].State.SecretsVersion = r.states[i].SecretsVersion
	}
	return nil
}

// machineStamp returns the metadata of every machine that a step changes: which release
// changed it, in our keys and in those of Fly.
func (r *rolloutRun) machineStamp(step release.Step) map[string]string {
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

// startClosing starts to remove the leases, Fly releases and command machines of the
// rollout. The returned function waits until that is done; a failure becomes a note.
func (r *rolloutRun) startClosing(ctx workflow.Context, outcome release.Outcome, cause error) (wait func()) {
	if r.leases.stopKeeping != nil {
		r.leases.stopKeeping()
	}
	in := activities.CloseInput{
		Release: r.in.Release, Holder: r.leaseHolder(), Machines: r.leases.machines, Releases: r.opened.Releases, Commands: r.commandApps(), Status: "failed",
		CommandMachines: r.commandMachines(),
		Begun:           r.maybeOpened, Since: r.status().Started,
	}
	switch {
	case outcome == release.Promoted, outcome == release.Restored:
		in.Status = "complete"
	case temporal.IsCanceledError(cause):
		in.Status, in.Error = "interrupted", release.ErrAborted.Error()
	case cause != nil:
		in.Error = newCause(cause).Message
	}
	if outcome == release.RolledBack || outcome == release.Stopped {
		in.Addresses = r.opened.Addresses
	}
	if len(in.Machines)+len(in.Releases)+len(in.Commands)+len(in.Begun) == 0 {
		return func() {}
	}
	closed := workflow.ExecuteActivity(withCallOptions(ctx, "Clean up on Fly"), act.CloseRollout, in)
	return func() {
		if err := closed.Get(ctx, nil); err != nil {
			r.record(ctx, release.CleanupFailed("could not remove all leases, Fly releases and command machines of this rollout: "+errorMessage(err)))
		}
	}
}

// commandMachines returns the IDs of the machines that are known to have run a command,
// by Fly app.
func (r *rolloutRun) commandMachines() map[string][]string {
	known := map[string][]string{}
	for _, c := range r.status().Environments[0].Commands {
		for _, t := range r.in.Plan.Targets {
			if t.Target == c.Target && c.Machine != "" {
				known[t.FlyApp] = append(known[t.FlyApp], c.Machine)
			}
		}
	}
	return known
}

// commandApps returns the Fly apps in which a machine may have run a command.
func (r *rolloutRun) commandApps() (apps []string) {
	if !r.hasBegun {
		return nil
	}
	for _, s := range r.in.Plan.Steps() {
		if (s.Verb == release.Run || len(s.MachineChecks) > 0) && !slices.Contains(apps, s.FlyApp) {
			apps = append(apps, s.FlyApp)
		}
	}
	return apps
}
