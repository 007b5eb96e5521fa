package release

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
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

// strategies are all strategies.
var strategies = []Strategy{Rolling, Canary, BlueGreen, Immediate}

// IsValid reports whether s is a strategy.
func (s Strategy) IsValid() bool { return slices.Contains(strategies, s) }

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
		destroy = append(destroy, spec.machineStep(Destroy, m))
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
			cordons = append(cordons, spec.machineStep(Cordon, m))
		}
		destroys = append(destroys, spec.machineStep(Destroy, m))
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
			s := spec.newStep(Start, m.ID, m.Group)
			s.Region = m.Region
			start = append(start, s)
		}
	}
	return newWave("start what a terminated rollout stopped", start, maxColdConcurrent)
}

// releaseCommandWave returns the wave that runs the release command.
func (spec Spec) releaseCommandWave() []Wave {
	s := spec.newStep(Run, "", ReleaseCommandGroup)
	s.Region, s.After, s.To, s.Wait, s.Command = spec.Command.Region, spec.Command.Config, spec.Image, spec.Command.Timeout, spec.Command.Run
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
		canary[0].Title, canary[0].Settle, canary[0].VerifyWhileSettling = "canary", spec.Canary, spec.Canary > 0
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
	return IsSameConfig(m.Config, g.Machines[m.ID]) && m.Image.Digest() == spec.Image.Digest() && len(state.StagedSecrets(m)) == 0
}

func lastDigits(id string) string { return id[max(0, len(id)-6):] }

// createGroup returns the waves that create the machines of an empty group.
func (spec Spec) createGroup(g GroupSpec) []Wave {
	var first, standby []Step
	for i, n := range g.New {
		s := spec.createStep(g, n.Region, n.Config, fmt.Sprint(i))
		if n.Standby && len(first) > 0 {
			s.SkipLaunch, s.StandbyFor, s.MachineChecks = true, first[0].Machine, nil
			standby = append(standby, s)
			continue
		}
		s.SkipLaunch = n.Standby
		first = append(first, s)
	}
	return slices.Concat(newWave("create", first, maxGreenConcurrent), newWave("create standbys", standby, maxGreenConcurrent))
}

// updateInPlace returns one wave that updates machines: at most atOnce running ones at a
// time, and the stopped ones concurrently.
func (spec Spec) updateInPlace(g GroupSpec, stale []Machine, atOnce int) []Wave {
	var warm, cold []Step
	for _, m := range stale {
		s := spec.machineStep(Update, m)
		s.Before, s.After, s.From, s.To, s.Launch = m.Config, g.Machines[m.ID], m.Image, spec.Image, m.Halted
		if m.StartsOnUpdate() {
			s.MachineChecks = g.MachineChecks
		}
		if m.IsRunning() {
			warm = append(warm, s)
		} else {
			cold = append(cold, s)
		}
	}
	return mergeWaves(newWave("update", warm, atOnce), newWave("update", cold, maxColdConcurrent))
}

// switchToGreen returns the waves that create a green machine for each blue one and
// switch the traffic. Blue machines are cordoned but run until the end of the bake, so
// that a rollback only uncordons them. Blue machines in g.Replace are also stopped. Blue
// machines on unreachable hosts are only destroyed.
func (spec Spec) switchToGreen(g GroupSpec, blues []Machine, state State, atOnce int) []Wave {
	names := map[string]string{}
	for _, m := range blues {
		names[m.ID] = spec.greenStep(g, m, state).Machine
	}
	var create, standby, show, hide, stop, destroy []Step
	for _, m := range blues {
		green := spec.greenStep(g, m, state)
		primary, follows := names[parseStandbyFor(m.Config)]
		have, exists := state.FindMachine(green.Machine)
		switch {
		case exists:
		case follows:
			green.StandbyFor = primary
			standby = append(standby, green)
		default:
			create = append(create, green)
		}
		if !exists || have.Cordoned {
			show = append(show, spec.newStep(Uncordon, cmp.Or(have.ID, green.Machine), g.Name))
		}
		if !m.Cordoned && m.Host == "" {
			hide = append(hide, spec.machineStep(Cordon, m))
		}
		if _, replaced := g.Replace[m.ID]; replaced && m.IsRunning() && m.Host == "" {
			stop = append(stop, spec.machineStep(Stop, m))
		}
		destroy = append(destroy, spec.machineStep(Destroy, m))
	}
	show = append(show, spec.uncordonCurrent(g, state, blues, show)...)
	return slices.Concat(
		newWave("create green", create, atOnce),
		newWave("create green standbys", standby, atOnce),
		withSettle(newWave("uncordon green", show, len(show)), proxyLearnTime),
		withSettle(newWave("cordon blue", hide, len(hide)), proxySettleTime),
		newWave("stop replaced machines", stop, maxColdConcurrent),
		markIrreversible(newWave("destroy blue", destroy, maxColdConcurrent)),
	)
}

// uncordonCurrent returns the steps that uncordon the green machines that an interrupted
// bluegreen created and left cordoned, and that show does not name yet.
func (spec Spec) uncordonCurrent(g GroupSpec, state State, blues []Machine, show []Step) (steps []Step) {
	if spec.Strategy != BlueGreen {
		return nil
	}
	for _, m := range state.Machines {
		isBlue := slices.ContainsFunc(blues, func(blue Machine) bool { return blue.ID == m.ID })
		isShown := slices.ContainsFunc(show, func(s Step) bool { return s.Machine == m.ID })
		if m.Group == g.Name && m.CreatedByPlan && m.Cordoned && !isBlue && !isShown && spec.isCurrent(g, m, state) {
			steps = append(steps, spec.newStep(Uncordon, m.ID, g.Name))
		}
	}
	return steps
}

// greenStep returns the step that creates the green machine for m, in its region. It
// starts the machine if an update would start m, or if the host of m is unreachable. If
// another client changed the machine with the planned name, the step uses a new name.
func (spec Spec) greenStep(g GroupSpec, m Machine, state State) Step {
	s := spec.createStep(g, m.Region, g.Machines[m.ID], lastDigits(m.ID))
	if have, exists := state.FindMachine(s.Machine); exists && !spec.isCurrent(g, have, state) {
		s.Machine += "-" + lastDigits(have.ID)
	}
	s.SkipLaunch, s.Cordoned, s.Replaces = !m.StartsOnUpdate() && m.Host == "", true, m.ID
	if s.SkipLaunch {
		s.MachineChecks = nil
	}
	return s
}

// classifyLeftovers separates the blue machines of stale from the leftovers of an
// interrupted switch, and returns steps that destroy the leftovers: cordoned machines of
// another release than any serving machine. Leftovers get no green machine, because the
// group would grow with each interrupted switch.
func (spec Spec) classifyLeftovers(g GroupSpec, state State, stale []Machine) (blues []Machine, destroy []Step) {
	serving := map[releaseOrigin]bool{}
	for _, m := range state.Machines {
		if m.Group == g.Name && !m.Cordoned && m.IsRunning() {
			serving[parseOrigin(m.Config)] = true
		}
	}
	left := func(m Machine) bool {
		from := parseOrigin(m.Config)
		return m.Cordoned && len(serving) > 0 && from != releaseOrigin{} && !serving[from]
	}
	for _, m := range stale {
		if !left(m) {
			blues = append(blues, m)
		}
	}
	for _, m := range state.Machines {
		isStale := slices.ContainsFunc(stale, func(x Machine) bool { return x.ID == m.ID })
		if m.Group == g.Name && left(m) && (isStale || !m.CreatedByPlan) {
			destroy = append(destroy, spec.machineStep(Destroy, m))
		}
	}
	return blues, destroy
}

// isHalfSwitched reports whether an interrupted bluegreen has cordoned machines left to
// uncordon.
func (spec Spec) isHalfSwitched(g GroupSpec, state State) bool {
	return spec.Strategy == BlueGreen && slices.ContainsFunc(state.Machines, func(m Machine) bool {
		return m.Group == g.Name && m.CreatedByPlan && m.Cordoned
	})
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
			stops = append(stops, spec.machineStep(Stop, m))
		}
		destroys = append(destroys, spec.machineStep(Destroy, m))
	}
	return newWave("stop removed groups", stops, maxColdConcurrent), markIrreversible(newWave("destroy removed groups", destroys, maxColdConcurrent))
}

func (spec Spec) machineStep(v Verb, m Machine) Step {
	s := spec.newStep(v, m.ID, m.Group)
	s.Region, s.Version, s.From, s.Before = m.Region, m.Version, m.Image, m.Config
	return s
}

func (spec Spec) newStep(v Verb, machine, group string) Step {
	return Step{Verb: v, Target: spec.Target, FlyApp: spec.FlyApp, Machine: machine, Group: group, Wait: spec.Wait}
}

// createStep returns a step that creates a machine. The name is derived from the config
// and the replaced machine, so that a repeated create finds the existing machine.
func (spec Spec) createStep(g GroupSpec, region string, config json.RawMessage, which string) Step {
	s := spec.newStep(Create, "", g.Name)
	s.Region, s.After, s.To, s.Volume, s.MachineChecks = region, config, spec.Image, g.Volume, g.MachineChecks
	s.Machine = fmt.Sprintf("%s-%s-%s", g.Name, hashJSON([]any{spec.Target, spec.Image, config})[:8], which)
	return s
}

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

// newWave returns one wave with one lane, or nil without steps.
func newWave(title string, steps []Step, atOnce int) []Wave {
	if len(steps) == 0 {
		return nil
	}
	return []Wave{{Title: title, Lanes: []Lane{{MaxConcurrent: max(1, atOnce), Steps: steps}}}}
}

func withSettle(ws []Wave, d Duration) []Wave {
	for i := range ws {
		ws[i].Settle = d
	}
	return ws
}

func markIrreversible(ws []Wave) []Wave {
	for i := range ws {
		ws[i].Irreversible = true
	}
	return ws
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
