package release

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
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
	// proxySettles is how long Fly's proxy may keep routing by an old picture.
	proxySettles = Duration(10 * time.Second)
	// coldAtOnce is how many machines that serve nothing may be updated at once.
	coldAtOnce = 30
	// greenAtOnce is how many machines are created at once. Fly's own limit, a
	// create a second, is kept by the client.
	greenAtOnce = 8
)

// waves are the steps that bring state to spec, in the order of its strategy.
func (spec Spec) waves(state State) ([]Wave, error) {
	if !spec.Strategy.Known() {
		return nil, fmt.Errorf("%s: %q is not a strategy", spec.Target, spec.Strategy)
	}
	var first, last []Wave
	groups := map[string]bool{}
	for _, g := range spec.Groups {
		groups[g.Name] = true
		w, err := spec.group(g, state)
		if err != nil {
			return nil, err
		}
		first = merge(first, Plan{Waves: w}.First().Waves)
		last = merge(last, Plan{Waves: w}.Last().Waves)
	}
	stop, destroy := spec.removed(groups, state)
	return slices.Concat(first, stop, merge(last, destroy)), nil
}

// group orders the steps of one group. The waves of every group begin with
// those that can be taken back.
func (spec Spec) group(g GroupSpec, state State) ([]Wave, error) {
	var stale []Machine
	exists := false
	for _, m := range state.Machines {
		if m.Group != g.Name {
			continue
		}
		exists = true
		want, ok := g.Machines[m.ID]
		if !ok {
			return nil, fmt.Errorf("%s: the spec says nothing of machine %s", spec.Target, m.ID)
		}
		if !SameConfig(m.Config, want) || m.Image.Digest() != spec.Image.Digest() {
			stale = append(stale, m)
		}
	}
	if !exists {
		return spec.begin(g, state), nil
	}
	if len(stale) == 0 && !spec.halfSwitched(g, state) {
		return nil, nil
	}
	running := count(state.Machines, func(m Machine) bool { return m.Group == g.Name && m.Running() })
	atOnce := spec.atOnce(running)
	switch spec.Strategy {
	case BlueGreen:
		return spec.switchOver(g, stale, state), nil
	case Immediate:
		return spec.inPlace(g, stale, len(stale)), nil
	case Canary:
		i := slices.IndexFunc(stale, Machine.Running)
		if i < 0 || len(stale) == 1 {
			return spec.inPlace(g, stale, atOnce), nil
		}
		canary := spec.inPlace(g, stale[i:i+1], 1)
		canary[0].Title, canary[0].Settle = "canary", spec.Canary
		return append(canary, spec.inPlace(g, slices.Concat(stale[:i], stale[i+1:]), atOnce)...), nil
	}
	return spec.inPlace(g, stale, atOnce), nil
}

// begin creates the machines of a group that has none.
func (spec Spec) begin(g GroupSpec, state State) []Wave {
	var first, standby []Step
	for i, n := range g.New {
		s := spec.create(g.Name, n.Region, n.Config, fmt.Sprint(i), state)
		if n.Standby && len(first) > 0 {
			s.Idle, s.StandbyFor = true, first[0].Machine
			standby = append(standby, s)
			continue
		}
		s.Idle = n.Standby
		first = append(first, s)
	}
	return slices.Concat(wave("create", first, greenAtOnce), wave("create standbys", standby, greenAtOnce))
}

// inPlace updates machines where they are: at most atOnce of those that run,
// and beside them those that don't.
func (spec Spec) inPlace(g GroupSpec, stale []Machine, atOnce int) []Wave {
	var warm, cold []Step
	for _, m := range stale {
		s := spec.step(Update, m)
		s.Before, s.After, s.From, s.To = m.Config, g.Machines[m.ID], m.Image, spec.Image
		if m.Running() {
			warm = append(warm, s)
		} else {
			cold = append(cold, s)
		}
	}
	return merge(wave("update", warm, atOnce), wave("update", cold, coldAtOnce))
}

// switchOver makes a green machine beside each stale one and moves the traffic
// over. Blue is cordoned but runs until the new is baked: the way back is to
// uncordon it.
func (spec Spec) switchOver(g GroupSpec, stale []Machine, state State) []Wave {
	var create, show, hide, destroy []Step
	for _, m := range stale {
		green := spec.create(g.Name, m.Region, g.Machines[m.ID], m.ID[max(0, len(m.ID)-6):], state)
		green.Idle, green.Hidden = !m.Running(), true
		have, exists := state.Machine(green.Machine)
		if !exists {
			create = append(create, green)
		}
		if !exists || have.Cordoned {
			show = append(show, spec.bare(Uncordon, green.Machine, g.Name))
		}
		if !m.Cordoned {
			hide = append(hide, spec.step(Cordon, m))
		}
		destroy = append(destroy, spec.step(Destroy, m))
	}
	for _, m := range state.Machines {
		stays := !slices.ContainsFunc(stale, func(x Machine) bool { return x.ID == m.ID })
		shown := slices.ContainsFunc(show, func(s Step) bool { return s.Machine == m.Name })
		if m.Group == g.Name && stays && !shown && m.Created && m.Cordoned {
			show = append(show, spec.bare(Uncordon, m.ID, g.Name))
		}
	}
	return slices.Concat(
		wave("create green", create, greenAtOnce),
		settle(wave("uncordon green", show, len(show)), proxySettles),
		settle(wave("cordon blue", hide, len(hide)), proxySettles),
		lasting(wave("destroy blue", destroy, coldAtOnce)),
	)
}

// halfSwitched says whether a bluegreen was cut when only its uncordoning was
// left to do.
func (spec Spec) halfSwitched(g GroupSpec, state State) bool {
	return spec.Strategy == BlueGreen && slices.ContainsFunc(state.Machines, func(m Machine) bool {
		return m.Group == g.Name && m.Created && m.Cordoned
	})
}

// removed stops the machines of groups that the spec no longer has, and
// destroys them once the rest is good.
func (spec Spec) removed(groups map[string]bool, state State) (stop, destroy []Wave) {
	var stops, destroys []Step
	for _, m := range state.Machines {
		if groups[m.Group] {
			continue
		}
		if m.Running() {
			stops = append(stops, spec.step(Stop, m))
		}
		destroys = append(destroys, spec.step(Destroy, m))
	}
	return wave("stop removed groups", stops, coldAtOnce), lasting(wave("destroy removed groups", destroys, coldAtOnce))
}

func (spec Spec) step(v Verb, m Machine) Step {
	s := spec.bare(v, m.ID, m.Group)
	s.Region, s.Version, s.From, s.Before = m.Region, m.Version, m.Image, m.Config
	return s
}

func (spec Spec) bare(v Verb, machine, group string) Step {
	return Step{Verb: v, Target: spec.Target, FlyApp: spec.FlyApp, Machine: machine, Group: group, Wait: spec.Wait}
}

// create is a step for a new machine. Its name follows from what it will run
// and from which machine it stands in for, so that the same create, planned or
// sent twice, is recognised.
func (spec Spec) create(group, region string, config json.RawMessage, which string, state State) Step {
	s := spec.bare(Create, "", group)
	s.Region, s.After, s.To = region, config, spec.Image
	s.Machine = fmt.Sprintf("%s-%s-%s", group, hash([]any{spec.Target, spec.Image, config})[:8], which)
	return s
}

// atOnce is how many of running machines may be down at the same time: 1 or more.
func (spec Spec) atOnce(running int) int { return atOnce(spec.MaxUnavailable, running) }

func atOnce(unavailable float64, running int) int {
	n := unavailable
	if n < 1 {
		n = math.Ceil(n * float64(running))
	}
	return max(1, int(n))
}

// wave is one wave of one lane, or none without steps.
func wave(title string, steps []Step, atOnce int) []Wave {
	if len(steps) == 0 {
		return nil
	}
	return []Wave{{Title: title, Lanes: []Lane{{AtOnce: max(1, atOnce), Steps: steps}}}}
}

func settle(ws []Wave, d Duration) []Wave {
	for i := range ws {
		ws[i].Settle = d
	}
	return ws
}

func lasting(ws []Wave) []Wave {
	for i := range ws {
		ws[i].Last = true
	}
	return ws
}

func count[T any](list []T, is func(T) bool) (n int) {
	for _, v := range list {
		if is(v) {
			n++
		}
	}
	return n
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
