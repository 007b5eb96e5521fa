package release

import (
	"cmp"
	"slices"
)

// RestoreOptions tells Restore more about machines than their state does.
type RestoreOptions struct {
	// MayRestore, if set, reports whether a machine may be restored. Restore leaves alone
	// the config and state of the others, so that it never overwrites changes of other
	// clients. It uncordons them, and takes nothing new out of service before they are
	// healthy.
	MayRestore func(Target, Machine) bool
	// IsCreated, if set, reports whether a restore created a machine. The metadata of a
	// machine tell that only of the machines that a plan for a revision created.
	IsCreated func(Target, Machine) bool
}

// Restore returns the ordered steps that bring every target back to its baseline.
// Missing machines are created again, machines that a release created are destroyed,
// and all others get their config, image, cordon and state back. It is pure, like
// NewPlan. Apps that need others are restored first.
//
// Restore leaves alone machines that no plan created and that are not in the baseline;
// DescribeDifferences lists them.
func Restore(environment string, baselines []Baseline, now []State, options RestoreOptions) Plan {
	plan := Plan{Environment: environment, Targets: []TargetPlan{}}
	baselines = slices.SortedFunc(slices.Values(baselines), func(a, b Baseline) int {
		return cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(a.State.Target.App, b.State.Target.App))
	})
	var lasts []Wave
	for first := 0; first < len(baselines); {
		level := baselines[first].Level
		var waves []Wave
		for ; first < len(baselines) && baselines[first].Level == level; first++ {
			b := baselines[first]
			state := findState(now, b.State.Target)
			back, extra := b.restoreWaves(state, options)
			t := TargetPlan{
				Target: b.State.Target, FlyApp: b.State.FlyApp, URL: b.State.URL, Level: b.Level,
				MaxUnavailable: b.MaxUnavailable, Wait: b.Wait, Probe: b.Probe,
				MachineVersions: machineVersions(state), Cordoned: cordonedMachines(state), Changed: len(back)+len(extra) > 0, Image: commonImage(b.State),
				Definition: b.State.Definition, Secrets: state.Secrets,
			}
			if !b.WasHealthy() {
				t.Probe = nil // the probe failed before, too
			}
			if note := state.describeStagedSecrets(); note != "" && t.Changed {
				t.Notes = []string{note}
			}
			plan.Targets = append(plan.Targets, t)
			waves, lasts = mergeWaves(waves, back), mergeWaves(lasts, extra)
		}
		plan.Waves = append(plan.Waves, waves...)
	}
	plan.Waves = append(plan.Waves, lasts...)
	return plan
}

// restoreWaves returns the waves that restore b from now, and the waves that destroy
// additional machines.
func (b Baseline) restoreWaves(now State, options RestoreOptions) (back, extra []Wave) {
	var steps restoreSteps
	is := now.indexMachines()
	for _, want := range b.State.Machines {
		have, exists := is.findCounterpart(want)
		switch {
		case !exists && want.Host == "":
			steps.create = append(steps.create, b.recreateStep(want))
		case exists && (options.MayRestore == nil || options.MayRestore(b.State.Target, have)):
			steps.addMachine(b, have, want)
		case exists && want.IsRunning() && have.Host == "" && !have.IsAsleep() && !have.HasCompleted():
			steps.addReturn(b, have, want)
		}
	}
	for _, m := range b.additionalMachines(now, options.IsCreated) {
		steps.addRemoval(b.stepMachine(m), m)
	}
	return steps.order(b)
}

// additionalMachines returns the machines of now that a plan created and that are not in
// b. It leaves out those of groups of which a machine can't be created again: they may
// be its replacement. isCreated is that of RestoreOptions.
func (b Baseline) additionalMachines(now State, isCreated func(Target, Machine) bool) (machines []Machine) {
	is, were, lost := now.indexMachines(), b.State.indexMachines(), map[string]bool{}
	for _, want := range b.State.Machines {
		if want.Host != "" && !is.hasCounterpart(want) {
			lost[want.Group] = true
		}
	}
	for _, m := range now.Machines {
		isAdditional := m.CreatedByPlan || isCreated != nil && isCreated(now.Target, m)
		if isAdditional && !were.hasCounterpart(m) && !lost[m.Group] {
			machines = append(machines, m)
		}
	}
	return machines
}

// commonImage returns the image of all machines of s, or "" if they differ.
func commonImage(s State) (image Image) {
	for i, m := range s.Machines {
		if i > 0 && m.Image != image {
			return ""
		}
		image = m.Image
	}
	return image
}
