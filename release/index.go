package release

// A machineIndex finds the machines of a state by ID or by name in constant time. A
// machine that is still to be created has no ID. The zero value is the index of a
// state without machines.
type machineIndex struct {
	byID, byName map[string]Machine // the first of several with equal keys
}

func (s State) indexMachines() machineIndex {
	x := machineIndex{byID: make(map[string]Machine, len(s.Machines)), byName: make(map[string]Machine, len(s.Machines))}
	for _, m := range s.Machines {
		if _, ok := x.byID[m.ID]; !ok && m.ID != "" {
			x.byID[m.ID] = m
		}
		if _, ok := x.byName[m.Name]; !ok {
			x.byName[m.Name] = m
		}
	}
	return x
}

// indexStates returns the index of each state, by target.
func indexStates(states []State) map[Target]machineIndex {
	all := map[Target]machineIndex{}
	for _, s := range states {
		if _, ok := all[s.Target]; !ok {
			all[s.Target] = s.indexMachines()
		}
	}
	return all
}

// findCounterpart returns the machine with the ID of want, or else the machine with
// its name, which replaced it.
func (x machineIndex) findCounterpart(want Machine) (Machine, bool) {
	if m, ok := x.byID[want.ID]; ok {
		return m, true
	}
	m, ok := x.byName[want.Name]
	return m, ok
}

// hasCounterpart reports whether the state has m or a machine of its name.
func (x machineIndex) hasCounterpart(m Machine) bool {
	_, ok := x.findCounterpart(m)
	return ok
}
