package release

import (
	"fmt"
	"slices"
	"strings"
)

// planNotes returns the notes that the plan shows for spec before the approval.
func (spec Spec) planNotes(state State, waves []Wave) (notes []string) {
	if spec.UnverifiedReason != "" {
		notes = append(notes, spec.UnverifiedReason)
	}
	if note := state.describeStagedSecrets(); note != "" {
		notes = append(notes, note)
	}
	if spec.Command != nil {
		notes = append(notes, fmt.Sprintf("runs release command %q first; a rollback does not undo its changes", spec.Command.Run))
	}
	cordoned, halted := spec.machineNotes(state)
	notes = slices.Concat(notes, spec.replacementNotes(), volumeNotes(waves), spec.leftoverNotes(state), cordoned, halted)
	for _, c := range state.Commands {
		notes = append(notes, c+": it runs a command of another client, or was left by one; it is left alone")
	}
	if len(state.Foreign) > 0 {
		notes = append(notes, "leaves alone machines that no release created: "+strings.Join(state.Foreign, ", "))
	}
	return notes
}

func (spec Spec) replacementNotes() (notes []string) {
	for _, g := range spec.Groups {
		for _, id := range sortedKeys(g.Replace) {
			notes = append(notes, fmt.Sprintf("machine %s is replaced: %s", id, g.Replace[id]))
		}
	}
	return notes
}

// volumeNotes returns how many volumes of each name the new machines of waves take.
func volumeNotes(waves []Wave) (notes []string) {
	need := map[string]int{}
	for _, s := range (Plan{Waves: waves}).Steps() {
		if s.Verb == Create && s.Volume != nil {
			need[s.Volume.Name]++
		}
	}
	for _, name := range sortedKeys(need) {
		notes = append(notes, fmt.Sprintf("takes %d volume(s) %s; those that have to be made stay after a rollback", need[name], name))
	}
	return notes
}

// leftoverNotes returns which machines of an earlier bluegreen are destroyed.
func (spec Spec) leftoverNotes(state State) (notes []string) {
	if spec.Strategy != BlueGreen {
		return nil
	}
	for _, g := range spec.Groups {
		stale, replace, _, err := spec.classifyMachines(g, state)
		if err != nil {
			continue // planWaves returns it
		}
		_, left := spec.classifyLeftovers(g, state, append(stale, replace...))
		for _, s := range left {
			notes = append(notes, fmt.Sprintf("machine %s is cordoned, and of another release than any that serves: it was left by an earlier switch, and is destroyed", s.Machine))
		}
	}
	return notes
}

// machineNotes returns which machines stay cordoned, and which halted ones are started.
func (spec Spec) machineNotes(state State) (cordoned, halted []string) {
	for _, m := range state.Machines {
		if spec.Strategy != BlueGreen && m.Cordoned && m.IsRunning() {
			cordoned = append(cordoned, fmt.Sprintf("machine %s (%s) is cordoned and gets no traffic; it stays so", m.ID, m.Name))
		}
		if m.Superseded {
			halted = append(halted, fmt.Sprintf("machine %s (%s) was replaced by a rollout that ended without a report; it is destroyed", m.ID, m.Name))
		}
		if m.Halted {
			halted = append(halted, fmt.Sprintf("machine %s (%s) was stopped by a rollout that ended without a report; it is started again", m.ID, m.Name))
		}
	}
	return cordoned, halted
}
