package workflows

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// A rolloutRun is the state of one Rollout workflow.
type rolloutRun struct {
	statusLog
	in               release.RolloutRequest
	states           []release.State // observed before the first change
	baselines        []release.Baseline
	predecessorRunID string         // run ID of the unreported rollout whose baseline is used, or ""
	leftAwake        []release.Step // stop steps for machines that the predecessor left running
	hasBegun         bool           // a step has begun

	leases  heldLeases
	written writtenMachines
	opened  activities.Opened
	// maybeOpened has, by Fly app, images for which Fly may have created a Fly release.
	maybeOpened map[string]release.Image
	// wavesDone counts the executed waves of the first part (false) and the last part
	// (true) of the plan.
	wavesDone      map[bool]int
	provenGroups   map[groupKey]bool       // groups of which a machine ran the planned version and passed
	retries        int                     // how often an operator chose to retry the plan
	ranCommand     bool                    // a release command was started
	foreignChanges int                     // number of machines that a restore skipped because another client changed them
	failedTargets  map[release.Target]bool // in a restore: targets with a step that failed; nil before
	keptOld        bool                    // an operator kept old machines beside the new ones
	overwrite      bool                    // a restore overwrites the changes of other clients
	changeCount    int                     // number of progress changes, shown or not
}

// beginRollout returns the state of a new rollout and registers its handlers.
func beginRollout(ctx workflow.Context, in release.RolloutRequest) (*rolloutRun, error) {
	r := &rolloutRun{in: in, wavesDone: map[bool]int{}, written: writtenMachines{}, provenGroups: map[groupKey]bool{}, statusLog: newStatusLog(ctx, release.Begun{
		Project: in.Project, Revision: in.Revision, Release: in.Release, By: in.By, Restores: in.Restores,
	})}
	r.record(ctx, release.PlanMade(in.Plan))
	err := errors.Join(r.registerQueries(ctx), r.registerResolutionHandlers(ctx))
	r.enterPhase(ctx, release.RollingOut)
	return r, err
}

// enterPhase starts phase p in the environment of the plan.
func (r *rolloutRun) enterPhase(ctx workflow.Context, p release.Phase) {
	r.statusLog.enterPhase(ctx, p, r.in.Plan.Environment)
}

// targetRefs returns the targets of the plan.
func (r *rolloutRun) targetRefs() (refs []activities.TargetRef) {
	for _, t := range r.in.Plan.Targets {
		refs = append(refs, activities.TargetRef{Target: t.Target, FlyApp: t.FlyApp})
	}
	return refs
}

// targetRefsWithProbes returns the targets of the plan with their probes. A probe that
// fails before the first change is not required after a rollback.
func (r *rolloutRun) targetRefsWithProbes() []activities.TargetRef {
	refs := r.targetRefs()
	for i, t := range r.in.Plan.Targets {
		refs[i].Probe = t.Probe
	}
	return refs
}

// observeTargets reads the current state of every target of the plan.
func (r *rolloutRun) observeTargets(ctx workflow.Context) (states []release.State, err error) {
	err = workflow.ExecuteActivity(withCallOptions(ctx, "Read machine state of "+r.in.Plan.Environment), act.Observe,
		activities.ObserveInput{Targets: r.targetRefs(), Written: r.writtenVersions()}).Get(ctx, &states)
	return r.in.Plan.WithKnownConfigs(states), err
}

// successOutcome returns the outcome of a rollout that executed its plan.
func (r *rolloutRun) successOutcome() release.Outcome {
	if r.in.Restores != nil {
		return release.Restored
	}
	return release.Promoted
}

// expectations returns the expected state of every target once plan, all or the first
// part of the rollout's plan, is executed. A machine that was unhealthy before and that
// plan only takes out of service, or does not touch, need not be healthy afterwards. Nor
// need a machine that still runs the old version and that a later part replaces: the
// release may be the remedy for what makes it fail.
func (r *rolloutRun) expectations(plan release.Plan) (all []activities.Expectation) {
	touched, unchecked := touchedMachines(plan)
	replaced, resumed := r.replacedMachines(plan), r.resumedMachines()
	maps.Copy(touched, resumed)
	for _, goal := range r.goalStates(plan) {
		for i, m := range goal.Machines {
			if resumed[m.ID] && m.IsRunning() {
				goal.Machines[i].State = "started"
			}
			if !touched[m.ID] && !touched[m.Name] && (!m.IsHealthy() || replaced[m.ID]) || unchecked[m.ID] || unchecked[m.Name] {
				goal.Machines[i].State = ""
			}
		}
		for _, t := range plan.Targets {
			if t.Target == goal.Target {
				all = append(all, activities.Expectation{
					Goal: goal, Probe: r.probeOf(plan, t), Changed: r.changedGroups(plan, goal), Ran: r.provenGroupsOf(plan, goal), Removed: r.in.Plan.RemovedMachines(t.Target), Resumed: workflow.DeterministicKeys(resumed), Back: plan.IsRestore(), RefuseUnchecked: t.RefuseUnchecked,
				})
			}
		}
	}
	return all
}

// touchedMachines returns the IDs or planned names of the machines that plan starts,
// updates, creates or uncordons, and of those whose health it does not wait for.
func touchedMachines(plan release.Plan) (touched, unchecked map[string]bool) {
	touched, unchecked = map[string]bool{}, map[string]bool{}
	for _, s := range plan.Steps() {
		touched[s.Machine] = touched[s.Machine] || s.Verb != release.Cordon && s.Verb != release.Stop && s.Verb != release.Destroy
		unchecked[s.Machine] = unchecked[s.Machine] || s.SkipHealthCheck
	}
	return touched, unchecked
}

// replacedMachines returns the IDs of the machines that the rollout's plan updates or
// destroys. It is empty if plan is a restore, which needs all of them.
func (r *rolloutRun) replacedMachines(plan release.Plan) map[string]bool {
	replaced := map[string]bool{}
	if plan.IsRestore() {
		return replaced
	}
	for _, s := range r.in.Plan.Steps() {
		if s.Verb == release.Update || s.Verb == release.Destroy {
			replaced[s.Machine] = true
		}
	}
	return replaced
}

// probeOf returns the probe of a target. It returns nil while plan, a part of the whole
// plan, leaves machines in service that were unhealthy before: the probe still fails
// then.
func (r *rolloutRun) probeOf(plan release.Plan, t release.TargetPlan) *release.Probe {
	i := slices.IndexFunc(r.baselines, func(b release.Baseline) bool { return b.State.Target == t.Target })
	if i >= 0 && !r.baselines[i].WasHealthy() && plan.CountSteps(t.Target) < r.in.Plan.ReversiblePart().CountSteps(t.Target) {
		return nil
	}
	return t.Probe
}

// verify waits until every target matches the plan, or fails.
func (r *rolloutRun) verify(ctx workflow.Context) error {
	return r.verifyPlan(ctx, release.Verifying, r.in.Plan.ReversiblePart(), activities.VerifyInput{Within: release.Duration(proxyDelay)})
}

// bake repeats the verification under traffic for the bake time.
func (r *rolloutRun) bake(ctx workflow.Context) error {
	if r.in.Bake <= 0 {
		return nil
	}
	return r.verifyPlan(ctx, release.Baking, r.in.Plan.ReversiblePart(), activities.VerifyInput{For: r.in.Bake})
}

// verifyPlan verifies in the given phase that plan is in effect, for as long as input
// says. It returns an *unhealthyError if a target is unhealthy. If a verdict is
// unknown, the rollout is held and an operator decides.
func (r *rolloutRun) verifyPlan(ctx workflow.Context, phase release.Phase, plan release.Plan, in activities.VerifyInput) error {
	for {
		r.enterPhase(ctx, phase)
		in.Expectations = r.expectations(plan)
		var verdicts []release.Verdict
		err := r.withSleepersStarted(ctx, plan, func() (err error) {
			verdicts, err = r.readVerdicts(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		r.recordHealthyGroups(plan, verdicts)
		if hasHealth(verdicts, release.Unhealthy) {
			return &unhealthyError{phase, verdicts}
		}
		if !hasHealth(verdicts, release.Unknown) {
			return nil
		}
		err = r.holdRollout(ctx, release.HoldUnverified, &unhealthyError{phase, verdicts}, release.ChoiceRetry, release.ChoiceRollback, release.ChoiceKeep, release.ChoiceAbandon)
		if err != nil {
			return err
		}
	}
}

// readVerdicts verifies the expectations of in and shows the verdicts in the status.
func (r *rolloutRun) readVerdicts(ctx workflow.Context, in activities.VerifyInput) (verdicts []release.Verdict, err error) {
	limit := time.Duration(in.For) + time.Duration(in.Within) + outageBudget
	summary := "Verify " + r.in.Plan.Environment
	options := withWaitOptions(ctx, summary, limit)
	if in.For > 0 {
		options = withWatchOptions(ctx, summary, limit)
	}
	err = workflow.ExecuteActivity(options, act.Verify, in).Get(ctx, &verdicts)
	if err == nil {
		for i := range verdicts {
			verdicts[i].At = workflow.Now(ctx)
			r.record(ctx, release.VerdictReached(verdicts[i]))
		}
	}
	return verdicts, err
}

// hasHealth reports whether one of the verdicts is h.
func hasHealth(verdicts []release.Verdict, h release.Health) bool {
	return slices.ContainsFunc(verdicts, func(v release.Verdict) bool { return v.Health == h })
}

// An unhealthyError has verdicts of which at least one is unhealthy or unknown.
type unhealthyError struct {
	phase    release.Phase
	verdicts []release.Verdict
}

func (e *unhealthyError) Error() string {
	var failures []string
	for _, v := range e.verdicts {
		if v.Health == release.Healthy || v.Health == release.Unchecked {
			continue
		}
		for _, f := range v.Failures {
			failures = append(failures, f.Error())
		}
	}
	return fmt.Sprintf("while %s: %s", e.phase, strings.Join(failures, "; "))
}

// executeFinalWaves executes the irreversible waves of the plan. It ignores
// cancellation, because the new version is verified. A failure is held until an
// operator resolves it.
func (r *rolloutRun) executeFinalWaves(ctx workflow.Context, plan release.Plan) error {
	if plan.IsEmpty() {
		return nil
	}
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	for {
		r.enterPhase(ctx, release.CleaningUp)
		err := r.execute(ctx, plan)
		if err == nil {
			return nil
		}
		err = r.holdRollout(ctx, release.HoldNotRemoved, err, release.ChoiceRetry, release.ChoiceKeep, release.ChoiceAbandon)
		if errors.Is(err, errKeep) {
			r.keptOld = true
			r.addNote(ctx, "the remaining old machines are kept, as %s decided", r.resolution.By)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// planRestore plans the restore of the baseline from the current machines.
func (r *rolloutRun) planRestore(ctx workflow.Context) (back activities.Restoration, err error) {
	in := activities.RestoreInput{
		Environment: r.in.Plan.Environment, Baselines: r.baselines, Goals: r.in.Plan.Goal(r.states), Overwrite: r.overwrite, Written: r.writtenVersions(),
	}
	if r.predecessorRunID != "" {
		in.Found = r.states
	}
	err = workflow.ExecuteActivity(withCallOptions(ctx, "Plan the rollback of "+r.in.Plan.Environment), act.PlanRestore, in).Get(ctx, &back)
	r.foreignChanges = back.ForeignChanges
	return back, err
}

// verifyRestored returns an error unless every machine matches the baseline and is as
// healthy as it was.
func (r *rolloutRun) verifyRestored(ctx workflow.Context) error {
	now, err := r.planRestore(ctx)
	if err != nil {
		return err
	}
	r.recordMachines(ctx, now.States)
	if !now.Plan.IsEmpty() && len(now.Differences) > 0 {
		return fmt.Errorf("machines still differ from the baseline: %s", strings.Join(now.Differences, "; "))
	}
	if verdicts, err := r.readVerdicts(ctx, r.baselineExpectations()); err != nil {
		return err
	} else if hasHealth(verdicts, release.Unhealthy) || hasHealth(verdicts, release.Unknown) {
		return &unhealthyError{release.RollingBack, verdicts}
	}
	for _, m := range release.FindRecreated(r.baselines, now.States) {
		r.record(ctx, release.MachineWasRecreated(m))
	}
	for _, note := range slices.Concat(now.Recreated, r.irreversibleNotes(now.States)) {
		r.addNote(ctx, "%s", note)
	}
	for _, d := range now.Differences {
		r.addNote(ctx, "not touched: %s", d)
	}
	return nil
}

// irreversibleNotes returns a note for each change that a rollback cannot undo.
func (r *rolloutRun) irreversibleNotes(now []release.State) (notes []string) {
	changed := func(t release.Target) bool {
		return slices.ContainsFunc(r.in.Plan.Targets, func(p release.TargetPlan) bool { return p.Target == t && p.Changed })
	}
	notes = release.DescribeKeptSecrets(r.baselines, now, changed)
	for _, c := range r.status().Environments[0].Commands {
		notes = append(notes, fmt.Sprintf("the release command of %s ran (%s, exit code %d): its changes to a database are not undone", c.Target, c.Command, c.ExitCode))
	}
	if len(notes) == 0 && r.ranCommand {
		notes = append(notes, "a release command was started: its changes to a database are not undone")
	}
	return append(notes, release.DescribeNewVolumes(r.baselines, now)...)
}

// baselineExpectations returns the expected state of every target once its baseline is
// restored: the recorded configs, and health only for machines that were healthy
// before.
func (r *rolloutRun) baselineExpectations() (in activities.VerifyInput) {
	for _, b := range r.baselines {
		goal := b.State
		goal.Machines = slices.Clone(goal.Machines)
		for i, m := range goal.Machines {
			if !m.IsHealthy() {
				goal.Machines[i].State = ""
			}
		}
		expected := activities.Expectation{Goal: goal.WithWrittenVersions(r.written[goal.FlyApp]), Before: true, Back: true}
		if b.WasHealthy() {
			expected.Probe = b.Probe
		}
		in.Expectations, in.Within = append(in.Expectations, expected), max(in.Within, b.Wait, release.Duration(proxyDelay))
	}
	return in
}

// proxyDelay is how long Fly's proxy may take to learn of a new machine.
const proxyDelay = 30 * time.Second

// stop ends a rollout that changed nothing.
func (r *rolloutRun) stop(ctx workflow.Context, cause error) (*release.Report, error) {
	return r.finish(ctx, release.Stopped, cause)
}

// finishStale ends a rollout whose plan no longer matches the running machines; reason
// says why. Nothing was changed.
func (r *rolloutRun) finishStale(ctx workflow.Context, reason error) (*release.Report, error) {
	report, err := r.stop(ctx, fmt.Errorf("%w: %s", release.ErrPlanStale, errorMessage(reason)))
	if report != nil {
		report.Stale = errorMessage(reason)
	}
	return report, err
}

// finishRolledBack ends a rollout whose baseline is restored. If a host had no room for
// the new version of a machine, the report lets the release plan again without that
// machine.
func (r *rolloutRun) finishRolledBack(ctx workflow.Context, cause error) (*release.Report, error) {
	report, err := r.finish(ctx, release.RolledBack, cause)
	var f release.Failure
	failed := findApplicationError(cause)
	if report != nil && failed != nil && failed.Type() == release.KindHostFull && failed.Details(&f) == nil && !errors.Is(cause, errRollback) {
		report.Stale, report.FullHosts = f.Error(), []string{f.Machine}
	}
	return report, err
}

// finishGivenUp ends a rollout as the operator chose: kept, or stranded. A stranded
// rollout returns an error of KindStranded that lists every machine.
func (r *rolloutRun) finishGivenUp(ctx workflow.Context, cause error) (*release.Report, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if errors.Is(cause, errKeep) {
		return r.finish(ctx, release.Kept, cause)
	}
	lines, noted := r.describeMachines(ctx), len(r.status().Notes)
	if _, err := r.finish(ctx, "", cause); err != nil {
		return nil, err
	}
	lines = append(lines, r.status().Notes[noted:]...) // an error has no report with the notes of what is left
	return nil, temporal.NewNonRetryableApplicationError(
		fmt.Sprintf("%s is stranded: %s\n%s", r.in.Plan.Environment, r.status().Cause.Message, strings.Join(lines, "\n")), release.KindStranded, nil)
}

// finish cleans up at Fly, reads what runs now if the rollout succeeded, and returns
// the report.
func (r *rolloutRun) finish(ctx workflow.Context, outcome release.Outcome, cause error) (*release.Report, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	r.recordCause(ctx, cause)
	if outcome != "" { // else it is stranded
		r.record(ctx, release.OutcomeReached(r.in.Plan.Environment, outcome, nil))
	}
	waitClosed := r.startClosing(ctx, outcome, cause)
	var after []release.Baseline
	if outcome == release.Promoted || outcome == release.Restored {
		if states, err := r.observeTargets(ctx); err == nil {
			after = r.in.Plan.Baselines(states)
			r.recordMachines(ctx, states)
		} else { // the verification passed, so a failed read is only a note
			r.record(ctx, release.StateUnread(r.in.Plan.Environment, fmt.Sprintf("could not read the state of %s, so a later rollback cannot restore it: %s", r.in.Plan.Environment, errorMessage(err))))
		}
	}
	waitClosed()
	report, err := r.closeWorkflow(ctx, outcome)
	if report != nil {
		report.Before, report.After = r.baselines, after
		report.BaselineRun, report.KeptOld = r.predecessorRunID, r.keptOld
		report.GateAtRevision, report.Head, report.PreviousHead = r.in.Gate, r.headAfter(outcome), r.headBefore()
	}
	return report, err
}
