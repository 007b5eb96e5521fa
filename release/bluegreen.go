package release

import (
	"cmp"
	"slices"
)

// switchToGreen returns the waves that create a green machine for each blue one and
// switch the traffic. Blue machines are cordoned but run until the end of the bake, so
// that a rollback only uncordons them. Blue machines in g.Replace are also stopped. Blue
// machines on unreachable hosts are only destroyed.
func (spec Spec) switchToGreen(g GroupSpec, blues []Machine, state State, atOnce int) []Wave {
	names := map[string]string{}
	for _, m := range blues {
		names[m.ID] = spec.greenStep(g, m, state).Machine
	}
	var create, standby, show, hide, stop, destroy []Step
	for _, m := range blues {
		green := spec.greenStep(g, m, state)
		primary, follows := names[m.Config.Facts().StandbyFor]
		have, exists := state.FindMachine(green.Machine)
		switch {
		case exists:
		case follows:
			green.StandbyFor = primary
			standby = append(standby, green)
		default:
			create = append(create, green)
		}
		if !exists || have.Cordoned {
			show = append(show, NewUncordon(spec.newMachine(cmp.Or(have.ID, green.Machine), g.Name, "")))
		}
		if !m.Cordoned && m.Host == "" {
			hide = append(hide, NewCordon(spec.stepMachine(m)))
		}
		if _, replaced := g.Replace[m.ID]; replaced && m.IsRunning() && m.Host == "" {
			stop = append(stop, NewStop(spec.stepMachine(m)))
		}
		destroy = append(destroy, NewDestroy(spec.stepMachine(m), m.Config))
	}
	show = append(show, spec.uncordonCurrent(g, state, blues, show)...)
	return slices.Concat(
		newWave("create green", create, atOnce),
		newWave("create green standbys", standby, atOnce),
		withSettle(newWave("uncordon green", show, len(show)), proxyLearnTime),
		withSettle(newWave("cordon blue", hide, len(hide)), proxySettleTime),
		newWave("stop replaced machines", stop, maxColdConcurrent),
		markIrreversible(newWave("destroy blue", destroy, maxColdConcurrent)),
	)
}

// uncordonCurrent returns the steps that uncordon the green machines that an interrupted
// bluegreen created and left cordoned, and that show does not name yet.
func (spec Spec) uncordonCurrent(g GroupSpec, state State, blues []Machine, show []Step) (steps []Step) {
	if spec.Strategy != BlueGreen {
		return nil
	}
	for _, m := range state.Machines {
		isBlue := slices.ContainsFunc(blues, func(blue Machine) bool { return blue.ID == m.ID })
		isShown := slices.ContainsFunc(show, func(s Step) bool { return s.Machine == m.ID })
		if m.Group == g.Name && m.CreatedByPlan && m.Cordoned && !isBlue && !isShown && spec.isCurrent(g, m, state) {
			steps = append(steps, NewUncordon(spec.newMachine(m.ID, g.Name, "")))
		}
	}
	return steps
}

// greenStep returns the step that creates the green machine for m, in its region. It
// starts the machine if an update would start m, or if the host of m is unreachable. If
// another client changed the machine with the planned name, the step uses a new name.
func (spec Spec) greenStep(g GroupSpec, m Machine, state State) Step {
	on := spec.createdMachine(g, m.Region, g.Machines[m.ID], lastDigits(m.ID))
	if have, exists := state.FindMachine(on.Machine); exists && !spec.isCurrent(g, have, state) {
		on.Machine += "-" + lastDigits(have.ID)
	}
	o := CreateOptions{
		To: spec.Image, After: g.Machines[m.ID], Volume: g.Volume, MachineChecks: g.MachineChecks,
		SkipLaunch: !m.StartsOnUpdate() && m.Host == "", Cordoned: true, Replaces: m.ID,
	}
	if o.SkipLaunch {
		o.MachineChecks = nil
	}
	return NewCreate(on, o)
}

// classifyLeftovers separates the blue machines of stale from the leftovers of an
// interrupted switch, and returns steps that destroy the leftovers: cordoned machines of
// another release than any serving machine. Leftovers get no green machine, because the
// group would grow with each interrupted switch.
func (spec Spec) classifyLeftovers(g GroupSpec, state State, stale []Machine) (blues []Machine, destroy []Step) {
	serving := map[Origin]bool{}
	for _, m := range state.Machines {
		if m.Group == g.Name && !m.Cordoned && m.IsRunning() {
			serving[m.Config.Facts().Origin.withoutMachine()] = true
		}
	}
	left := func(m Machine) bool {
		from := m.Config.Facts().Origin.withoutMachine()
		return m.Cordoned && len(serving) > 0 && from != Origin{} && !serving[from]
	}
	for _, m := range stale {
		if !left(m) {
			blues = append(blues, m)
		}
	}
	for _, m := range state.Machines {
		isStale := slices.ContainsFunc(stale, func(x Machine) bool { return x.ID == m.ID })
		if m.Group == g.Name && left(m) && (isStale || !m.CreatedByPlan) {
			destroy = append(destroy, NewDestroy(spec.stepMachine(m), m.Config))
		}
	}
	return blues, destroy
}

// isHalfSwitched reports whether an interrupted bluegreen has cordoned machines left to
// uncordon.
func (spec Spec) isHalfSwitched(g GroupSpec, state State) bool {
	return spec.Strategy == BlueGreen && slices.ContainsFunc(state.Machines, func(m Machine) bool {
		return m.Group == g.Name && m.CreatedByPlan && m.Cordoned
	})
}
