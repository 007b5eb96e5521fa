package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// writtenMachines has the machines that a rollout changed, by Fly app and by the name
// or ID in their steps: their IDs, and the versions that Fly gave them last.
type writtenMachines map[string]map[string]release.Machine

// recordWritten records the machine version that a step wrote, after a failure the
// version in its details. If a canceled step reports no version, the version is "".
func (r *rolloutRun) recordWritten(step release.Step, after release.Machine, err error) {
	var f release.Failure
	if failed := findApplicationError(err); failed != nil && failed.HasDetails() && failed.Details(&f) == nil && f.Version != "" {
		after = release.Machine{ID: f.Machine, Version: f.Version}
	}
	if err != nil && after.ID == "" && step.Verb == release.Update {
		after.ID = step.Machine
	}
	switch {
	case step.Verb == release.Destroy && err == nil:
		delete(r.written[step.FlyApp], step.Machine)
	case step.Verb == release.Run, after.ID == "", after.Version == "" && err == nil:
	default:
		if r.written[step.FlyApp] == nil {
			r.written[step.FlyApp] = map[string]release.Machine{}
		}
		r.written[step.FlyApp][step.Machine] = release.Machine{ID: after.ID, Version: after.Version}
	}
}

// writtenVersions returns the written versions by Fly app and machine ID, for
// activities that read machines.
func (r *rolloutRun) writtenVersions() activities.Written {
	if len(r.written) == 0 {
		return nil
	}
	all := activities.Written{}
	for _, app := range workflow.DeterministicKeys(r.written) {
		all[app] = map[string]string{}
		for _, ref := range workflow.DeterministicKeys(r.written[app]) {
			m := r.written[app][ref]
			all[app][m.ID] = m.Version
		}
	}
	return all
}

// goalStates returns the states that plan leads to from the states before the first
// change, with the written versions.
func (r *rolloutRun) goalStates(plan release.Plan) []release.State {
	goal := plan.Goal(r.states)
	for i, s := range goal {
		goal[i] = s.WithWrittenVersions(r.written[s.FlyApp])
	}
	return goal
}
