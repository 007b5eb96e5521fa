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

// A Strategy is an order of events, and nothing else: it decides which steps
// share a wave. Whoever executes a plan does not know which one made it.
type Strategy string

const (
	Rolling   Strategy = "rolling"   // a few machines of each group at a time
	Canary    Strategy = "canary"    // one machine of each group alone, then the rest as rolling
	BlueGreen Strategy = "bluegreen" // new machines beside the old, then switch
	Immediate Strategy = "immediate" // all at once
)

// Strategies are all there are.
var strategies = []Strategy{Rolling, Canary, BlueGreen, Immediate}

// Known says whether s is a strategy.
func (s Strategy) Known() bool { return slices.Contains(strategies, s) }

const (
	// proxySettleTime is how long Fly's proxy may keep routing by an old picture.
	proxySettleTime = Duration(10 * time.Second)
	// proxyLearnTime is how long Fly's proxy is given to learn of new machines before
	// the old ones are cordoned. It is shorter, since nobody is turned away: a proxy
	// that has heard of neither still routes to the old machines, which run on for
	// as long as it may have an old picture.
	proxyLearnTime = Duration(5 * time.Second)
	// maxColdConcurrent is how many machines that serve nothing may be updated at once.
	maxColdConcurrent = 30
	// maxGreenConcurrent is how many machines are created and waited for at once. They
	// serve nothing yet; Fly's own limit is kept by the client where Fly enforces it.
	maxGreenConcurrent = 50
)

// planWaves are the steps that bring state to spec, in the order of its strategy.
func (spec Spec) planWaves(state State) ([]Wave, error) {
	if !spec.Strategy.Known() {
		return nil, fmt.Errorf("%s: %q is not a strategy", spec.Target, spec.Strategy)
	}
	var first, last []Wave
	groups := map[string]bool{}
	for _, g := range spec.Groups {
		groups[g.Name] = true
		w, err := spec.planGroup(g, state)
		if err != nil {
			return nil, err
		}
		first = mergeWaves(first, Plan{Waves: w}.First().Waves)
		last = mergeWaves(last, Plan{Waves: w}.Last().Waves)
	}
	stop, destroy := spec.removeGroups(groups, state)
	all := slices.Concat(spec.destroyLeftovers(state), first, stop, mergeWaves(last, destroy))
	if len(all) == 0 || spec.Command == nil {
		return all, nil
	}
	return slices.Concat(spec.releaseCommandWave(), all), nil
}

// destroyLeftovers destroys the machines that a rollout without a report made and that
// serve nothing. What succeeds them may need their names.
func (spec Spec) destroyLeftovers(state State) []Wave {
	var destroy []Step
	for _, m := range state.Left {
		destroy = append(destroy, spec.machineStep(Destroy, m))
	}
	return newWave("destroy what a terminated rollout left", destroy, maxColdConcurrent)
}

// releaseCommandWave is the wave of the release command: before anything else.
func (spec Spec) releaseCommandWave() []Wave {
	s := spec.newStep(Run, "", ReleaseCommandGroup)
	s.Region, s.After, s.To, s.Wait, s.Command = spec.Command.Region, spec.Command.Config, spec.Image, spec.Command.Timeout, spec.Command.Run
	return newWave("run release command", []Step{s}, 1)
}

// planGroup orders the steps of one group. The waves of every group begin with
// those that can be taken back.
func (spec Spec) planGroup(g GroupSpec, state State) ([]Wave, error) {
	stale, replace, exists, err := spec.classifyMachines(g, state)
	if err != nil {
		return nil, err
	}
	if !exists {
		return spec.createGroup(g), nil
	}
	running := countWhere(state.Machines, func(m Machine) bool { return m.Group == g.Name && m.Running() })
	atOnce := spec.maxUnavailable(running)
	switch spec.Strategy {
	case BlueGreen:
		blues, left := spec.classifyLeftovers(g, state, append(stale, replace...))
		var waves []Wave
		if len(blues) > 0 || spec.isHalfSwitched(g, state) {
			waves = spec.switchToGreen(g, blues, state, maxGreenConcurrent)
		}
		return append(waves, markLast(newWave("destroy what an earlier switch left", left, maxColdConcurrent))...), nil
	case Immediate:
		atOnce = len(stale)
	case Canary:
		i := slices.IndexFunc(stale, Machine.Running)
		if i < 0 || len(stale)+len(replace) == 1 {
			break
		}
		canary := spec.updateInPlace(g, stale[i:i+1], 1)
		canary[0].Title, canary[0].Settle, canary[0].Watch = "canary", spec.Canary, spec.Canary > 0
		return slices.Concat(canary, spec.updateInPlace(g, slices.Concat(stale[:i], stale[i+1:]), atOnce), spec.switchToGreen(g, replace, state, atOnce)), nil
	}
	return slices.Concat(spec.updateInPlace(g, stale, atOnce), spec.switchToGreen(g, replace, state, atOnce)), nil
}

// classifyMachines are the machines of a group that are not what they should be: those
// that can be updated, and those that another must replace.
func (spec Spec) classifyMachines(g GroupSpec, state State) (stale, replace []Machine, exists bool, err error) {
	for _, m := range state.Machines {
		if m.Group != g.Name {
			continue
		}
		exists = true
		if _, ok := g.Machines[m.ID]; !ok {
			return nil, nil, true, fmt.Errorf("%s: the spec says nothing of machine %s", spec.Target, m.ID)
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

// isCurrent reports whether a machine of g is what it should be.
func (spec Spec) isCurrent(g GroupSpec, m Machine, state State) bool {
	return SameConfig(m.Config, g.Machines[m.ID]) && m.Image.Digest() == spec.Image.Digest() && len(state.Staged(m)) == 0
}

func lastDigits(id string) string { return id[max(0, len(id)-6):] }

// createGroup creates the machines of a group that has none.
func (spec Spec) createGroup(g GroupSpec) []Wave {
	var first, standby []Step
	for i, n := range g.New {
		s := spec.createStep(g, n.Region, n.Config, fmt.Sprint(i))
		if n.Standby && len(first) > 0 {
			s.Idle, s.StandbyFor, s.MachineChecks = true, first[0].Machine, nil
			standby = append(standby, s)
			continue
		}
		s.Idle = n.Standby
		first = append(first, s)
	}
	return slices.Concat(newWave("create", first, maxGreenConcurrent), newWave("create standbys", standby, maxGreenConcurrent))
}

// updateInPlace updates machines where they are: at most atOnce of those that run,
// and beside them those that don't.
func (spec Spec) updateInPlace(g GroupSpec, stale []Machine, atOnce int) []Wave {
	var warm, cold []Step
	for _, m := range stale {
		s := spec.machineStep(Update, m)
		s.Before, s.After, s.From, s.To = m.Config, g.Machines[m.ID], m.Image, spec.Image
		if m.Launches() {
			s.MachineChecks = g.MachineChecks
		}
		if m.Running() {
			warm = append(warm, s)
		} else {
			cold = append(cold, s)
		}
	}
	return mergeWaves(newWave("update", warm, atOnce), newWave("update", cold, maxColdConcurrent))
}

// switchToGreen makes a green machine beside each blue one and moves the traffic
// over. Blue is cordoned but runs until the new is baked: the way back is to
// uncordon it. One that another must replace is stopped as well, and one on a
// host that can't be reached is left to be destroyed.
func (spec Spec) switchToGreen(g GroupSpec, blues []Machine, state State, atOnce int) []Wave {
	names := map[string]string{}
	for _, m := range blues {
		names[m.ID] = spec.greenStep(g, m, state).Machine
	}
	var create, standby, show, hide, stop, destroy []Step
	for _, m := range blues {
		green := spec.greenStep(g, m, state)
		primary, follows := names[parseStandbyFor(m.Config)]
		have, exists := state.Machine(green.Machine)
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
		if _, replaced := g.Replace[m.ID]; replaced && m.Running() && m.Host == "" {
			stop = append(stop, spec.machineStep(Stop, m))
		}
		destroy = append(destroy, spec.machineStep(Destroy, m))
	}
	for _, m := range state.Machines {
		stays := !slices.ContainsFunc(blues, func(x Machine) bool { return x.ID == m.ID })
		shown := slices.ContainsFunc(show, func(s Step) bool { return s.Machine == m.ID })
		if m.Group == g.Name && stays && !shown && m.Created && m.Cordoned && spec.Strategy == BlueGreen && spec.isCurrent(g, m, state) {
			show = append(show, spec.newStep(Uncordon, m.ID, g.Name))
		}
	}
	return slices.Concat(
		newWave("create green", create, atOnce),
		newWave("create green standbys", standby, atOnce),
		withSettle(newWave("uncordon green", show, len(show)), proxyLearnTime),
		withSettle(newWave("cordon blue", hide, len(hide)), proxySettleTime),
		newWave("stop what is replaced", stop, maxColdConcurrent),
		markLast(newWave("destroy blue", destroy, maxColdConcurrent)),
	)
}

// greenStep is the machine that stands in for m: in its region, and started if an update
// would start m. One on a host that can't be reached counts as running. A machine that has
// its name and not its config, because somebody changed it since, is another.
func (spec Spec) greenStep(g GroupSpec, m Machine, state State) Step {
	s := spec.createStep(g, m.Region, g.Machines[m.ID], lastDigits(m.ID))
	if have, exists := state.Machine(s.Machine); exists && !spec.isCurrent(g, have, state) {
		s.Machine += "-" + lastDigits(have.ID)
	}
	s.Idle, s.Hidden, s.Succeeds = !m.Launches() && m.Host == "", true, m.ID
	if s.Idle {
		s.MachineChecks = nil
	}
	return s
}

// classifyLeftovers are what a bluegreen that was cut, or a flyctl that was, has left
// beside the machines that serve: cordoned, and of another release than any of
// those. No green takes their place, or the group would grow with each cut.
// What stays of stale is blue.
func (spec Spec) classifyLeftovers(g GroupSpec, state State, stale []Machine) (blues []Machine, destroy []Step) {
	serving := map[releaseOrigin]bool{}
	for _, m := range state.Machines {
		if m.Group == g.Name && !m.Cordoned && m.Running() {
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
		if m.Group == g.Name && left(m) && (isStale || !m.Created) {
			destroy = append(destroy, spec.machineStep(Destroy, m))
		}
	}
	return blues, destroy
}

// isHalfSwitched says whether a bluegreen was cut when only its uncordoning was
// left to do.
func (spec Spec) isHalfSwitched(g GroupSpec, state State) bool {
	return spec.Strategy == BlueGreen && slices.ContainsFunc(state.Machines, func(m Machine) bool {
		return m.Group == g.Name && m.Created && m.Cordoned
	})
}

// removeGroups stops the machines of groups that the spec no longer has, and
// destroys them once the rest is good.
func (spec Spec) removeGroups(groups map[string]bool, state State) (stop, destroy []Wave) {
	var stops, destroys []Step
	for _, m := range state.Machines {
		if groups[m.Group] {
			continue
		}
		if m.Running() {
			stops = append(stops, spec.machineStep(Stop, m))
		}
		destroys = append(destroys, spec.machineStep(Destroy, m))
	}
	return newWave("stop removed groups", stops, maxColdConcurrent), markLast(newWave("destroy removed groups", destroys, maxColdConcurrent))
}

func (spec Spec) machineStep(v Verb, m Machine) Step {
	s := spec.newStep(v, m.ID, m.Group)
	s.Region, s.Version, s.From, s.Before = m.Region, m.Version, m.Image, m.Config
	return s
}

func (spec Spec) newStep(v Verb, machine, group string) Step {
	return Step{Verb: v, Target: spec.Target, FlyApp: spec.FlyApp, Machine: machine, Group: group, Wait: spec.Wait}
}

// createStep is a step for a new machine. Its name follows from what it will run
// and from which machine it stands in for, so that the same create, planned or
// sent twice, is recognised.
func (spec Spec) createStep(g GroupSpec, region string, config json.RawMessage, which string) Step {
	s := spec.newStep(Create, "", g.Name)
	s.Region, s.After, s.To, s.Volume, s.MachineChecks = region, config, spec.Image, g.Volume, g.MachineChecks
	s.Machine = fmt.Sprintf("%s-%s-%s", g.Name, hashJSON([]any{spec.Target, spec.Image, config})[:8], which)
	return s
}

// planNotes are what a person should know of the way from state before saying yes.
func (spec Spec) planNotes(state State, waves []Wave) (notes []string) {
	if spec.Unverified != "" {
		notes = append(notes, spec.Unverified)
	}
	if note := state.describeStagedSecrets(); note != "" {
		notes = append(notes, note)
	}
	if spec.Command != nil {
		notes = append(notes, fmt.Sprintf("runs %q first; what that changes, a rollback can't take back", spec.Command.Run))
	}
	for _, g := range spec.Groups {
		for _, id := range sortedKeys(g.Replace) {
			notes = append(notes, fmt.Sprintf("machine %s is replaced: %s", id, g.Replace[id]))
		}
	}
	need := map[string]int{}
	for _, s := range (Plan{Waves: waves}).Steps() {
		if s.Verb == Create && s.Volume != nil {
			need[s.Volume.Name]++
		}
	}
	for _, name := range sortedKeys(need) {
		notes = append(notes, fmt.Sprintf("takes %d volume(s) %s; those that have to be made stay after a rollback", need[name], name))
	}
	for _, g := range spec.Groups {
		if stale, replace, _, err := spec.classifyMachines(g, state); err == nil && spec.Strategy == BlueGreen {
			_, left := spec.classifyLeftovers(g, state, append(stale, replace...))
			for _, s := range left {
				notes = append(notes, fmt.Sprintf("machine %s is cordoned, and of another release than any that serves: it was left by an earlier switch, and is destroyed", s.Machine))
			}
		}
	}
	if spec.Strategy != BlueGreen {
		for _, m := range state.Machines {
			if m.Cordoned && m.Running() {
				notes = append(notes, fmt.Sprintf("machine %s (%s) is cordoned and gets no traffic; it stays so", m.ID, m.Name))
			}
		}
	}
	for _, c := range state.Commands {
		notes = append(notes, c+": a command of another client runs there, or was left by one; it is left alone")
	}
	if len(state.Foreign) > 0 {
		notes = append(notes, "leaves alone what no release made: "+strings.Join(state.Foreign, ", "))
	}
	return notes
}

// maxUnavailable is how many of running machines may be down at the same time: 1 or more.
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

// newWave is one wave of one lane, or none without steps.
func newWave(title string, steps []Step, atOnce int) []Wave {
	if len(steps) == 0 {
		return nil
	}
	return []Wave{{Title: title, Lanes: []Lane{{AtOnce: max(1, atOnce), Steps: steps}}}}
}

func withSettle(ws []Wave, d Duration) []Wave {
	for i := range ws {
		ws[i].Settle = d
	}
	return ws
}

func markLast(ws []Wave) []Wave {
	for i := range ws {
		ws[i].Last = true
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
