package release

import (
	"cmp"
	"fmt"
	"slices"
)

// Goal returns the states that p leads to when it is executed on states. Machines
// that p creates have no ID in the result, only their planned name.
func (p Plan) Goal(states []State) []State {
	goal := make([]State, len(states))
	edits := map[Target]*goalBuilder{}
	for i, s := range states {
		goal[i] = s
		goal[i].Machines = slices.Clone(s.Machines)
		edits[s.Target] = newGoalBuilder(goal[i].Machines)
	}
	for _, step := range p.Steps() {
		if e := edits[step.Target]; e != nil {
			e.applyStep(step)
		}
	}
	for i := range goal {
		goal[i].Machines = edits[goal[i].Target].remainingMachines()
	}
	return goal
}

// A goalBuilder applies steps to the machines of one target. It has an index, because
// an environment may have thousands of machines.
type goalBuilder struct {
	machines  []Machine
	destroyed map[int]bool     // indexes of machines that were destroyed
	indexes   map[string][]int // indexes of machines, by ID and by name
}

func newGoalBuilder(machines []Machine) *goalBuilder {
	e := &goalBuilder{machines: machines, destroyed: map[int]bool{}, indexes: map[string][]int{}}
	for i := range machines {
		e.addToIndex(i)
	}
	return e
}

func (e *goalBuilder) addToIndex(i int) {
	m := e.machines[i]
	e.indexes[m.ID] = append(e.indexes[m.ID], i)
	if m.Name != m.ID {
		e.indexes[m.Name] = append(e.indexes[m.Name], i)
	}
}

// findIndex returns the index of the first machine with that ID or name, or -1.
func (e *goalBuilder) findIndex(ref string) int {
	for _, i := range e.indexes[ref] {
		if !e.destroyed[i] {
			return i
		}
	}
	return -1
}

// remainingMachines returns the machines that were not destroyed.
func (e *goalBuilder) remainingMachines() []Machine {
	left := e.machines[:0:0]
	for i, m := range e.machines {
		if !e.destroyed[i] {
			left = append(left, m)
		}
	}
	return left
}

func (e *goalBuilder) applyStep(step Step) {
	if step.Verb == Run {
		return // its machine is temporary
	}
	i := e.findIndex(step.Machine)
	if step.Verb == Create {
		if i < 0 {
			e.machines = append(e.machines, step.createdMachine())
			e.addToIndex(len(e.machines) - 1)
		}
		return
	}
	if i < 0 {
		return
	}
	m := &e.machines[i]
	switch step.Verb {
	case Update:
		m.Config = step.After
		m.Image = step.To
		m.Checks = nil
		m.Exit = nil
		m.Version = ""
		m.Host = ""
		if m.StartsOnUpdate() || step.Verbatim || step.Launch {
			m.State = "started"
		}
		if step.Verbatim && step.SkipLaunch {
			m.State = "stopped"
		}
		m.Crashed = false
	case Start:
		m.State = "started"
		m.Crashed = false
	case Stop:
		m.State = "stopped"
	case Cordon:
		m.Cordoned = true
	case Uncordon:
		m.Cordoned = false
	case Destroy:
		e.destroyed[i] = true
	}
}

// createdMachine returns the machine that a create step makes.
func (s Step) createdMachine() Machine {
	m := Machine{
		Name: s.Machine, Group: s.Group, Region: s.Region, Image: s.To, Config: s.After,
		Cordoned: s.Cordoned, State: "started", CreatedByPlan: !s.Verbatim,
	}
	if s.SkipLaunch {
		m.State = "stopped"
	}
	return m
}

// Unmet returns one Failure per machine of now that differs from goal. The result is
// empty if every machine runs its image and config, passes its checks, and has not
// exited since its launch, except for machines that Unreachable returns. A machine with
// State "" in goal, which was unhealthy before, only needs its image and config. rule
// decides which exits count.
func (goal State) Unmet(now State, rule ExitRule) (failures []Failure) {
	is, planned := now.indexMachines(), goal.indexMachines()
	for _, want := range goal.Machines {
		have, ok := is.findCounterpart(want)
		var f Failure
		switch {
		case !ok:
			f.Reason = "does not exist"
		case have.Host != "":
			continue // unknown: see Unreachable
		default:
			if f.Reason = describeMismatch(have, want); f.Reason == "" {
				f = findRunFailure(have, want, rule)
			}
		}
		if f.Reason != "" {
			f.Target = goal.Target
			f.Machine = cmp.Or(have.ID, want.ID)
			f.Name = want.Name
			f.Group = want.Group
			failures = append(failures, f)
		}
	}
	for _, have := range now.Machines {
		if have.CreatedByPlan && !planned.hasCounterpart(have) {
			failures = append(failures, Failure{Target: goal.Target, Machine: have.ID, Name: have.Name, Group: have.Group, Reason: "is not in the plan: a release created it and did not remove it"})
		}
	}
	return failures
}

// describeMismatch returns how the image, config or cordon of have differs from want,
// or "".
func describeMismatch(have, want Machine) string {
	isUnread := want.Host != "" && have.IsSameVersion(want) // want lacks what its host did not report
	switch {
	case have.Image.Digest() != want.Image.Digest() && !isUnread:
		return fmt.Sprintf("runs %s, not %s", have.Image.Digest(), want.Image.Digest())
	case !have.Config.IsSame(want.Config) && !isUnread:
		return "has another config than the plan's" + describeForeignChange(have.Config.Facts().Origin, want.Config.Facts().Origin)
	case have.Cordoned != want.Cordoned:
		return fmt.Sprintf("cordoned is %t, not %t", have.Cordoned, want.Cordoned)
	}
	return ""
}

// findRunFailure returns why the process of have does not run as want requires. Its
// Reason is "" if it does, or need not.
func findRunFailure(have, want Machine, rule ExitRule) (f Failure) {
	switch {
	case want.State == "" || want.State == "started" && have.HasCompleted() && !have.Config.Facts().HasServices:
		return f // it was unhealthy before, or its work is done
	case rule.countsAgainst(have, want):
		return Failure{Reason: have.Exit.String(), ExitCode: &have.Exit.Code}
	case want.State != "started" || have.IsAsleep():
		return f // it is idle: Fly's proxy starts it for the next request
	case have.State != "started":
		f.Reason = fmt.Sprintf("is %s, not started", have.State)
		if have.Exit != nil {
			f.ExitCode = &have.Exit.Code
		}
	case len(have.Checks) < want.Config.Facts().WantedChecks:
		f.Reason = fmt.Sprintf("reports %d of its %d checks", len(have.Checks), want.Config.Facts().WantedChecks)
	default:
		if i := slices.IndexFunc(have.Checks, func(c Check) bool { return c.Status != "passing" }); i >= 0 {
			f.Reason = fmt.Sprintf("check %s is %s", have.Checks[i].Name, have.Checks[i].Status)
			f.Check = have.Checks[i].Name
			f.Output = have.Checks[i].Output
		}
	}
	return f
}

// describeForeignChange returns which other client changed a machine from want to
// have, if its metadata name one, or "". It identifies a flyctl deploy during a rollout.
func describeForeignChange(have, want Origin) string {
	if have.withoutMachine() == want.withoutMachine() || have.Client == "" {
		return ""
	}
	return fmt.Sprintf(": another client changed it, perhaps flyctl deploy: its metadata name Fly release v%s and client %s", have.FlyVersion, have.Client)
}

// Unreachable returns one Failure per machine whose state is unknown because Fly cannot
// reach its host: the values that Fly reports of it are old. It leaves out machines
// that were unreachable when the plan was made.
func (goal State) Unreachable(now State) (failures []Failure) {
	is := now.indexMachines()
	for _, want := range goal.Machines {
		if have, ok := is.findCounterpart(want); ok && have.Host != "" && want.Host == "" {
			failures = append(failures, Failure{
				Target: goal.Target, Machine: have.ID, Name: have.Name, Group: have.Group,
				Reason: "health is unknown: its host is " + have.Host,
			})
		}
	}
	return failures
}

// DescribeMachines returns a sentence for each machine: whether it is on the plan, on the
// baseline, or on neither.
func DescribeMachines(goal, baseline, now []State) (said []string) {
	for _, s := range now {
		wants, before, have := findState(goal, s.Target).indexMachines(), findState(baseline, s.Target), s.indexMachines()
		were := before.indexMachines()
		for _, m := range s.Machines {
			is := "is on neither the plan nor the baseline"
			want, planned := wants.findCounterpart(m)
			was, existed := were.findCounterpart(m)
			switch {
			case existed && (m.IsSameVersion(was) || m.Config.IsSame(was.Config) && m.Image.Digest() == was.Image.Digest()):
				is = "is on the baseline"
			case planned && m.Config.IsSame(want.Config) && m.Image.Digest() == want.Image.Digest():
				is = "is on the plan"
			case m.Host != "":
				is = "is unknown: its host is " + m.Host
			}
			state := m.State
			if existed && m.IsRunning() != was.IsRunning() {
				state += ", was " + was.State
			}
			said = append(said, fmt.Sprintf("machine %s of %s %s: %s, %s", m.ID, s.Target, is, state, m.Image.Digest()))
		}
		for _, was := range before.Machines {
			if _, ok := have.findCounterpart(was); !ok {
				said = append(said, fmt.Sprintf("machine %s (%s) of %s is gone", was.ID, was.Name, s.Target))
			}
		}
	}
	return said
}
