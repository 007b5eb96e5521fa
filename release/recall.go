package release

import (
	"cmp"
	"slices"
)

// WithKnownMachines returns s with the known facts of machines on unreachable hosts,
// for which Fly reports some values or none. A machine of the same version gets all
// facts from known, any other machine only name, group and region. Machines of
// Unidentified that are in known become machines of the target.
func (s State) WithKnownMachines(known []Machine) State {
	if len(s.Unidentified) == 0 && !slices.ContainsFunc(s.Machines, func(m Machine) bool { return m.Host != "" }) {
		return s
	}
	s.Machines = slices.Clone(s.Machines)
	for i, m := range s.Machines {
		if was, ok := findMachine(known, m.ID); ok && m.Host != "" {
			s.Machines[i] = m.withKnownFacts(was)
		}
	}
	var unread []Machine
	for _, m := range s.Unidentified {
		if was, ok := findMachine(known, m.ID); ok {
			s.Machines = append(s.Machines, m.withKnownFacts(was))
		} else {
			unread = append(unread, m)
		}
	}
	s.Unidentified = unread
	slices.SortFunc(s.Machines, func(a, b Machine) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

// withKnownFacts returns m, whose host is unreachable, with the facts of was.
func (m Machine) withKnownFacts(was Machine) Machine {
	m.Name = cmp.Or(m.Name, was.Name)
	m.Group = cmp.Or(was.Group, m.Group)
	m.Region = cmp.Or(m.Region, was.Region)
	if was.Host != "" || was.Version != m.Version {
		return m
	}
	m.Config = was.Config
	m.Image = was.Image
	m.Release = was.Config.Facts().Origin.Release
	m.Revision = was.Config.Facts().Origin.Revision
	m.CreatedByPlan = m.Name != "" && was.Config.Facts().Origin.Machine == m.Name
	return m
}

// KnownMachines returns the machines of target t from which p was made: the version of
// every machine, and all facts of those that p updates.
func (p Plan) KnownMachines(t Target) (known []Machine) {
	for _, planned := range p.Targets {
		if planned.Target != t {
			continue
		}
		for _, id := range sortedKeys(planned.MachineVersions) {
			known = append(known, Machine{ID: id, Version: planned.MachineVersions[id], Host: unknownHost})
		}
	}
	for _, s := range p.Steps() {
		i := slices.IndexFunc(known, func(m Machine) bool { return m.ID == s.Machine })
		if s.Target != t || i < 0 || s.Version != known[i].Version {
			continue
		}
		known[i].Group = s.Group
		known[i].Region = s.Region
		if s.Verb == Update && !s.Before.IsZero() {
			known[i].Config = s.Before
			known[i].Image = s.From
			known[i].Host = ""
		}
	}
	return known
}

// unknownHost is the Host of a machine of which only some facts are known.
const unknownHost = "unknown"

// WithWrittenVersions returns s with the IDs and versions in written, which maps the
// IDs or names of machines to the result of the last change. Older versions in s are
// stale reads.
func (s State) WithWrittenVersions(written map[string]Machine) State {
	s.Machines = slices.Clone(s.Machines)
	for i, m := range s.Machines {
		for _, ref := range []string{m.ID, m.Name} {
			if after, ok := written[ref]; ok && after.Version != "" {
				s.Machines[i].ID = after.ID
				s.Machines[i].Version = after.Version
				break
			}
		}
	}
	return s
}

// IsSameVersion reports whether m is the machine was at the same version, and so has the
// same config and image.
func (m Machine) IsSameVersion(was Machine) bool {
	return m.ID == was.ID && m.Version != "" && m.Version == was.Version
}

func findMachine(machines []Machine, id string) (Machine, bool) {
	i := slices.IndexFunc(machines, func(m Machine) bool { return m.ID == id })
	if i < 0 {
		return Machine{}, false
	}
	return machines[i], true
}
