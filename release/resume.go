package release

import "slices"

// ResumeBaselines returns the baselines of a rollout that follows a rollout without a
// report. now are the baselines from the states at the start of this rollout. plan,
// baseline and states are those of the earlier rollout.
//
// In the result, a machine that has the config of the earlier plan has its config of
// baseline. Machines that the earlier rollout created are left out, and so are those that
// it found and that were not in its own baseline: a rollout before it created them. Any
// other machine was changed by another client since, and keeps its current config.
func ResumeBaselines(plan Plan, baseline []Baseline, states []State, now []Baseline) []Baseline {
	out, goal := slices.Clone(now), plan.Goal(states)
	for i, b := range out {
		was, known := findBaseline(baseline, b.State.Target)
		if !known {
			continue // the earlier rollout did not include it
		}
		target := b.State.Target
		out[i].State.Machines = resumeMachines(was.State, findState(states, target), findState(goal, target), b.State)
	}
	return out
}

// resumeMachines returns the machines of the baseline was as ResumeBaselines describes.
// found and goal are the state before the earlier rollout and its goal.
func resumeMachines(was, found, goal, now State) (machines []Machine) {
	were, had, wants := was.indexMachines(), found.indexMachines(), goal.indexMachines()
	for _, m := range now.Machines {
		before, existed := were.findCounterpart(m)
		want, planned := wants.findCounterpart(m)
		onGoal := planned && isOnGoal(m, want)
		leftover, wasFound := had.byID[m.ID]
		switch {
		case existed && (onGoal || isSameWorkload(m, before)):
			machines = append(machines, before)
		case !existed && onGoal && m.CreatedByPlan: // the earlier rollout created it
		case !existed && wasFound && m.CreatedByPlan && (m.Host != "" || isSameWorkload(m, leftover)): // a rollout before it did
		default:
			machines = append(machines, m)
		}
	}
	return append(machines, removedMachines(was, goal, now)...)
}

// isOnGoal reports whether m has the config and image of want. On an unreachable host it
// may have: Fly reports old values.
func isOnGoal(m, want Machine) bool {
	return m.Host != "" || m.Config.IsSame(want.Config) && m.Image.Digest() == want.Image.Digest()
}

// removedMachines returns the machines of was that neither goal nor now has: the earlier
// rollout removed them.
func removedMachines(was, goal, now State) (machines []Machine) {
	wants, have := goal.indexMachines(), now.indexMachines()
	for _, m := range was.Machines {
		if !have.hasCounterpart(m) && !wants.hasCounterpart(m) {
			machines = append(machines, m)
		}
	}
	return machines
}

// SeparateLeftovers returns now with Leftovers set to the machines that a rollout
// without a report created and that serve no traffic: it ended before it uncordoned
// them, or after it cordoned them again. plan, baseline and states are those of that
// rollout. A bluegreen needs such machines to resume its switch, and keeps them.
//
// SeparateLeftovers marks as superseded the machines whose replacement serves. It marks
// as halted the other machines that ran before that rollout, that it stopped, and that
// are still stopped. stopped has the IDs of the machines that it stopped.
func SeparateLeftovers(plan Plan, baseline []Baseline, states, now []State, stopped []string) []State {
	out, goal := slices.Clone(now), plan.Goal(states)
	for i, s := range out {
		was, known := findBaseline(baseline, s.Target)
		if known {
			out[i].Machines = markHalted(was.State, plan.markSuperseded(s), stopped)
			s = out[i]
		}
		blueGreen := slices.ContainsFunc(plan.Targets, func(t TargetPlan) bool { return t.Target == s.Target && t.Strategy == BlueGreen })
		if !known || blueGreen {
			continue
		}
		were, wants := was.State.indexMachines(), findState(goal, s.Target).indexMachines()
		isLeft := func(m Machine) bool {
			want, planned := wants.findCounterpart(m)
			return m.CreatedByPlan && m.Cordoned && m.Host == "" && !were.hasCounterpart(m) && planned && !want.Cordoned && isSameWorkload(m, want)
		}
		out[i].Machines = nil
		out[i].Leftovers = nil
		for _, m := range s.Machines {
			if isLeft(m) {
				out[i].Leftovers = append(out[i].Leftovers, m)
			} else {
				out[i].Machines = append(out[i].Machines, m)
			}
		}
	}
	return out
}

// markSuperseded returns the machines of now with Superseded set for those that p
// replaces and whose replacement exists and is not cordoned. A bluegreen recognizes them
// by itself.
func (p Plan) markSuperseded(now State) []Machine {
	replacements := map[string]Machine{} // by the ID of the replaced machine
	for _, t := range p.Targets {
		if t.Target != now.Target || t.Strategy == BlueGreen {
			continue
		}
		for _, s := range p.Steps() {
			if s.Target == t.Target && s.Verb == Create && s.Replaces != "" {
				replacements[s.Replaces] = s.createdMachine()
			}
		}
	}
	is, out := now.indexMachines(), slices.Clone(now.Machines)
	for i, m := range out {
		want, isReplaced := replacements[m.ID]
		have, exists := is.findCounterpart(want)
		out[i].Superseded = isReplaced && exists && !have.Cordoned && isSameWorkload(have, want)
	}
	return out
}

// markHalted returns machines with Halted set for those in stopped that ran in the State
// was and do not run now.
func markHalted(was State, machines []Machine, stopped []string) []Machine {
	if len(stopped) == 0 {
		return machines
	}
	were, out := was.indexMachines(), slices.Clone(machines)
	for i, m := range out {
		before, existed := were.findCounterpart(m)
		out[i].Halted = existed && before.IsRunning() && !m.IsRunning() && !m.Superseded && slices.Contains(stopped, m.ID)
	}
	return out
}

// isSameWorkload reports whether two machines have the same config and image.
func isSameWorkload(a, b Machine) bool {
	return a.Config.IsSame(b.Config) && a.Image.Digest() == b.Image.Digest()
}

func findBaseline(baselines []Baseline, t Target) (Baseline, bool) {
	i := slices.IndexFunc(baselines, func(b Baseline) bool { return b.State.Target == t })
	if i < 0 {
		return Baseline{}, false
	}
	return baselines[i], true
}

// ChangedMachines returns the IDs of the machines that are not in baselines at their
// version.
func ChangedMachines(baselines []Baseline, now []State) (ids []string) {
	for _, b := range baselines {
		were := b.State.indexMachines()
		for _, m := range findState(now, b.State.Target).Machines {
			was, existed := were.findCounterpart(m)
			if !existed || was.Version != m.Version {
				ids = append(ids, m.ID)
			}
		}
	}
	return ids
}
