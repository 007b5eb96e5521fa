package workflows

import (
	"maps"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// plannedTargets returns the status of every target of the plan with its machines: the
// current ones and those that the plan will create.
func plannedTargets(plan release.Plan, states []release.State) (targets []release.TargetStatus) {
	targets = currentTargets(plan, states)
	for _, step := range plan.Steps() {
		for i := range targets {
			if targets[i].Target != step.Target {
				continue
			}
			m := findMachine(&targets[i], step.Machine)
			if m == nil {
				targets[i].Machines = append(targets[i].Machines, release.MachineStatus{Name: step.Machine, Group: step.Group, Region: step.Region})
				m = &targets[i].Machines[len(targets[i].Machines)-1]
			}
			m.Progress = release.ProgressWaiting
		}
	}
	return targets
}

// unchangedTargets returns the targets and machines of a plan without steps.
func unchangedTargets(plan release.Plan) []release.TargetStatus {
	targets := currentTargets(plan, nil)
	for i, t := range plan.Targets {
		for _, id := range slices.Sorted(maps.Keys(t.MachineVersions)) {
			targets[i].Machines = append(targets[i].Machines, release.MachineStatus{ID: id, Image: t.Image, Progress: release.ProgressUnchanged})
		}
	}
	return targets
}

// currentTargets returns the targets of the plan with the machines in states.
func currentTargets(plan release.Plan, states []release.State) (targets []release.TargetStatus) {
	for _, t := range plan.Targets {
		status := release.TargetStatus{Target: t.Target, FlyApp: t.FlyApp, URL: t.URL, Image: t.Image, Changed: t.Changed, Machines: []release.MachineStatus{}}
		for _, s := range states {
			if s.Target != t.Target {
				continue
			}
			for _, m := range s.Machines {
				status.Machines = append(status.Machines, release.MachineStatus{
					ID: m.ID, Name: m.Name, Group: m.Group, Region: m.Region, Image: m.Image, State: m.State, Progress: release.ProgressUnchanged,
				})
			}
		}
		targets = append(targets, status)
	}
	return targets
}

// recordMachines shows the observed machines in the status, with the progress of this
// rollout on each.
func (r *rolloutRun) recordMachines(states []release.State) {
	e := &r.status.Environments[0]
	before := e.Targets
	e.Targets = currentTargets(r.in.Plan, states)
	for i := range e.Targets {
		for _, t := range before {
			if t.Target == e.Targets[i].Target {
				e.Targets[i].FlyRelease = t.FlyRelease
			}
		}
		for j := range e.Targets[i].Machines {
			m := &e.Targets[i].Machines[j]
			for k := range before {
				if before[k].Target != e.Targets[i].Target {
					continue
				}
				if was := findMachine(&before[k], m.Name); was != nil && was.Verb != "" {
					m.Verb, m.Progress, m.Since, m.Until = was.Verb, was.Progress, was.Since, was.Until
				}
			}
		}
	}
}

// findMachine returns the machine with that ID or name, or nil.
func findMachine(t *release.TargetStatus, ref string) *release.MachineStatus {
	for i := range t.Machines {
		if m := &t.Machines[i]; m.ID == ref || m.Name == ref {
			return m
		}
	}
	return nil
}

// recordProgress shows the progress of the machine of step.
func (r *rolloutRun) recordProgress(ctx workflow.Context, step release.Step, p release.Progress) {
	targets := r.status.Environments[0].Targets
	for i := range targets {
		if targets[i].Target != step.Target {
			continue
		}
		m := findMachine(&targets[i], step.Machine)
		if m == nil {
			targets[i].Machines = append(targets[i].Machines, release.MachineStatus{Name: step.Machine, Group: step.Group, Region: step.Region})
			m = &targets[i].Machines[len(targets[i].Machines)-1]
		}
		m.Verb, m.Progress = step.Verb, p
		if p == release.ProgressRunning {
			m.Since = workflow.Now(ctx)
		} else {
			m.Until = workflow.Now(ctx)
		}
	}
	machineCount := 0
	for _, t := range targets {
		machineCount += len(t.Machines)
	}
	// The time to render grows with the number of machines: with a thousand, every tenth
	// change is shown. The next phase shows the rest.
	if r.changeCount++; r.changeCount%(1+machineCount/100) == 0 || p == release.ProgressFailed {
		r.showStatus(ctx)
	}
}

// recordStepDone shows the machine as the step left it.
func (r *rolloutRun) recordStepDone(ctx workflow.Context, step release.Step, after release.Machine) {
	for i := range r.status.Environments[0].Targets {
		t := &r.status.Environments[0].Targets[i]
		if m := findMachine(t, step.Machine); t.Target == step.Target && m != nil && after.ID != "" {
			m.ID, m.State, m.Image, m.Region = after.ID, after.State, after.Image, after.Region
		}
	}
	r.recordProgress(ctx, step, release.ProgressDone)
	workflow.GetLogger(ctx).Info("machine", "release", r.in.Release, "target", step.Target.String(), "machine", step.Machine, "verb", step.Verb)
}
