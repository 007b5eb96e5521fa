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
		was, known := baselineOf(baseline, b.State.Target)
		if !known {
			continue // the rollout before was not about it
		}
		out[i].State.Machines = resumed(was.State, stateOf(goal, b.State.Target), b.State)
	}
	return out
}

func resumed(was, goal, now State) (machines []Machine) {
	were, wants, have := was.index(), goal.index(), now.index()
	for _, m := range now.Machines {
		before, existed := were.counterpart(m)
		want, planned := wants.counterpart(m)
		onGoal := planned && (m.Host != "" || SameConfig(m.Config, want.Config) && m.Image.Digest() == want.Image.Digest())
		switch {
		case existed && (onGoal || sameRun(m, before)):
			machines = append(machines, before)
		case !existed && onGoal && m.Created: // the rollout before made it
		default:
			machines = append(machines, m)
		}
	}
	for _, m := range was.Machines {
		if !have.knows(m) && !wants.knows(m) { // the rollout before removed it
			machines = append(machines, m)
		}
	}
	return machines
}

// SetApart returns now with the machines in Left that a rollout without a report
// made and that serve nothing: it was terminated before it gave them traffic, or
// after it took that away again. plan, baseline and states are that rollout's. A
// bluegreen resumes its switch and needs them.
//
// The machines that ran before that rollout, that it stopped and that are still
// stopped are marked as halted. stopped has the IDs of those that it stopped.
func SetApart(plan Plan, baseline []Baseline, states, now []State, stopped []string) []State {
	out, goal := slices.Clone(now), plan.Goal(states)
	for i, s := range out {
		was, known := baselineOf(baseline, s.Target)
		if known {
			out[i].Machines = markHalted(was.State, s.Machines, stopped)
			s = out[i]
		}
		blueGreen := slices.ContainsFunc(plan.Targets, func(t TargetPlan) bool { return t.Target == s.Target && t.Strategy == BlueGreen })
		if !known || blueGreen {
			continue
		}
		were, wants := was.State.index(), stateOf(goal, s.Target).index()
		isLeft := func(m Machine) bool {
			want, planned := wants.counterpart(m)
			return m.Created && m.Cordoned && m.Host == "" && !were.knows(m) && planned && !want.Cordoned && sameRun(m, want)
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

// markHalted returns machines with those marked as halted that are in stopped, that ran
// in the State was, and that do not run now.
func markHalted(was State, machines []Machine, stopped []string) []Machine {
	if len(stopped) == 0 {
		return machines
	}
	were, out := was.index(), slices.Clone(machines)
	for i, m := range out {
		before, existed := were.counterpart(m)
		out[i].Halted = existed && before.Running() && !m.Running() && slices.Contains(stopped, m.ID)
	}
	return out
}

// sameRun reports whether two machines run the same config and image.
func sameRun(a, b Machine) bool {
	return SameConfig(a.Config, b.Config) && a.Image.Digest() == b.Image.Digest()
}

func baselineOf(baselines []Baseline, t Target) (Baseline, bool) {
	i := slices.IndexFunc(baselines, func(b Baseline) bool { return b.State.Target == t })
	if i < 0 {
		return Baseline{}, false
	}
	return baselines[i], true
}

// Changed returns the IDs of the machines that are not as baselines have them.
func Changed(baselines []Baseline, now []State) (ids []string) {
	for _, b := range baselines {
		were := b.State.index()
		for _, m := range stateOf(now, b.State.Target).Machines {
			was, existed := were.counterpart(m)
			if !existed || was.Version != m.Version {
				ids = append(ids, m.ID)
			}
		}
	}
	return ids
}
