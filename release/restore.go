package release

import (
	"bytes"
	"cmp"
	"encoding/json"
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

// RestoreOptions tells Restore more about machines than their state does.
type RestoreOptions struct {
	// MayRestore, if set, reports whether a machine may be restored. Restore leaves alone
	// the config and state of the others, so that it never overwrites changes of other
	// clients. It uncordons them, and takes nothing new out of service before they are
	// healthy.
	MayRestore func(Target, Machine) bool
	// IsCreated, if set, reports whether a restore created a machine. The metadata of a
	// machine tell that only of the machines that a plan for a revision created.
	IsCreated func(Target, Machine) bool
}

// Restore returns the ordered steps that bring every target back to its baseline.
// Missing machines are created again, machines that a release created are destroyed,
// and all others get their config, image, cordon and state back. It is pure, like
// NewPlan. Apps that need others are restored first.
//
// Restore leaves alone machines that no plan created and that are not in the baseline;
// DescribeDifferences lists them.
func Restore(environment string, baselines []Baseline, now []State, options RestoreOptions) Plan {
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
			back, extra := b.restoreWaves(state, options)
			t := TargetPlan{
				Target: b.State.Target, FlyApp: b.State.FlyApp, URL: b.State.URL, Level: b.Level,
				MaxUnavailable: b.MaxUnavailable, Wait: b.Wait, Probe: b.Probe,
				MachineVersions: machineVersions(state), Cordoned: cordonedMachines(state), Changed: len(back)+len(extra) > 0, Image: commonImage(b.State),
				Definition: b.State.Definition, Secrets: state.Secrets,
			}
			if !b.WasHealthy() {
				t.Probe = nil // the probe failed before, too
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

// restoreWaves returns the waves that restore b from now, and the waves that destroy
// additional machines.
func (b Baseline) restoreWaves(now State, options RestoreOptions) (back, extra []Wave) {
	var steps restoreSteps
	is := now.indexMachines()
	for _, want := range b.State.Machines {
		have, exists := is.findCounterpart(want)
		switch {
		case !exists && want.Host == "":
			steps.create = append(steps.create, b.recreateStep(want))
		case exists && (options.MayRestore == nil || options.MayRestore(b.State.Target, have)):
			steps.addMachine(b.restoreStep(have, want), have, want)
		case exists && want.IsRunning() && have.Host == "" && !have.IsAsleep() && !have.HasCompleted():
			steps.addReturn(b.restoreStep(have, want), have, want)
		}
	}
	for _, m := range b.additionalMachines(now, options.IsCreated) {
		steps.addRemoval(b.removalStep(now, m), m)
	}
	return steps.order(b)
}

// A restoreAction is what brings the config and the process of a machine back.
type restoreAction int

const (
	leaveMachine   restoreAction = iota
	updateStopped                // it did not run in the baseline
	updateServing                // it serves now
	updateDown                   // it ran in the baseline, and serves nothing now
	startMachine                 // it has its config
	restartMachine               // it has its config: an earlier restore left it unhealthy or stuck
)

// classifyRestore returns how have becomes as want, which is the same machine in a
// baseline.
func classifyRestore(have, want Machine) restoreAction {
	stale := needsUpdate(have, want)
	switch {
	case stale && !want.IsRunning():
		return updateStopped
	case stale && have.IsHealthy():
		return updateServing
	case stale:
		return updateDown
	case have.Version == want.Version && have.IsAsleep():
		return leaveMachine // the proxy stopped it, and starts it again
	case want.IsRunning() && !have.IsRunning() && !have.HasCompleted():
		return startMachine
	case want.IsHealthy() && have.IsFailing() && have.Version != want.Version:
		return restartMachine
	}
	return leaveMachine
}

// needsUpdate reports whether have has another config or image than want. A config of
// want that its host did not report whole is not compared.
func needsUpdate(have, want Machine) bool {
	if have.IsSameVersion(want) {
		return false
	}
	return want.Host == "" && !equalConfigs(have.Config, want.Config) || have.Image.Digest() != want.Image.Digest()
}

// restoreSteps are the steps of the restore of a target, by the wave that they belong
// to.
type restoreSteps struct {
	updateStopped, stopFailing, updateDown, create, uncordon, updateServing, cordon, stop, destroy []Step

	// awaitHealth are uncordon steps of machines that are not cordoned, but not healthy. What
	// serves in their place stays until they are healthy.
	awaitHealth []Step
}

// addMachine adds the steps that bring have back to want. s is restoreStep of both.
func (r *restoreSteps) addMachine(s Step, have, want Machine) {
	action := classifyRestore(have, want)
	switch action {
	case updateStopped:
		r.updateStopped = append(r.updateStopped, s.withVerb(Update))
	case updateServing:
		r.updateServing = append(r.updateServing, s.withVerb(Update))
	case updateDown:
		r.updateDown = append(r.updateDown, s.withVerb(Update))
	case startMachine:
		r.updateDown = append(r.updateDown, s.withVerb(Start))
	case restartMachine:
		r.stopFailing = append(r.stopFailing, s.withVerb(Stop))
		r.updateDown = append(r.updateDown, s.withVerb(Start))
	}
	if have.Cordoned || action == leaveMachine && have.IsRunning() {
		r.addReturn(s, have, want)
	}
	if !have.Cordoned && want.Cordoned {
		r.cordon = append(r.cordon, s.withVerb(Cordon))
	}
	if have.IsRunning() && !want.IsRunning() {
		r.stop = append(r.stop, s.withVerb(Stop))
	}
}

// addReturn adds a step that brings have, which served in the baseline as want, back into
// service, or that waits for its health.
func (r *restoreSteps) addReturn(s Step, have, want Machine) {
	switch {
	case want.Cordoned:
	case have.Cordoned:
		r.uncordon = append(r.uncordon, s.withVerb(Uncordon))
	case want.IsHealthy() && !have.IsHealthy() && have.Host == "":
		r.awaitHealth = append(r.awaitHealth, s.withVerb(Uncordon))
	}
}

// addRemoval adds the steps that take m out of service and destroy it. s is removalStep
// of m.
func (r *restoreSteps) addRemoval(s Step, m Machine) {
	if m.IsRunning() && !m.Cordoned && m.Host == "" {
		r.cordon = append(r.cordon, s.withVerb(Cordon))
	}
	s.Verb, s.From = Destroy, m.Image
	r.destroy = append(r.destroy, s)
}

// order returns the steps as waves. Machines that serve nothing are restored before
// machines that serve are changed. New machines are cordoned after that, and are
// destroyed, in the waves of extra, when the proxy has had time to notice.
func (r restoreSteps) order(b Baseline) (back, extra []Wave) {
	if len(r.destroy) > 0 {
		r.uncordon = append(r.uncordon, r.awaitHealth...)
	}
	return slices.Concat(
		newWave("update what served nothing", r.updateStopped, maxColdConcurrent),
		newWave("stop what fails since an earlier restore", r.stopFailing, maxColdConcurrent),
		newWave("bring back", slices.Concat(r.updateDown, r.create), maxGreenConcurrent),
		newWave("uncordon", r.uncordon, maxColdConcurrent),
		b.limitPerGroup("bring back the rest", r.updateServing),
		withSettle(newWave("cordon", r.cordon, maxColdConcurrent), proxySettleTime),
		newWave("stop", r.stop, maxColdConcurrent),
	), newWave("remove what is new", r.destroy, maxColdConcurrent)
}

// additionalMachines returns the machines of now that a plan created and that are not in
// b. It leaves out those of groups of which a machine can't be created again: they may
// be its replacement. isCreated is that of RestoreOptions.
func (b Baseline) additionalMachines(now State, isCreated func(Target, Machine) bool) (machines []Machine) {
	is, were, lost := now.indexMachines(), b.State.indexMachines(), map[string]bool{}
	for _, want := range b.State.Machines {
		if want.Host != "" && !is.hasCounterpart(want) {
			lost[want.Group] = true
		}
	}
	for _, m := range now.Machines {
		isAdditional := m.CreatedByPlan || isCreated != nil && isCreated(now.Target, m)
		if isAdditional && !were.hasCounterpart(m) && !lost[m.Group] {
			machines = append(machines, m)
		}
	}
	return machines
}

// removalStep returns the fields that all steps on an additional machine share.
func (b Baseline) removalStep(now State, m Machine) Step {
	return Step{Target: now.Target, FlyApp: now.FlyApp, Machine: m.ID, Group: m.Group, Region: m.Region, Wait: b.Wait}
}

// equalConfigs reports whether two configs are equal in canonical form. It ignores the
// size and encryption of volumes, which Fly adds and which old configs may lack.
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

// OwnedBy returns a predicate: whether the config and image of a machine equal those of
// the goal or the baseline. Any other machine was changed by another client.
func OwnedBy(goal, baseline []State) func(Target, Machine) bool {
	either := []map[Target]machineIndex{indexStates(goal), indexStates(baseline)}
	return func(t Target, m Machine) bool {
		for _, states := range either {
			if m.Host != "" {
				return true // Fly reports old values
			}
			if want, ok := states[t].findCounterpart(m); ok && (m.IsSameVersion(want) || IsSameConfig(m.Config, want.Config) && m.Image.Digest() == want.Image.Digest()) {
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
			return (m.Host != "" || IsSameConfig(m.Config, want.Config) && m.Image.Digest() == want.Image.Digest())
		})
	}
}

// limitPerGroup returns one wave of steps on serving machines. It limits concurrency
// per group as the strategy did in the rollout.
func (b Baseline) limitPerGroup(title string, steps []Step) (ws []Wave) {
	groups := map[string][]Step{}
	for _, s := range steps {
		groups[s.Group] = append(groups[s.Group], s)
	}
	for _, g := range sortedKeys(groups) {
		running := countWhere(b.State.Machines, func(m Machine) bool { return m.Group == g && m.IsRunning() })
		ws = mergeWaves(ws, newWave(title, groups[g], countUnavailable(b.MaxUnavailable, running)))
	}
	return ws
}

// restoreStep returns a step, without verb, that restores have to want. Its version is
// that of the machine now, because a failed rollout leaves versions that no plan has.
func (b Baseline) restoreStep(have, want Machine) Step {
	return Step{
		Target: b.State.Target, FlyApp: b.State.FlyApp, Machine: have.ID, Group: have.Group, Region: have.Region,
		Version: have.Version, From: have.Image, To: want.Image, Before: have.Config, After: want.Config,
		Verbatim: true, SkipLaunch: !want.IsRunning(), SkipHealthCheck: !want.IsHealthy(), Wait: b.Wait,
	}
}

func (b Baseline) recreateStep(want Machine) Step {
	return Step{
		Verb: Create, Volume: b.previousVolume(want), Target: b.State.Target, FlyApp: b.State.FlyApp, Machine: want.Name, Group: want.Group, Region: want.Region,
		To: want.Image, After: want.Config, Verbatim: true, SkipLaunch: !want.IsRunning(), Cordoned: want.Cordoned,
		SkipHealthCheck: !want.IsHealthy(), Wait: b.Wait,
	}
}

// previousVolume returns the volume that was attached to want, or nil. A restore
// attaches it if it is free, and never creates an empty one in its place.
func (b Baseline) previousVolume(want Machine) *NewVolume {
	for _, v := range b.State.Volumes {
		if v.AttachedTo == want.ID {
			return &NewVolume{Name: v.Name}
		}
	}
	return nil
}

// withVerb returns s with a verb, and without the fields that the verb does not use.
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

// commonImage returns the image of all machines of s, or "" if they differ.
func commonImage(s State) (image Image) {
	for i, m := range s.Machines {
		if i > 0 && m.Image != image {
			return ""
		}
		image = m.Image
	}
	return image
}

// DescribeDifferences returns a sentence for each difference between now and the
// baselines: config, image, region, running or not, cordon, missing and additional
// machines. A new ID of a machine that was created again is no difference: see
// DescribeRecreated.
func DescribeDifferences(baselines []Baseline, now []State) (diffs []string) {
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
	same := have.IsSameVersion(want) // even if Fly reports incomplete values of an unreachable machine
	if !same && have.Image.Digest() != want.Image.Digest() {
		say("image", have.Image.Digest(), want.Image.Digest())
	}
	if want.Host == "" && !same && !equalConfigs(have.Config, want.Config) {
		diffs = append(diffs, fmt.Sprintf("machine %s of %s: its config differs from the baseline", have.ID, t))
	}
	if have.IsRunning() != want.IsRunning() && !((have.IsAsleep() || have.HasCompleted()) && want.IsRunning()) {
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

// DescribeRecreated returns a sentence for each machine of the baseline that has a new
// ID, and for each that lost its suspended memory.
func DescribeRecreated(baselines []Baseline, now []State) (notes []string) {
	for _, b := range baselines {
		have := findState(now, b.State.Target).indexMachines()
		for _, want := range b.State.Machines {
			m, ok := have.findCounterpart(want)
			if ok && want.State == "suspended" && m.State == "stopped" {
				notes = append(notes, fmt.Sprintf("machine %s of %s was suspended and is stopped now: its suspended memory is lost", m.ID, b.State.Target))
			}
			if ok && m.ID != want.ID {
				notes = append(notes, fmt.Sprintf("machine %s (%s) of %s had to be created again: its ID is now %s", want.ID, want.Name, b.State.Target, m.ID))
			}
		}
	}
	return notes
}
