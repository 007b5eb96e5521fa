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

// A roller carries one rollout from its plan to its report.
type roller struct {
	chronicle
	in        release.RolloutRequest
	states    []release.State // as they were when the rollout began
	baselines []release.Baseline
	settles   string         // run ID of a rollout without a report whose baseline this is
	woken     []release.Step // stops of machines that that rollout has left awake
	begun     bool           // a step was

	leases  leases
	written written
	opened  activities.Opened
	// unopened are images by Fly app that Fly may have been told of or not.
	unopened map[string]release.Image
	// waves counts those carried out: of the first part of the plan, and of the
	// last (true).
	waves      map[bool]int
	witnesses  map[groupKey]bool       // groups of which a machine ran what the plan leads to, and passed
	again      int                     // how often a person said to retry the way forward
	ranCommand bool                    // a release command was started
	others     int                     // machines that a restore left alone, for somebody else had changed them
	stuck      map[release.Target]bool // of a restore: those of which a machine could not be brought back
	overwrite  bool                    // a restore overwrites what others changed
	changes    int                     // of machines, that were or were not shown
}

func beginRollout(ctx workflow.Context, in release.RolloutRequest) (*roller, error) {
	r := &roller{in: in, waves: map[bool]int{}, written: written{}, witnesses: map[groupKey]bool{}, chronicle: newChronicle(ctx, release.Status{
		Project: in.Project, Revision: in.Revision, Release: in.Release, By: in.By, Plan: &in.Plan, Restores: in.Restores,
		Environments: []release.EnvironmentStatus{{Name: in.Plan.Environment, Plan: in.Plan.Hash, Lineage: in.Plan.Lineage}},
	})}
	err := errors.Join(r.answerQueries(ctx), r.listenForAnswers(ctx))
	r.enter(ctx, release.RollingOut)
	return r, err
}

func (r *roller) enter(ctx workflow.Context, p release.Phase) {
	r.chronicle.enter(ctx, p, r.in.Plan.Environment)
}

// targetRefs returns the targets of the plan.
func (r *roller) targetRefs() (refs []activities.TargetRef) {
	for _, t := range r.in.Plan.Targets {
		refs = append(refs, activities.TargetRef{Target: t.Target, FlyApp: t.FlyApp})
	}
	return refs
}

// probedRefs returns the targets of the plan with their probes: a probe that failed
// before the first change does not count against a rollback.
func (r *roller) probedRefs() []activities.TargetRef {
	refs := r.targetRefs()
	for i, t := range r.in.Plan.Targets {
		refs[i].Probe = t.Probe
	}
	return refs
}

func (r *roller) observe(ctx workflow.Context) (states []release.State, err error) {
	err = workflow.ExecuteActivity(calling(ctx, "what does "+r.in.Plan.Environment+" run?"), act.Observe,
		activities.ObserveInput{Targets: r.targetRefs(), Written: r.versions()}).Get(ctx, &states)
	return r.in.Plan.Remembered(states), err
}

// success is the outcome of a rollout that did what it was to do.
func (r *roller) success() release.Outcome {
	if r.in.Restores != nil {
		return release.Restored
	}
	return release.Promoted
}

// expectations returns what every target should be once plan is carried out. A machine that
// was not well before, and that plan does not touch or only takes out of service,
// need not be well after it.
func (r *roller) expectations(plan release.Plan) (all []activities.Expectation) {
	touched, unchecked := map[string]bool{}, map[string]bool{}
	for _, s := range plan.Steps() {
		touched[s.Machine] = touched[s.Machine] || s.Verb != release.Cordon && s.Verb != release.Stop && s.Verb != release.Destroy
		unchecked[s.Machine] = unchecked[s.Machine] || s.Unchecked
	}
	resumed := r.resumed()
	maps.Copy(touched, resumed)
	for _, goal := range r.goal(plan) {
		for i, m := range goal.Machines {
			if resumed[m.ID] && m.Running() {
				goal.Machines[i].State = "started"
			}
			if !touched[m.ID] && !touched[m.Name] && !m.Healthy() || unchecked[m.ID] || unchecked[m.Name] {
				goal.Machines[i].State = ""
			}
		}
		for _, t := range plan.Targets {
			if t.Target == goal.Target {
				all = append(all, activities.Expectation{
					Goal: goal, Probe: r.probe(plan, t), Changed: r.changedGroups(plan, goal), Ran: r.ranOf(plan, goal), Removed: r.in.Plan.Removed(t.Target), Resumed: workflow.DeterministicKeys(resumed), Back: plan.IsRestore(), RefuseUnchecked: t.RefuseUnchecked,
				})
			}
		}
	}
	return all
}

// probe returns the probe of a target, or nil while plan, a part of the rollout's,
// leaves in service what was not well before: it fails as it did.
func (r *roller) probe(plan release.Plan, t release.TargetPlan) *release.Probe {
	i := slices.IndexFunc(r.baselines, func(b release.Baseline) bool { return b.State.Target == t.Target })
	if i >= 0 && !r.baselines[i].WasWell() && plan.StepsOf(t.Target) < r.in.Plan.First().StepsOf(t.Target) {
		return nil
	}
	return t.Probe
}

// verify looks until it is sure that every target is what the plan wants.
func (r *roller) verify(ctx workflow.Context) error {
	return r.look(ctx, release.Verifying, r.in.Plan.First(), activities.VerifyInput{Within: release.Duration(proxyLearns)})
}

// bake goes on looking, under traffic.
func (r *roller) bake(ctx workflow.Context) error {
	if r.in.Bake <= 0 {
		return nil
	}
	return r.look(ctx, release.Baking, r.in.Plan.First(), activities.VerifyInput{For: r.in.Bake})
}

// look verifies that plan was carried out, for as long as asked. What is unknown
// is a person's to decide.
func (r *roller) look(ctx workflow.Context, phase release.Phase, plan release.Plan, in activities.VerifyInput) error {
	for {
		r.enter(ctx, phase)
		in.Expectations = r.expectations(plan)
		var verdicts []release.Verdict
		err := r.awake(ctx, plan, func() (err error) {
			verdicts, err = r.verdicts(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		r.witnessed(plan, verdicts)
		if has(verdicts, release.Unhealthy) {
			return &unhealthy{phase, verdicts}
		}
		if !has(verdicts, release.Unknown) {
			return nil
		}
		err = r.hold(ctx, "", &unhealthy{phase, verdicts}, release.Retry, release.GoBack, release.Keep, release.Abandon)
		if err != nil {
			return err
		}
	}
}

func (r *roller) verdicts(ctx workflow.Context, in activities.VerifyInput) (verdicts []release.Verdict, err error) {
	long := time.Duration(in.For) + time.Duration(in.Within) + patience
	summary := "is every target of " + r.in.Plan.Environment + " as it should be?"
	look := waiting(ctx, summary, long)
	if in.For > 0 {
		look = watching(ctx, summary, long)
	}
	err = workflow.ExecuteActivity(look, act.Verify, in).Get(ctx, &verdicts)
	if err == nil {
		for i := range verdicts {
			verdicts[i].At = workflow.Now(ctx)
		}
		r.status.Environments[0].Verdicts = verdicts
	}
	return verdicts, err
}

func has(verdicts []release.Verdict, h release.Health) bool {
	return slices.ContainsFunc(verdicts, func(v release.Verdict) bool { return v.Health == h })
}

// unhealthy is a target that is bad, or of which nobody knows.
type unhealthy struct {
	phase    release.Phase
	verdicts []release.Verdict
}

func (e *unhealthy) Error() string {
	var said []string
	for _, v := range e.verdicts {
		if v.Health == release.Healthy || v.Health == release.Unchecked {
			continue
		}
		for _, f := range v.Failures {
			said = append(said, f.Error())
		}
	}
	return fmt.Sprintf("while %s: %s", e.phase, strings.Join(said, "; "))
}

// cleanUp carries out what can't be taken back. An abort comes too late for it:
// the new is good.
func (r *roller) cleanUp(ctx workflow.Context, plan release.Plan) error {
	if plan.Empty() {
		return nil
	}
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	for {
		r.enter(ctx, release.CleaningUp)
		err := r.execute(ctx, plan)
		if err == nil {
			return nil
		}
		err = r.hold(ctx, "the new is good, but the old could not be removed: ", err, release.Retry, release.Keep, release.Abandon)
		if errors.Is(err, errKeep) {
			r.note("what is left of the old stays, by word of %s", r.answer.By)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *roller) planRestore(ctx workflow.Context) (back activities.Restoration, err error) {
	in := activities.RestoreInput{
		Environment: r.in.Plan.Environment, Baselines: r.baselines, Goals: r.in.Plan.Goal(r.states), Overwrite: r.overwrite, Written: r.versions(),
	}
	if r.settles != "" {
		in.Found = r.states
	}
	err = workflow.ExecuteActivity(calling(ctx, "what is the way back?"), act.PlanRestore, in).Get(ctx, &back)
	r.others = back.Others
	return back, err
}

// mustBeBack compares with the baseline, machine by machine.
func (r *roller) mustBeBack(ctx workflow.Context) error {
	now, err := r.planRestore(ctx)
	if err != nil {
		return err
	}
	r.seen(now.States)
	if !now.Plan.Empty() && len(now.Differences) > 0 {
		return fmt.Errorf("it still differs: %s", strings.Join(now.Differences, "; "))
	}
	if verdicts, err := r.verdicts(ctx, r.asBefore()); err != nil {
		return err
	} else if has(verdicts, release.Unhealthy) || has(verdicts, release.Unknown) {
		return &unhealthy{release.RollingBack, verdicts}
	}
	r.status.Notes = append(r.status.Notes, now.Recreated...)
	r.status.Notes = append(r.status.Notes, r.irreparable(now.States)...)
	for _, d := range now.Differences {
		r.note("not touched: %s", d)
	}
	return nil
}

// irreparable is what a rollback can't bring back, a sentence each.
func (r *roller) irreparable(now []release.State) (notes []string) {
	changed := func(t release.Target) bool {
		return slices.ContainsFunc(r.in.Plan.Targets, func(p release.TargetPlan) bool { return p.Target == t && p.Changed })
	}
	notes = release.SecretsKept(r.baselines, now, changed)
	for _, c := range r.status.Environments[0].Commands {
		notes = append(notes, fmt.Sprintf("the release command of %s ran (%s, exit code %d): what it changed in a database is not taken back", c.Target, c.Command, c.ExitCode))
	}
	if len(notes) == 0 && r.ranCommand {
		notes = append(notes, "a release command was started: what it changed in a database is not taken back")
	}
	return append(notes, release.VolumesMade(r.baselines, now)...)
}

// asBefore is what every target should be once its baseline is back: on its
// configs, and as healthy as it was. A machine that was not well before the
// rollout need not be well after it.
func (r *roller) asBefore() (in activities.VerifyInput) {
	for _, b := range r.baselines {
		goal := b.State
		goal.Machines = slices.Clone(goal.Machines)
		for i, m := range goal.Machines {
			if !m.Healthy() {
				goal.Machines[i].State = ""
			}
		}
		expected := activities.Expectation{Goal: goal.AtLeast(r.written[goal.FlyApp]), Before: true, Back: true}
		if b.WasWell() {
			expected.Probe = b.Probe
		}
		in.Expectations, in.Within = append(in.Expectations, expected), max(in.Within, b.Wait, release.Duration(proxyLearns))
	}
	return in
}

// proxyLearns is how long Fly's proxy may take to know of a machine.
const proxyLearns = 30 * time.Second

// stop ends a rollout that changed nothing.
func (r *roller) stop(ctx workflow.Context, cause error) (*release.Report, error) {
	return r.finish(ctx, release.Stopped, cause)
}

// stale ends a rollout whose plan no longer fits. Nothing was changed.
func (r *roller) stale(ctx workflow.Context, why string) (*release.Report, error) {
	report, err := r.stop(ctx, fmt.Errorf("%w: %s", release.ErrPlanStale, why))
	if report != nil {
		report.Stale = why
	}
	return report, err
}

// isBack ends a rollout whose baseline is back. Where a host had no room for the
// new version of a machine, the release may plan again without it.
func (r *roller) isBack(ctx workflow.Context, cause error) (*release.Report, error) {
	report, err := r.finish(ctx, release.RolledBack, cause)
	var f release.Failure
	failed := applicationError(cause)
	if report != nil && failed != nil && failed.Type() == release.KindNoRoom && failed.Details(&f) == nil && !errors.Is(cause, errGoBack) {
		report.Stale, report.NoRoom = f.Error(), []string{f.Machine}
	}
	return report, err
}

// giveUp ends a rollout as a person said: kept as it is, or stranded.
func (r *roller) giveUp(ctx workflow.Context, cause error) (*release.Report, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if errors.Is(cause, errKeep) {
		return r.finish(ctx, release.Kept, cause)
	}
	lines, noted := r.whatIsWhat(ctx), len(r.status.Notes)
	if _, err := r.finish(ctx, "", cause); err != nil {
		return nil, err
	}
	lines = append(lines, r.status.Notes[noted:]...) // there is no report with the notes of what is left
	return nil, temporal.NewNonRetryableApplicationError(
		fmt.Sprintf("%s is stranded: %s\n%s", r.in.Plan.Environment, r.status.Cause.Message, strings.Join(lines, "\n")), release.KindStranded, nil)
}

// finish ends the rollout with a look at what runs now.
func (r *roller) finish(ctx workflow.Context, outcome release.Outcome, cause error) (*release.Report, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	r.fail(cause)
	r.status.Environments[0].Outcome = outcome
	closed := r.letGo(ctx, outcome, cause)
	var after []release.Baseline
	if outcome == release.Promoted || outcome == release.Restored {
		if states, err := r.observe(ctx); err == nil {
			after = r.in.Plan.Baselines(states)
			r.seen(states)
		} else { // it was verified: that the last look fails does not undo that
			r.note("what %s runs now could not be read, so that a rollback to it will not be possible: %s", r.in.Plan.Environment, plain(err))
		}
	}
	closed()
	report, err := r.close(ctx, outcome)
	if report != nil {
		report.Before, report.After = r.baselines, after
		report.Settles = r.settles
		report.Gate, report.Head, report.HeadBefore = r.in.Gate, r.headAfter(outcome), r.headBefore()
	}
	return report, err
}
