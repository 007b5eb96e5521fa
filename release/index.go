package release

// A machineIndex finds the machines of a state by ID or by name in constant
// time. A machine still to be created has no ID. The zero value is that of a state without machines.
type machineIndex struct {
	byID, byName map[string]Machine // of several equal ones, the first
}

func (s State) index() machineIndex {
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

// indexes returns the index of each state, by target.
func indexes(states []State) map[Target]machineIndex {
	all := map[Target]machineIndex{}
	for _, s := range states {
		if _, ok := all[s.Target]; !ok {
			all[s.Target] = s.index()
		}
	}
	return all
}

// counterpart returns the machine that stands for want: the same one, or one of
// that name that replaced it.
func (x machineIndex) counterpart(want Machine) (Machine, bool) {
	if m, ok := x.byID[want.ID]; ok {
		return m, true
	}
	m, ok := x.byName[want.Name]
	return m, ok
}

// knows reports whether m, or the machine it replaced, is in the state.
func (x machineIndex) knows(m Machine) bool {
	_, ok := x.counterpart(m)
	return ok
}
