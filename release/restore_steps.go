package release

import "slices"

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
	return want.Host == "" && !have.Config.isEqual(want.Config) || have.Image.Digest() != want.Image.Digest()
}

// restoreSteps are the steps of the restore of a target, by the wave that they belong
// to.
type restoreSteps struct {
	updateStopped, stopFailing, updateDown, create, uncordon, updateServing, cordon, stop, destroy []Step

	// awaitHealth are uncordon steps of machines that are not cordoned, but not healthy. What
	// serves in their place stays until they are healthy.
	awaitHealth []Step
}

// addMachine adds the steps that bring have back to want, which is a machine of b.
func (r *restoreSteps) addMachine(b Baseline, have, want Machine) {
	on := b.stepMachine(have)
	action := classifyRestore(have, want)
	switch action {
	case updateStopped:
		r.updateStopped = append(r.updateStopped, b.updateStep(have, want))
	case updateServing:
		r.updateServing = append(r.updateServing, b.updateStep(have, want))
	case updateDown:
		r.updateDown = append(r.updateDown, b.updateStep(have, want))
	case startMachine:
		r.updateDown = append(r.updateDown, NewStart(on).asRestore(want))
	case restartMachine:
		r.stopFailing = append(r.stopFailing, NewStop(on).asRestore(want))
		r.updateDown = append(r.updateDown, NewStart(on).asRestore(want))
	}
	if have.Cordoned || action == leaveMachine && have.IsRunning() {
		r.addReturn(b, have, want)
	}
	if !have.Cordoned && want.Cordoned {
		r.cordon = append(r.cordon, NewCordon(on).asRestore(want))
	}
	if have.IsRunning() && !want.IsRunning() {
		r.stop = append(r.stop, NewStop(on).asRestore(want))
	}
}

// addReturn adds a step that brings have, which served in the baseline as want, back into
// service, or that waits for its health.
func (r *restoreSteps) addReturn(b Baseline, have, want Machine) {
	uncordon := NewUncordon(b.stepMachine(have)).asRestore(want)
	switch {
	case want.Cordoned:
	case have.Cordoned:
		r.uncordon = append(r.uncordon, uncordon)
	case want.IsHealthy() && !have.IsHealthy() && have.Host == "":
		r.awaitHealth = append(r.awaitHealth, uncordon)
	}
}

// addRemoval adds the steps that take m, which is not in the baseline, out of service and
// destroy it.
func (r *restoreSteps) addRemoval(on StepMachine, m Machine) {
	if m.IsRunning() && !m.Cordoned && m.Host == "" {
		r.cordon = append(r.cordon, NewCordon(on))
	}
	r.destroy = append(r.destroy, NewDestroy(on, Config{}))
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

// stepMachine returns have for a step that brings it back to a machine of b. Only an
// update names a version: that of the machine now, because a failed rollout leaves
// versions that no plan has.
func (b Baseline) stepMachine(have Machine) StepMachine {
	return StepMachine{
		Target: b.State.Target, FlyApp: b.State.FlyApp, Machine: have.ID, Group: have.Group, Region: have.Region,
		From: have.Image, Wait: b.Wait,
	}
}

// updateStep returns the step that gives have the config and image of want.
func (b Baseline) updateStep(have, want Machine) Step {
	on := b.stepMachine(have)
	on.Version = have.Version
	return NewUpdate(on, UpdateOptions{To: want.Image, Before: have.Config, After: want.Config}).asRestore(want)
}

func (b Baseline) recreateStep(want Machine) Step {
	on := b.stepMachine(want)
	on.Machine = want.Name
	on.From = ""
	return NewCreate(on, CreateOptions{
		To: want.Image, After: want.Config, Cordoned: want.Cordoned, Volume: b.previousVolume(want),
	}).asRestore(want)
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
