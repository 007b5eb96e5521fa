package release

import (
	"cmp"
	"fmt"
	"slices"
)

// Evidence contains observations, besides the machines, that Judge uses.
type Evidence struct {
	// RanGroups are the groups of which a machine of the new version ran and passed,
	// even if it was stopped since.
	RanGroups []string
	// HasProbe is true if there is a probe, ProbePassed if it passed now.
	HasProbe, ProbePassed bool
	// IsRestore is true if the goal is a baseline, whose machines ran before.
	IsRestore bool
	// RemovedMachines are the IDs of machines that the plan destroys. They run the old
	// version and prove nothing about the new one.
	RemovedMachines []string
}

// Judge returns the health of now, for which Unmet returned nothing: Healthy, or
// Unchecked if no check or probe exists, no machine runs, or a group with services never
// ran. notes has a sentence for each group that lacks something. idle are the groups of
// which no machine ran.
func (goal State) Judge(now State, seen Evidence) (h Health, notes, idle []string) {
	goal.Machines = slices.DeleteFunc(slices.Clone(goal.Machines), func(m Machine) bool { return slices.Contains(seen.RemovedMachines, m.ID) })
	if len(goal.Machines) == 0 {
		return Unchecked, []string{"nothing runs: it has no machines"}, nil
	}
	var sum verdictSum
	groups, machines := goal.groupNames(), now.indexMachines()
	for _, g := range groups {
		sum.addGroup(g, goal.collectGroupFacts(machines, g), seen)
	}
	switch {
	case len(sum.idle) == len(groups):
		return Unchecked, sum.notes, sum.idle
	case !sum.proved && !seen.ProbePassed:
		return Unchecked, append([]string{"nothing checks it"}, sum.notes...), sum.idle
	}
	if !seen.ProbePassed {
		for _, g := range sum.bare {
			sum.notes = append(sum.notes, fmt.Sprintf("group %s: nothing checks it", g))
		}
	}
	if sum.unproved {
		return Unchecked, sum.notes, sum.idle
	}
	return Healthy, sum.notes, sum.idle
}

// A verdictSum collects the facts of all groups of a target.
type verdictSum struct {
	proved   bool     // a check passed, or a group has completed its work
	unproved bool     // no machine of a group with services ran
	bare     []string // groups that ran and have no check
	idle     []string // groups of which no machine ran
	notes    []string
}

func (sum *verdictSum) addGroup(g string, is groupFacts, seen Evidence) {
	switch {
	case is.isHealthy, is.hasCompleted, slices.Contains(seen.RanGroups, g):
		sum.proved = sum.proved || is.hasChecks || is.hasCompleted || !is.isHealthy && seen.HasProbe
		if is.hasCompleted {
			sum.notes = append(sum.notes, fmt.Sprintf("group %s: its work is done: exit code 0", g))
		} else if !is.hasChecks {
			sum.bare = append(sum.bare, g)
		}
		return
	case is.isRunning:
		sum.unproved = sum.unproved || is.hasServices && !seen.IsRestore
		sum.notes = append(sum.notes, fmt.Sprintf("group %s: no machine of it is well, as before", g))
	case is.hasServices:
		sum.unproved = sum.unproved || !seen.IsRestore
		sum.notes = append(sum.notes, fmt.Sprintf("group %s: no machine ran: all are stopped", g))
	default:
		sum.notes = append(sum.notes, fmt.Sprintf("group %s: nothing runs: its machines are stopped", g))
	}
	sum.idle = append(sum.idle, g)
}

// groupFacts are facts about the machines of one group.
type groupFacts struct{ isHealthy, isRunning, hasCompleted, hasServices, hasChecks bool }

func (goal State) collectGroupFacts(now machineIndex, group string) (is groupFacts) {
	for _, want := range goal.Machines {
		have, ok := now.findCounterpart(want)
		if want.Group != group || !ok {
			continue
		}
		is.hasServices = is.hasServices || want.Config.Facts().HasServices
		is.hasChecks = is.hasChecks || want.Config.Facts().WantedChecks > 0
		is.isRunning = is.isRunning || have.IsRunning()
		is.hasCompleted = is.hasCompleted || have.HasCompleted() && !have.Config.Facts().HasServices
		is.isHealthy = is.isHealthy || have.IsHealthy() && len(have.Checks) >= want.Config.Facts().WantedChecks
	}
	return is
}

// groupNames returns the names of the groups of s, sorted.
func (s State) groupNames() (names []string) {
	for _, m := range s.Machines {
		if !slices.Contains(names, m.Group) {
			names = append(names, m.Group)
		}
	}
	slices.Sort(names)
	return names
}

// canBeStarted reports whether a start for verification is what Fly's proxy would do for
// a request, or m ran before.
func (m Machine) canBeStarted() bool {
	return !m.Exit.isFailure() && (!m.Cordoned || m.IsRunning()) && m.Host == "" && m.Config.Facts().Autostart && m.Config.Facts().StandbyFor == ""
}

// HasUncheckedMachine reports whether a machine of goal in one of these groups has no
// health check, so that only time shows whether its process stays up.
func (goal State) HasUncheckedMachine(groups []string) bool {
	return slices.ContainsFunc(goal.Machines, func(m Machine) bool {
		return slices.Contains(groups, m.Group) && m.Config.Facts().WantedChecks == 0
	})
}

// An UncheckedPort is a TCP port on which a machine should listen and that has no
// health check.
type UncheckedPort struct {
	Machine string
	Group   string
	Port    int
}

// UncheckedPorts returns the ports without a health check of one started machine per
// group.
func (goal State) UncheckedPorts(now State) (all []UncheckedPort) {
	for _, g := range goal.groupNames() {
		i := slices.IndexFunc(now.Machines, func(m Machine) bool {
			_, ok := goal.FindMachine(m.ID)
			if !ok {
				_, ok = goal.FindMachine(m.Name)
			}
			return ok && m.Group == g && m.State == "started"
		})
		if i < 0 {
			continue
		}
		for _, port := range now.Machines[i].Config.Facts().UncheckedPorts {
			all = append(all, UncheckedPort{now.Machines[i].ID, g, port})
		}
	}
	return all
}

// updatedMachines returns the IDs or planned names of the machines whose version p
// changes, by target.
func (p Plan) updatedMachines() map[Target]map[string]bool {
	all := map[Target]map[string]bool{}
	for _, s := range p.Steps() {
		if s.Verb != Create && s.Verb != Update {
			continue
		}
		if all[s.Target] == nil {
			all[s.Target] = map[string]bool{}
		}
		all[s.Target][s.Machine] = true
	}
	return all
}

// RemovedMachines returns the IDs of the machines of target t that p destroys.
func (p Plan) RemovedMachines(t Target) (ids []string) {
	for _, s := range p.Steps() {
		if s.Target == t && s.Verb == Destroy {
			ids = append(ids, s.Machine)
		}
	}
	return ids
}

// CountSteps returns the number of steps on machines of target t.
func (p Plan) CountSteps(t Target) (n int) {
	for _, s := range p.Steps() {
		if s.Target == t {
			n++
		}
	}
	return n
}

// IsRestore reports whether p restores a baseline.
func (p Plan) IsRestore() bool {
	return slices.ContainsFunc(p.Steps(), func(s Step) bool { return s.Verbatim })
}

// ChangedGroups returns the groups of target t with a machine whose version p changes.
func (p Plan) ChangedGroups(t Target) (groups []string) {
	for _, s := range p.Steps() {
		if s.Target == t && (s.Verb == Create || s.Verb == Update) && !slices.Contains(groups, s.Group) {
			groups = append(groups, s.Group)
		}
	}
	slices.Sort(groups)
	return groups
}

// VerificationStarts returns a start step for one machine of each changed group with
// services of which no machine ran the new version, so that it can be verified. goals
// are the goals of p; resumed has the IDs of machines that an earlier rollout changed
// which p resumes; ran reports whether a machine of a group ran. It starts only
// machines that Fly's proxy would start for a request, or that ran before. It starts no
// machine that crashed in the resumed rollout, because the start would hide the crash.
func (p Plan) VerificationStarts(goals []State, resumed map[string]bool, ran func(Target, string) bool) (steps []Step) {
	updated := p.updatedMachines()
	if p.IsRestore() {
		return nil // the baseline ran before
	}
	for _, t := range p.Targets {
		goal, changed := findState(goals, t.Target), p.ChangedGroups(t.Target)
		for _, g := range goal.groupNames() {
			if ran(t.Target, g) {
				continue
			}
			i := slices.IndexFunc(goal.Machines, func(m Machine) bool {
				isNew := slices.Contains(changed, g) && (updated[t.Target][m.ID] || updated[t.Target][m.Name]) || resumed[m.ID]
				return isNew && m.Group == g && m.canBeStarted()
			})
			if i < 0 {
				continue
			}
			m := goal.Machines[i]
			steps = append(steps, NewStart(StepMachine{
				Target: t.Target, FlyApp: t.FlyApp, Machine: cmp.Or(m.ID, m.Name), Group: g, Region: m.Region, Wait: t.Wait,
			}).forVerification(m))
		}
	}
	return steps
}
