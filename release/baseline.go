package release

import (
	"fmt"
	"slices"
)

// A Baseline is the state of a target before the first change, with the limits for its
// restore.
type Baseline struct {
	State          State    `json:"state"`
	Level          int      `json:"level"`
	MaxUnavailable float64  `json:"max_unavailable"`
	Wait           Duration `json:"wait"`
	Probe          *Probe   `json:"probe,omitempty"`
}

// WasHealthy reports whether every machine of b was healthy and its probe passed. A
// rollback then requires the same.
func (b Baseline) WasHealthy() bool {
	fails := slices.ContainsFunc(b.State.Machines, func(m Machine) bool { return !m.IsHealthy() })
	return len(b.State.Machines) > 0 && !fails && b.State.ProbeError == ""
}

// Baselines returns the states of the targets of p as baselines.
func (p Plan) Baselines(states []State) (bs []Baseline) {
	for _, t := range p.Targets {
		for _, s := range states {
			if s.Target == t.Target {
				bs = append(bs, Baseline{State: s, Level: t.Level, MaxUnavailable: t.MaxUnavailable, Wait: t.Wait, Probe: t.Probe})
			}
		}
	}
	return bs
}

// BaselineStates returns the states of baselines.
func BaselineStates(baselines []Baseline) (states []State) {
	for _, b := range baselines {
		states = append(states, b.State)
	}
	return states
}

// WithKnownConfigs returns states with the configs that p has of machines on hosts that
// are unreachable now, because Fly reports only some values of those. A rollback to
// incomplete values would lose the others. p has the whole config of every machine that
// it updates, at the version that CheckStale compared.
func (p Plan) WithKnownConfigs(states []State) []State {
	out := slices.Clone(states)
	for i := range out {
		known := p.KnownMachines(out[i].Target)
		out[i] = out[i].WithKnownMachines(known)
		out[i].Machines = slices.Clone(out[i].Machines)
		for j, m := range out[i].Machines {
			if was, ok := findMachine(known, m.ID); ok && m.Host != "" && was.Host == "" && m.IsSameVersion(was) {
				out[i].Machines[j].Host = ""
			}
		}
	}
	return out
}

// OwnedBy returns a predicate: whether the config and image of a machine equal those of
// the goal or the baseline. Any other machine was changed by another client.
func OwnedBy(goal, baseline []State) func(Target, Machine) bool {
	either := []map[Target]machineIndex{indexStates(goal), indexStates(baseline)}
	return func(t Target, m Machine) bool {
		for _, states := range either {
			if m.Host != "" {
				return true // Fly reports old values
			}
			if want, ok := states[t].findCounterpart(m); ok && (m.IsSameVersion(want) || m.Config.IsSame(want.Config) && m.Image.Digest() == want.Image.Digest()) {
				return true
			}
		}
		return false
	}
}

// CreatedBy returns a predicate: whether a plan with that goal created a machine.
func CreatedBy(goal []State) func(Target, Machine) bool {
	created := map[Target]map[string][]Machine{} // by planned name
	for _, s := range goal {
		created[s.Target] = map[string][]Machine{}
		for _, m := range s.Machines {
			if m.ID == "" {
				created[s.Target][m.Name] = append(created[s.Target][m.Name], m)
			}
		}
	}
	return func(t Target, m Machine) bool {
		return slices.ContainsFunc(created[t][m.Name], func(want Machine) bool {
			return (m.Host != "" || m.Config.IsSame(want.Config) && m.Image.Digest() == want.Image.Digest())
		})
	}
}

func findState(states []State, t Target) State {
	for _, s := range states {
		if s.Target == t {
			return s
		}
	}
	return State{Target: t}
}

// DescribeLost returns a sentence for each machine of the baselines that cannot be
// created again: it is gone, and its config is incomplete because its host was
// unreachable.
func DescribeLost(baselines []Baseline, now []State) (lost []string) {
	for _, b := range baselines {
		have := findState(now, b.State.Target).indexMachines()
		for _, want := range b.State.Machines {
			if _, exists := have.findCounterpart(want); !exists && want.Host != "" {
				lost = append(lost, fmt.Sprintf("machine %s (%s) of %s is gone and cannot be created again: its host was unreachable when its config was read", want.ID, want.Name, b.State.Target))
			}
		}
	}
	return lost
}
