package release

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// A Baseline is the state of a target before the first change, and how gently
// it has to be brought back.
type Baseline struct {
	State          State    `json:"state"`
	Level          int      `json:"level"`
	MaxUnavailable float64  `json:"max_unavailable"`
	Wait           Duration `json:"wait"`
	Probe          *Probe   `json:"probe,omitempty"`
}

// WasWell reports whether every machine of b was healthy, and its probe was
// answered: then a rollback must find it so again.
func (b Baseline) WasWell() bool {
	sick := slices.ContainsFunc(b.State.Machines, func(m Machine) bool { return !m.Healthy() })
	return len(b.State.Machines) > 0 && !sick && b.State.Sick == ""
}

// Baselines are the states that plan starts from.
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

// States returns the states of baselines.
func States(baselines []Baseline) (states []State) {
	for _, b := range baselines {
		states = append(states, b.State)
	}
	return states
}

// Remembered is states, with the configs that plan knows of machines whose host
// can't be reached just now: Fly tells only a part of those, and a rollback to a
// part would lose the rest. The plan saw the whole of each that it updates, at
// the version that Stale has found it at.
func (p Plan) Remembered(states []State) []State {
	out := slices.Clone(states)
	for i := range out {
		known := p.Known(out[i].Target)
		out[i] = out[i].Recalled(known)
		out[i].Machines = slices.Clone(out[i].Machines)
		for j, m := range out[i].Machines {
			if was, ok := findMachine(known, m.ID); ok && m.Host != "" && was.Host == "" && m.IsAsBefore(was) {
				out[i].Machines[j].Host = ""
			}
		}
	}
	return out
}

// Restore orders the steps that bring every target back to its baseline. It is
// a full diff: machines that are gone are created anew, those that a release
// created are destroyed, the others get their config, their image, their
// cordon and their state back. It is pure, like NewPlan. Targets that need
// others go back first.
//
// Machines that nobody's plan created and the baseline does not know are a
// person's: they are left alone, and Differences names them. What a plan has
// created says so in its metadata, unless that plan was a restore: of those,
// made knows. Left alone is, too, each machine that is not ours, where ours is
// given: somebody else's change of it is never overwritten.
func Restore(environment string, baselines []Baseline, now []State, ours, made func(Target, Machine) bool) Plan {
	plan := Plan{Environment: environment, Targets: []TargetPlan{}}
	baselines = slices.SortedFunc(slices.Values(baselines), func(a, b Baseline) int {
		return cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(a.State.Target.App, b.State.Target.App))
	})
	var lasts []Wave
	for first := 0; first < len(baselines); {
		level := baselines[first].Level
		var waves []Wave
		for ; first < len(baselines) && baselines[first].Level == level; first++ {
			b := baselines[first]
			state := findState(now, b.State.Target)
			back, extra := b.restoreWaves(state, ours, made)
			t := TargetPlan{
				Target: b.State.Target, FlyApp: b.State.FlyApp, URL: b.State.URL, Level: b.Level,
				MaxUnavailable: b.MaxUnavailable, Wait: b.Wait, Probe: b.Probe,
				Seen: machineVersions(state), Changed: len(back)+len(extra) > 0, Image: commonImage(b.State),
				Definition: b.State.Definition, Secrets: state.Secrets,
			}
			if !b.WasWell() {
				t.Probe = nil // it need not be better than it was
			}
			if note := state.describeStagedSecrets(); note != "" && t.Changed {
				t.Notes = []string{note}
			}
			plan.Targets = append(plan.Targets, t)
			waves, lasts = mergeWaves(waves, back), mergeWaves(lasts, extra)
		}
		plan.Waves = append(plan.Waves, waves...)
	}
	plan.Waves = append(plan.Waves, lasts...)
	return plan
}

// restoreWaves bring now back to b, and remove what is too much. Machines that serve
// already come back before any that serves is touched; what is new gets no more
// traffic as soon as they do, and goes when the proxy knows.
func (b Baseline) restoreWaves(now State, ours, made func(Target, Machine) bool) (back, extra []Wave) {
	var show, create, unwell, broken, healthy, cold, hide, stop, destroy []Step
	lost := map[string]bool{}
	is, were := now.indexMachines(), b.State.indexMachines()
	for _, want := range b.State.Machines {
		have, exists := is.findCounterpart(want)
		if !exists {
			if want.Host != "" {
				lost[want.Group] = true // what stands in its stead has to stay
				continue
			}
			create = append(create, b.recreateStep(want))
			continue
		}
		if ours != nil && !ours(b.State.Target, have) {
			continue
		}
		s := b.restoreStep(have, want)
		stale := !have.IsAsBefore(want) && (want.Host == "" && !equalConfigs(have.Config, want.Config) || have.Image.Digest() != want.Image.Digest())
		switch {
		case stale && !want.Running():
			cold = append(cold, s.withVerb(Update))
		case stale && have.Healthy():
			healthy = append(healthy, s.withVerb(Update))
		case stale:
			broken = append(broken, s.withVerb(Update))
		case have.Version == want.Version && have.Rests():
			// Nobody has touched it: the proxy stopped it, and will start it.
		case want.Running() && !have.Running() && !have.Ended():
			broken = append(broken, s.withVerb(Start))
		case want.Healthy() && have.Running() && !have.Healthy() && have.Host == "" && have.Version != want.Version:
			// It came back before, and not well, or got stuck on the way: once
			// more from the start.
			unwell = append(unwell, s.withVerb(Stop))
			broken = append(broken, s.withVerb(Start))
		}
		if have.Cordoned && !want.Cordoned {
			show = append(show, s.withVerb(Uncordon))
		}
		if !have.Cordoned && want.Cordoned {
			hide = append(hide, s.withVerb(Cordon))
		}
		if !want.Running() && have.Running() {
			stop = append(stop, s.withVerb(Stop))
		}
	}
	for _, m := range now.Machines {
		if (m.Created || made != nil && made(now.Target, m)) && !were.hasCounterpart(m) && !lost[m.Group] {
			if m.Running() && !m.Cordoned && m.Host == "" {
				hide = append(hide, Step{Verb: Cordon, Target: now.Target, FlyApp: now.FlyApp, Machine: m.ID, Group: m.Group, Region: m.Region, Wait: b.Wait})
			}
			destroy = append(destroy, Step{Verb: Destroy, Target: now.Target, FlyApp: now.FlyApp, Machine: m.ID, Group: m.Group, Region: m.Region, From: m.Image, Wait: b.Wait})
		}
	}
	return slices.Concat(
		newWave("update what served nothing", cold, maxColdConcurrent),
		newWave("stop what came back unwell", unwell, maxColdConcurrent),
		newWave("bring back", slices.Concat(broken, create), maxGreenConcurrent),
		newWave("uncordon", show, maxColdConcurrent),
		b.limitPerGroup("bring back the rest", healthy),
		withSettle(newWave("cordon", hide, maxColdConcurrent), proxySettleTime),
		newWave("stop", stop, maxColdConcurrent),
	), newWave("remove what is new", destroy, maxColdConcurrent)
}

// equalConfigs says whether two configs are equal, byte for byte of their
// canonical form: but for what Fly itself tells of a volume, which a machine of
// long ago may not have had.
func equalConfigs(a, b json.RawMessage) bool {
	return bytes.Equal(a, b) || bytes.Equal(comparableConfigs.get(a, removeVolumeFacts), comparableConfigs.get(b, removeVolumeFacts))
}

var comparableConfigs docCache[[]byte]

func removeVolumeFacts(doc json.RawMessage) []byte {
	v, err := decodeJSON(doc)
	if err != nil {
		return doc
	}
	if config, ok := v.(map[string]any); ok {
		mounts, _ := config["mounts"].([]any)
		for _, m := range mounts {
			if mount, ok := m.(map[string]any); ok {
				delete(mount, "size_gb")
				delete(mount, "encrypted")
			}
		}
	}
	return encodeJSON(v)
}

// Lost says of which machines of the baselines nobody can make another: they
// are gone, and their host could not be reached when their config was read.
func Lost(baselines []Baseline, now []State) (lost []string) {
	for _, b := range baselines {
		have := findState(now, b.State.Target).indexMachines()
		for _, want := range b.State.Machines {
			if _, exists := have.findCounterpart(want); !exists && want.Host != "" {
				lost = append(lost, fmt.Sprintf("machine %s (%s) of %s is gone, and its whole config is not known: its host could not be reached then", want.ID, want.Name, b.State.Target))
			}
		}
	}
	return lost
}

// Ours tells the machines that a rollout may bring back: those that are on its
// goal or on the baseline. Any other has been changed by somebody else.
func Ours(goal, baseline []State) func(Target, Machine) bool {
	either := []map[Target]machineIndex{indexStates(goal), indexStates(baseline)}
	return func(t Target, m Machine) bool {
		for _, states := range either {
			if m.Host != "" {
				return true // what Fly says of it is old
			}
			if want, ok := states[t].findCounterpart(m); ok && (m.IsAsBefore(want) || SameConfig(m.Config, want.Config) && m.Image.Digest() == want.Image.Digest()) {
				return true
			}
		}
		return false
	}
}

// Made tells the machines that a plan with that goal has created.
func Made(goal []State) func(Target, Machine) bool {
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
			return (m.Host != "" || SameConfig(m.Config, want.Config) && m.Image.Digest() == want.Image.Digest())
		})
	}
}

// limitPerGroup is one wave of machines that serve: each group loses at most as many
// at once as its strategy allowed on the way forward.
func (b Baseline) limitPerGroup(title string, steps []Step) (ws []Wave) {
	groups := map[string][]Step{}
	for _, s := range steps {
		groups[s.Group] = append(groups[s.Group], s)
	}
	for _, g := range sortedKeys(groups) {
		running := countWhere(b.State.Machines, func(m Machine) bool { return m.Group == g && m.Running() })
		ws = mergeWaves(ws, newWave(title, groups[g], countUnavailable(b.MaxUnavailable, running)))
	}
	return ws
}

// restoreStep is what all steps on an existing machine share. It names no version: a
// failed rollout leaves versions that nobody foresaw, and the way back is
// planned from a fresh look.
func (b Baseline) restoreStep(have, want Machine) Step {
	return Step{
		Target: b.State.Target, FlyApp: b.State.FlyApp, Machine: have.ID, Group: have.Group, Region: have.Region,
		Version: have.Version, From: have.Image, To: want.Image, Before: have.Config, After: want.Config,
		Exact: true, Idle: !want.Running(), Unchecked: !want.Healthy(), Wait: b.Wait,
	}
}

func (b Baseline) recreateStep(want Machine) Step {
	return Step{
		Verb: Create, Volume: b.previousVolume(want), Target: b.State.Target, FlyApp: b.State.FlyApp, Machine: want.Name, Group: want.Group, Region: want.Region,
		To: want.Image, After: want.Config, Exact: true, Idle: !want.Running(), Hidden: want.Cordoned,
		Unchecked: !want.Healthy(), Wait: b.Wait,
	}
}

// previousVolume is what want was attached to. It is taken if it is free again; none is
// made in its place, for nobody would find the data in it.
func (b Baseline) previousVolume(want Machine) *NewVolume {
	for _, v := range b.State.Volumes {
		if v.Attached == want.ID {
			return &NewVolume{Name: v.Name}
		}
	}
	return nil
}

// withVerb is s with a verb, and only with what that verb needs.
func (s Step) withVerb(v Verb) Step {
	s.Verb = v
	if v != Update {
		s.Before, s.After, s.To, s.Version = nil, nil, "", ""
	}
	return s
}

func findState(states []State, t Target) State {
	for _, s := range states {
		if s.Target == t {
			return s
		}
	}
	return State{Target: t}
}

// commonImage is what all machines of s run, or "" if that differs.
func commonImage(s State) (image Image) {
	for i, m := range s.Machines {
		if i > 0 && m.Image != image {
			return ""
		}
		image = m.Image
	}
	return image
}

// Differences says, a sentence each, in what now is not equal to the baseline:
// config byte for byte, image, region, running or not, cordon, and which
// machines there are. New IDs of machines that had to be created again are no
// difference; Recreated names them.
func Differences(baselines []Baseline, now []State) (diffs []string) {
	for _, b := range baselines {
		have := findState(now, b.State.Target)
		is, were := have.indexMachines(), b.State.indexMachines()
		for _, want := range b.State.Machines {
			m, ok := is.findCounterpart(want)
			if !ok {
				diffs = append(diffs, fmt.Sprintf("machine %s (%s) of %s is gone", want.ID, want.Name, b.State.Target))
				continue
			}
			diffs = append(diffs, describeDifference(b.State.Target, want, m)...)
		}
		for _, m := range have.Machines {
			if !were.hasCounterpart(m) {
				diffs = append(diffs, fmt.Sprintf("machine %s (%s) of %s is new", m.ID, m.Name, b.State.Target))
			}
		}
	}
	return diffs
}

func describeDifference(t Target, want, have Machine) (diffs []string) {
	say := func(what, is, was string) {
		diffs = append(diffs, fmt.Sprintf("machine %s of %s: %s is %s, was %s", have.ID, t, what, is, was))
	}
	same := have.IsAsBefore(want) // whatever Fly tells of a machine whose host can't be reached
	if !same && have.Image.Digest() != want.Image.Digest() {
		say("image", have.Image.Digest(), want.Image.Digest())
	}
	if want.Host == "" && !same && !equalConfigs(have.Config, want.Config) {
		diffs = append(diffs, fmt.Sprintf("machine %s of %s: its config is not the one it had", have.ID, t))
	}
	if have.Running() != want.Running() && !((have.Rests() || have.Ended()) && want.Running()) {
		say("state", have.State, want.State)
	}
	if have.Cordoned != want.Cordoned {
		say("cordoned", fmt.Sprint(have.Cordoned), fmt.Sprint(want.Cordoned))
	}
	if have.Region != want.Region {
		say("region", have.Region, want.Region)
	}
	return diffs
}

// Recreated says which machines of the baseline stand again under a new ID, and
// which lost the memory that they were suspended with.
func Recreated(baselines []Baseline, now []State) (notes []string) {
	for _, b := range baselines {
		have := findState(now, b.State.Target).indexMachines()
		for _, want := range b.State.Machines {
			m, ok := have.findCounterpart(want)
			if ok && want.State == "suspended" && m.State == "stopped" {
				notes = append(notes, fmt.Sprintf("machine %s of %s was suspended and is stopped now: it starts anew, not where it was", m.ID, b.State.Target))
			}
			if ok && m.ID != want.ID {
				notes = append(notes, fmt.Sprintf("machine %s (%s) of %s had to be created again: its ID is now %s", want.ID, want.Name, b.State.Target, m.ID))
			}
		}
	}
	return notes
}
