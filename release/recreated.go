package release

// A Recreated is a machine of a baseline that has a new ID, because a rollback had to
// create it again.
type Recreated struct {
	Target Target
	ID     string
	NewID  string
}

// FindRecreated returns the machines of the baselines that have a new ID now.
func FindRecreated(baselines []Baseline, now []State) (all []Recreated) {
	for _, b := range baselines {
		have := findState(now, b.State.Target).indexMachines()
		for _, want := range b.State.Machines {
			if m, ok := have.findCounterpart(want); ok && m.ID != want.ID {
				all = append(all, Recreated{Target: b.State.Target, ID: want.ID, NewID: m.ID})
			}
		}
	}
	return all
}
