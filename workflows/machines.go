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
			m := targets[i].FindMachine(step.Machine)
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
		status := release.TargetStatus{Target: t.Target, FlyApp: t.FlyApp, URL: t.URL, Image: t.Image, Changed: t.Changed, NewGroups: t.NewGroups, Machines: []release.MachineStatus{}}
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

// recordMachines records the observed machines.
func (r *rolloutRun) recordMachines(ctx workflow.Context, states []release.State) {
	r.record(ctx, release.MachinesObserved(r.in.Plan.Environment, currentTargets(r.in.Plan, states)))
}

// machineStatus returns the status of the machine of step. It is a new one if the plan
// does not have the machine.
func (r *rolloutRun) machineStatus(step release.Step) release.MachineStatus {
	for _, t := range r.status().Environments[0].Targets {
		if m := t.FindMachine(step.Machine); t.Target == step.Target && m != nil {
			return *m
		}
	}
	return release.MachineStatus{Name: step.Machine, Group: step.Group, Region: step.Region}
}

// recordProgress records the progress of step on its machine, m.
func (r *rolloutRun) recordProgress(ctx workflow.Context, step release.Step, m release.MachineStatus, p release.Progress) {
	m.Verb, m.Progress = step.Verb, p
	if p == release.ProgressRunning {
		m.Since = workflow.Now(ctx)
	} else {
		m.Until = workflow.Now(ctx)
	}
	r.record(ctx, release.MachineChanged(step.Target, step.Machine, m))
	machineCount := 0
	for _, t := range r.status().Environments[0].Targets {
		machineCount += len(t.Machines)
	}
	// The time to render grows with the number of machines: with a thousand, every tenth
	// change is shown. The next phase shows the rest.
	if r.changeCount++; r.changeCount%(1+machineCount/100) == 0 || p == release.ProgressFailed {
		r.showStatus(ctx)
	}
}

// recordStepDone records the machine as the step left it.
func (r *rolloutRun) recordStepDone(ctx workflow.Context, step release.Step, after release.Machine) {
	m := r.machineStatus(step)
	if after.ID != "" {
		m.ID, m.State, m.Image, m.Region = after.ID, after.State, after.Image, after.Region
	}
	r.recordProgress(ctx, step, m, release.ProgressDone)
	workflow.GetLogger(ctx).Info("machine", "release", r.in.Release, "target", step.Target.String(), "machine", step.Machine, "verb", step.Verb)
}
