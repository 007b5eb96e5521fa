package release

import "slices"

// Resumed returns the baselines of a rollout that follows one that ended without
// a report. now is what the rollout found, with its own settings; baseline and
// goal are those of the rollout before.
//
// A machine that is on the goal of the rollout before has the config of that
// one's baseline in the result, and machines that it made are left out. Any
// other machine stays as it was found: a person changed it since.
func Resumed(baseline []Baseline, goal []State, now []Baseline) []Baseline {
	out := slices.Clone(now)
	for i, b := range out {
		was, known := findBaseline(baseline, b.State.Target)
		if !known {
			continue // the rollout before was not about it
		}
		out[i].State.Machines = resumeMachines(was.State, findState(goal, b.State.Target), b.State)
	}
	return out
}

func resumeMachines(was, goal, now State) (machines []Machine) {
	were, wants, have := was.indexMachines(), goal.indexMachines(), now.indexMachines()
	for _, m := range now.Machines {
		before, existed := were.findCounterpart(m)
		want, planned := wants.findCounterpart(m)
		onGoal := planned && (m.Host != "" || SameConfig(m.Config, want.Config) && m.Image.Digest() == want.Image.Digest())
		switch {
		case existed && (onGoal || isSameWorkload(m, before)):
			machines = append(machines, before)
		case !existed && onGoal && m.Created: // the rollout before made it
		default:
			machines = append(machines, m)
		}
	}
	for _, m := range was.Machines {
		if !have.hasCounterpart(m) && !wants.hasCounterpart(m) { // the rollout before removed it
			machines = append(machines, m)
		}
	}
	return machines
}

// SetApart returns now with the machines in Left that a rollout without a report
// made and that serve nothing: it was terminated before it gave them traffic, or
// after it took that away again. plan, baseline and states are that rollout's. A
// bluegreen resumes its switch and needs them.
func SetApart(plan Plan, baseline []Baseline, states, now []State) []State {
	out, goal := slices.Clone(now), plan.Goal(states)
	for i, s := range out {
		was, known := findBaseline(baseline, s.Target)
		blueGreen := slices.ContainsFunc(plan.Targets, func(t TargetPlan) bool { return t.Target == s.Target && t.Strategy == BlueGreen })
		if !known || blueGreen {
			continue
		}
		were, wants := was.State.indexMachines(), findState(goal, s.Target).indexMachines()
		isLeft := func(m Machine) bool {
			want, planned := wants.findCounterpart(m)
			return m.Created && m.Cordoned && m.Host == "" && !were.hasCounterpart(m) && planned && !want.Cordoned && isSameWorkload(m, want)
		}
		out[i].Machines, out[i].Left = nil, nil
		for _, m := range s.Machines {
			if isLeft(m) {
				out[i].Left = append(out[i].Left, m)
			} else {
				out[i].Machines = append(out[i].Machines, m)
			}
		}
	}
	return out
}

// isSameWorkload reports whether two machines run the same config and image.
func isSameWorkload(a, b Machine) bool {
	return SameConfig(a.Config, b.Config) && a.Image.Digest() == b.Image.Digest()
}

func findBaseline(baselines []Baseline, t Target) (Baseline, bool) {
	i := slices.IndexFunc(baselines, func(b Baseline) bool { return b.State.Target == t })
	if i < 0 {
		return Baseline{}, false
	}
	return baselines[i], true
}

// Changed returns the IDs of the machines that are not as baselines have them.
func Changed(baselines []Baseline, now []State) (ids []string) {
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
