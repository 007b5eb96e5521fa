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
