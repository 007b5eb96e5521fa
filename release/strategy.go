package release

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// A Strategy determines the order of steps: which steps share a wave. Execution does not
// depend on it.
type Strategy string

const (
	Rolling   Strategy = "rolling"   // a few machines of each group at a time
	Canary    Strategy = "canary"    // one machine of each group first, then the rest as rolling
	BlueGreen Strategy = "bluegreen" // new machines beside the old, then switch
	Immediate Strategy = "immediate" // all at once
)

// IsValid reports whether s is a strategy.
func (s Strategy) IsValid() bool {
	switch s {
	case Rolling, Canary, BlueGreen, Immediate:
		return true
	}
	return false
}

const (
	// proxySettleTime is the time for which Fly's proxy may route by outdated state.
	proxySettleTime = Duration(10 * time.Second)
	// proxyLearnTime is the time that Fly's proxy gets to find new machines before the
	// old ones are cordoned. It is shorter than proxySettleTime, because no request
	// fails: a proxy with outdated state routes to the old machines, which keep
	// running for proxySettleTime.
	proxyLearnTime = Duration(5 * time.Second)
	// maxColdConcurrent is the number of concurrent updates of machines without traffic.
	maxColdConcurrent = 30
	// maxGreenConcurrent is the number of machines to create concurrently. They have
	// no traffic yet. The client enforces Fly's own limits.
	maxGreenConcurrent = 50
)

// planWaves returns the waves that bring state to spec in the order of its strategy. It
// returns an error if the strategy is unknown or a machine has no config in spec.
func (spec Spec) planWaves(state State) ([]Wave, error) {
	if !spec.Strategy.IsValid() {
		return nil, fmt.Errorf("%s: unknown strategy %q", spec.Target, spec.Strategy)
	}
	var first, last []Wave
	groups := map[string]bool{}
	for _, g := range spec.Groups {
		groups[g.Name] = true
		w, err := spec.planGroup(g, state)
		if err != nil {
			return nil, err
		}
		first = mergeWaves(first, Plan{Waves: w}.ReversiblePart().Waves)
		last = mergeWaves(last, Plan{Waves: w}.IrreversiblePart().Waves)
	}
	stop, destroy := spec.removeGroups(groups, state)
	cordon, destroySuperseded := spec.removeSuperseded(state)
	all := slices.Concat(spec.destroyLeftovers(state), spec.startHalted(state), first, cordon, stop, mergeWaves(mergeWaves(last, destroy), destroySuperseded))
	if len(all) == 0 || spec.Command == nil {
		return all, nil
	}
	return slices.Concat(spec.releaseCommandWave(), all), nil
}

// destroyLeftovers returns the wave that destroys state.Leftovers. It comes first,
// because new machines may have the same names.
func (spec Spec) destroyLeftovers(state State) []Wave {
	var destroy []Step
	for _, m := range state.Leftovers {
		destroy = append(destroy, NewDestroy(spec.stepMachine(m), m.Config))
	}
	return newWave("destroy leftovers of a terminated rollout", destroy, maxColdConcurrent)
}

// removeSuperseded returns the waves that take superseded machines out of service, and
// the last waves, which destroy them.
func (spec Spec) removeSuperseded(state State) (cordon, destroy []Wave) {
	var cordons, destroys []Step
	for _, m := range state.Machines {
		if !m.Superseded {
			continue
		}
		if !m.Cordoned && m.Host == "" {
			cordons = append(cordons, NewCordon(spec.stepMachine(m)))
		}
		destroys = append(destroys, NewDestroy(spec.stepMachine(m), m.Config))
	}
	return withSettle(newWave("cordon what is replaced", cordons, maxColdConcurrent), proxySettleTime),
		markIrreversible(newWave("destroy what is replaced", destroys, maxColdConcurrent))
}

// startHalted returns the wave that starts the halted machines that spec does not change
// in another way.
func (spec Spec) startHalted(state State) []Wave {
	var start []Step
	for _, m := range state.Machines {
		i := slices.IndexFunc(spec.Groups, func(g GroupSpec) bool { return g.Name == m.Group })
		if !m.Halted || i < 0 || !spec.isCurrent(spec.Groups[i], m, state) {
			continue
		}
		if _, replaced := spec.Groups[i].Replace[m.ID]; !replaced {
			start = append(start, NewStart(spec.newMachine(m.ID, m.Group, m.Region)))
		}
	}
	return newWave("start what a terminated rollout stopped", start, maxColdConcurrent)
}

// releaseCommandWave returns the wave that runs the release command.
func (spec Spec) releaseCommandWave() []Wave {
	s := NewRun(spec.newMachine("", ReleaseCommandGroup, ""), spec.Image, *spec.Command)
	return newWave("run release command", []Step{s}, 1)
}

// planGroup returns the waves of one group, those that can be rolled back first.
func (spec Spec) planGroup(g GroupSpec, state State) ([]Wave, error) {
	stale, replace, exists, err := spec.classifyMachines(g, state)
	if err != nil {
		return nil, err
	}
	if !exists {
		return spec.createGroup(g), nil
	}
	running := countWhere(state.Machines, func(m Machine) bool { return m.Group == g.Name && m.IsRunning() && !m.Superseded })
	atOnce := spec.maxUnavailable(running)
	switch spec.Strategy {
	case BlueGreen:
		blues, left := spec.classifyLeftovers(g, state, append(stale, replace...))
		var waves []Wave
		if len(blues) > 0 || spec.isHalfSwitched(g, state) {
			waves = spec.switchToGreen(g, blues, state, maxGreenConcurrent)
		}
		return append(waves, markIrreversible(newWave("destroy leftovers of an earlier switch", left, maxColdConcurrent))...), nil
	case Immediate:
		atOnce = len(stale)
	case Canary:
		i := slices.IndexFunc(stale, Machine.IsRunning)
		if i < 0 || len(stale)+len(replace) == 1 {
			break
		}
		canary := spec.updateInPlace(g, stale[i:i+1], 1)
		canary[0].Title = "canary"
		canary[0].Settle = spec.Canary
		canary[0].VerifyWhileSettling = spec.Canary > 0
		return slices.Concat(canary, spec.updateInPlace(g, slices.Concat(stale[:i], stale[i+1:]), atOnce), spec.switchToGreen(g, replace, state, atOnce)), nil
	}
	return slices.Concat(spec.updateInPlace(g, stale, atOnce), spec.switchToGreen(g, replace, state, atOnce)), nil
}

// classifyMachines returns the machines of a group that differ from g: those to update
// in place, and those to replace. exists is false if the group has no machine. It returns
// an error if a machine has no config in g.
func (spec Spec) classifyMachines(g GroupSpec, state State) (stale, replace []Machine, exists bool, err error) {
	for _, m := range state.Machines {
		if m.Group != g.Name {
			continue
		}
		exists = true
		if m.Superseded {
			continue // see removeSuperseded
		}
		if _, ok := g.Machines[m.ID]; !ok {
			return nil, nil, true, fmt.Errorf("%s: the spec has no config for machine %s", spec.Target, m.ID)
		}
		switch _, can := g.Replace[m.ID]; {
		case can:
			replace = append(replace, m)
		case !spec.isCurrent(g, m, state):
			stale = append(stale, m)
		}
	}
	return stale, replace, exists, nil
}

// isCurrent reports whether a machine has its config and image of g, and all secrets.
func (spec Spec) isCurrent(g GroupSpec, m Machine, state State) bool {
	return m.Config.IsSame(g.Machines[m.ID]) && m.Image.Digest() == spec.Image.Digest() && len(state.StagedSecrets(m)) == 0
}

func lastDigits(id string) string { return id[max(0, len(id)-6):] }

// createGroup returns the waves that create the machines of an empty group.
func (spec Spec) createGroup(g GroupSpec) []Wave {
	var first, standby []Step
	for i, n := range g.New {
		on := spec.createdMachine(g, n.Region, n.Config, fmt.Sprint(i))
		o := CreateOptions{To: spec.Image, After: n.Config, SkipLaunch: n.Standby, Volume: g.Volume, MachineChecks: g.MachineChecks}
		if n.Standby && len(first) > 0 {
			o.StandbyFor = first[0].Machine
			o.MachineChecks = nil
			standby = append(standby, NewCreate(on, o))
			continue
		}
		first = append(first, NewCreate(on, o))
	}
	return slices.Concat(newWave("create", first, maxGreenConcurrent), newWave("create standbys", standby, maxGreenConcurrent))
}

// updateInPlace returns one wave that updates machines: at most atOnce running ones at a
// time, and the stopped ones concurrently.
func (spec Spec) updateInPlace(g GroupSpec, stale []Machine, atOnce int) []Wave {
	var warm, cold []Step
	for _, m := range stale {
		o := UpdateOptions{To: spec.Image, Before: m.Config, After: g.Machines[m.ID], Launch: m.Halted}
		if m.StartsOnUpdate() {
			o.MachineChecks = g.MachineChecks
		}
		if s := NewUpdate(spec.stepMachine(m), o); m.IsRunning() {
			warm = append(warm, s)
		} else {
			cold = append(cold, s)
		}
	}
	return mergeWaves(newWave("update", warm, atOnce), newWave("update", cold, maxColdConcurrent))
}

// removeGroups returns the waves that stop and destroy the machines of groups that spec
// does not have. They are destroyed after the verification.
func (spec Spec) removeGroups(groups map[string]bool, state State) (stop, destroy []Wave) {
	var stops, destroys []Step
	for _, m := range state.Machines {
		if groups[m.Group] || m.Superseded {
			continue
		}
		if m.IsRunning() {
			stops = append(stops, NewStop(spec.stepMachine(m)))
		}
		destroys = append(destroys, NewDestroy(spec.stepMachine(m), m.Config))
	}
	return newWave("stop removed groups", stops, maxColdConcurrent), markIrreversible(newWave("destroy removed groups", destroys, maxColdConcurrent))
}

// stepMachine returns m at its version, for a step that changes it.
func (spec Spec) stepMachine(m Machine) StepMachine {
	on := spec.newMachine(m.ID, m.Group, m.Region)
	on.Version = m.Version
	on.From = m.Image
	return on
}

// newMachine returns a machine at any version, by its ID or planned name.
func (spec Spec) newMachine(ref, group, region string) StepMachine {
	return StepMachine{Target: spec.Target, FlyApp: spec.FlyApp, Machine: ref, Group: group, Region: region, Wait: spec.Wait}
}

// createdMachine returns a machine to create. Its name is derived from the config and the
// replaced machine, so that a repeated create finds the existing machine.
func (spec Spec) createdMachine(g GroupSpec, region string, config Config, which string) StepMachine {
	name := fmt.Sprintf("%s-%s-%s", g.Name, hashJSON([]any{spec.Target, spec.Image, config.Facts().ExactFingerprint})[:8], which)
	return spec.newMachine(name, g.Name, region)
}

// maxUnavailable returns how many of running machines may be down at once: 1 or more.
func (spec Spec) maxUnavailable(running int) int {
	return countUnavailable(spec.MaxUnavailable, running)
}

func countUnavailable(unavailable float64, running int) int {
	n := unavailable
	if n < 1 {
		n = math.Ceil(n * float64(running))
	}
	return max(1, int(n))
}

func countWhere[T any](list []T, is func(T) bool) (n int) {
	for _, v := range list {
		if is(v) {
			n++
		}
	}
	return n
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
