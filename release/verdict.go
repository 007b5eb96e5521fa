package release

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// A Proof is what was seen of a goal besides its machines.
type Proof struct {
	// Ran are the groups of which a machine ran the new version and passed,
	// though it may have been stopped since.
	Ran []string
	// Probe: there is one; Answered: it was answered well just now.
	Probe, Answered bool
	// Back: the goal is a baseline. Its machines ran before.
	Back bool
	// Removed are the IDs of machines that the plan destroys. They run the old version
	// and prove nothing of the new one.
	Removed []string
}

// Judge returns whether what runs now proves that goal, of which nothing is
// Missing, is well: Healthy, or Unchecked where nothing checks it, nothing runs,
// or a group that serves has never run. The notes say which group lacks what; idle
// are the groups of which no machine was seen to run.
func (goal State) Judge(now State, p Proof) (h Health, notes, idle []string) {
	goal.Machines = slices.DeleteFunc(slices.Clone(goal.Machines), func(m Machine) bool { return slices.Contains(p.Removed, m.ID) })
	if len(goal.Machines) == 0 {
		return Unchecked, []string{"nothing runs: it has no machines"}, nil
	}
	proved := p.Answered
	unproved := false // a group that serves has not run
	var bare []string
	groups, machines := goal.groupNames(), now.indexMachines()
	for _, g := range groups {
		is := goal.collectGroupFacts(machines, g)
		switch {
		case is.isHealthy, is.hasCompleted, slices.Contains(p.Ran, g):
			proved = proved || is.hasChecks || is.hasCompleted || !is.isHealthy && p.Probe
			if !is.hasChecks && !is.hasCompleted {
				bare = append(bare, g)
			}
			if is.hasCompleted {
				notes = append(notes, fmt.Sprintf("group %s: its work is done: exit code 0", g))
			}
		case is.isRunning:
			unproved = unproved || is.hasServices && !p.Back
			notes = append(notes, fmt.Sprintf("group %s: no machine of it is well, as before", g))
			idle = append(idle, g)
		case is.hasServices:
			unproved = unproved || !p.Back
			notes = append(notes, fmt.Sprintf("group %s: no machine ran: all are stopped", g))
			idle = append(idle, g)
		default:
			notes = append(notes, fmt.Sprintf("group %s: nothing runs: its machines are stopped", g))
			idle = append(idle, g)
		}
	}
	switch {
	case len(idle) == len(groups):
		return Unchecked, notes, idle
	case !proved:
		return Unchecked, append([]string{"nothing checks it"}, notes...), idle
	}
	if !p.Answered {
		for _, g := range bare {
			notes = append(notes, fmt.Sprintf("group %s: nothing checks it", g))
		}
	}
	if unproved {
		return Unchecked, notes, idle
	}
	return Healthy, notes, idle
}

// A groupFacts is how one group is.
type groupFacts struct{ isHealthy, isRunning, hasCompleted, hasServices, hasChecks bool }

func (goal State) collectGroupFacts(now machineIndex, group string) (is groupFacts) {
	for _, want := range goal.Machines {
		have, ok := now.findCounterpart(want)
		if want.Group != group || !ok {
			continue
		}
		is.hasServices = is.hasServices || Serves(want.Config)
		is.hasChecks = is.hasChecks || ChecksIn(want.Config) > 0
		is.isRunning = is.isRunning || have.Running()
		is.hasCompleted = is.hasCompleted || have.Ended() && !Serves(have.Config)
		is.isHealthy = is.isHealthy || have.Healthy() && len(have.Checks) >= ChecksIn(want.Config)
	}
	return is
}

// groupNames are the names of the groups of s, sorted.
func (s State) groupNames() (names []string) {
	for _, m := range s.Machines {
		if !slices.Contains(names, m.Group) {
			names = append(names, m.Group)
		}
	}
	slices.Sort(names)
	return names
}

// IsBare reports whether a machine of goal in one of these groups has no health
// check: only time shows whether its process stays.
func (goal State) IsBare(groups []string) bool {
	return slices.ContainsFunc(goal.Machines, func(m Machine) bool {
		return slices.Contains(groups, m.Group) && ChecksIn(m.Config) == 0
	})
}

// A Listener is a TCP port at which a machine should listen, and that no health
// check of its config is about.
type Listener struct {
	Machine string
	Group   string
	Port    int
}

// Listeners returns the ports at which now should listen: of each group, those of
// one started machine.
func (goal State) Listeners(now State) (all []Listener) {
	for _, g := range goal.groupNames() {
		i := slices.IndexFunc(now.Machines, func(m Machine) bool {
			_, ok := goal.Machine(m.ID)
			if !ok {
				_, ok = goal.Machine(m.Name)
			}
			return ok && m.Group == g && m.State == "started"
		})
		if i < 0 {
			continue
		}
		for _, port := range portsWithoutCheck(now.Machines[i].Config) {
			all = append(all, Listener{now.Machines[i].ID, g, port})
		}
	}
	return all
}

// portsWithoutCheck returns the internal ports of the TCP services of a config that
// have no check.
func portsWithoutCheck(config json.RawMessage) (ports []int) {
	var c struct {
		Services []struct {
			Protocol     string
			InternalPort int `json:"internal_port"`
			Checks       []json.RawMessage
		}
		Checks map[string]struct{ Port int }
	}
	if json.Unmarshal(config, &c) != nil {
		return nil
	}
	heard := map[int]bool{0: true}
	for _, check := range c.Checks {
		heard[check.Port] = true
	}
	for _, s := range c.Services {
		heard[s.InternalPort] = heard[s.InternalPort] || len(s.Checks) > 0
	}
	for _, s := range c.Services {
		if s.Protocol != "udp" && !heard[s.InternalPort] {
			heard[s.InternalPort] = true
			ports = append(ports, s.InternalPort)
		}
	}
	return ports
}

// updatedMachines returns the machines, by ID or planned name, to which p gives another version.
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

// Removed returns the IDs of the machines of a target that p destroys.
func (p Plan) Removed(t Target) (ids []string) {
	for _, s := range p.Steps() {
		if s.Target == t && s.Verb == Destroy {
			ids = append(ids, s.Machine)
		}
	}
	return ids
}

// StepsOf returns how many steps p has on machines of a target.
func (p Plan) StepsOf(t Target) (n int) {
	for _, s := range p.Steps() {
		if s.Target == t {
			n++
		}
	}
	return n
}

// IsRestore reports whether p leads back to a baseline.
func (p Plan) IsRestore() bool {
	return slices.ContainsFunc(p.Steps(), func(s Step) bool { return s.Exact })
}

// ChangedGroups returns the groups in which p gives a machine another version.
func (p Plan) ChangedGroups(t Target) (groups []string) {
	for _, s := range p.Steps() {
		if s.Target == t && (s.Verb == Create || s.Verb == Update) && !slices.Contains(groups, s.Group) {
			groups = append(groups, s.Group)
		}
	}
	slices.Sort(groups)
	return groups
}

// Sleepers returns a step for each group that serves, that p changes, and of
// which no machine has run what it leads to: it starts one for a look. goals are
// p's, and resumed the machines, by ID, that a rollout which p resumes has changed.
// It starts no machine that Fly's proxy would not start for a request, except one that
// ran before; and none that has crashed since the start of a rollout that p resumes,
// because a start would hide the crash.
func (p Plan) Sleepers(goals []State, resumed map[string]bool, ran func(Target, string) bool) (steps []Step) {
	updated := p.updatedMachines()
	if p.IsRestore() {
		return nil // what it leads to ran before
	}
	for _, t := range p.Targets {
		goal, changed := findState(goals, t.Target), p.ChangedGroups(t.Target)
		for _, g := range goal.groupNames() {
			if ran(t.Target, g) {
				continue
			}
			i := slices.IndexFunc(goal.Machines, func(m Machine) bool {
				isNew := slices.Contains(changed, g) && (updated[t.Target][m.ID] || updated[t.Target][m.Name]) || resumed[m.ID]
				return isNew && !m.Exit.isFailure() && m.Group == g && (!m.Cordoned || m.Running()) && m.Host == "" && hasAutostart(m.Config) && parseStandbyFor(m.Config) == ""
			})
			if i < 0 {
				continue
			}
			m := goal.Machines[i]
			steps = append(steps, Step{
				Verb: Start, Target: t.Target, FlyApp: t.FlyApp, Machine: cmp.Or(m.ID, m.Name), Group: g, Region: m.Region, To: m.Image, Idle: !m.Running(), Wait: t.Wait,
			})
		}
	}
	return steps
}
