package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// written are the machines that a rollout changed, by Fly app and by the name or ID
// that their steps use: their IDs, and the versions that they were given last.
type written map[string]map[string]release.Machine

// wrote keeps what a step made of its machine: after a failure, what the failure
// tells of it. What a step made that was cut off is not known: its version is "".
func (r *roller) wrote(step release.Step, after release.Machine, err error) {
	var f release.Failure
	if failed := applicationError(err); failed != nil && failed.HasDetails() && failed.Details(&f) == nil && f.Version != "" {
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

// versions returns what was written, for activities that look.
func (r *roller) versions() activities.Written {
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

// goal returns what plan leads to from the states before the first change, with
// the versions that were written.
func (r *roller) goal(plan release.Plan) []release.State {
	goal := plan.Goal(r.states)
	for i, s := range goal {
		goal[i] = s.AtLeast(r.written[s.FlyApp])
	}
	return goal
}
