package workflows

import (
	"cmp"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// A groupKey is one group of one target.
type groupKey struct {
	target release.Target
	group  string
}

// witness records that the machine of step ran what the plan leads to, and passed.
func (r *roller) witness(step release.Step, m release.Machine) {
	if m.Healthy() && (step.Verb == release.Create || step.Verb == release.Update) {
		r.witnesses[groupKey{step.Target, step.Group}] = true
	}
}

// witnessed records which of the groups that plan changes ran, for targets that
// were just found to be as they should be.
func (r *roller) witnessed(plan release.Plan, verdicts []release.Verdict) {
	for _, goal := range r.goal(plan) {
		i := slices.IndexFunc(verdicts, func(v release.Verdict) bool { return v.Target == goal.Target && v.Health == release.Healthy })
		if i < 0 {
			continue
		}
		for _, g := range r.changedGroups(plan, goal) {
			if !slices.Contains(verdicts[i].Idle, g) {
				r.witnesses[groupKey{goal.Target, g}] = true
			}
		}
	}
}

// ranOf returns the groups of a goal that plan changes and of which a machine ran
// and passed.
func (r *roller) ranOf(plan release.Plan, goal release.State) []string {
	return slices.DeleteFunc(r.changedGroups(plan, goal), func(g string) bool { return !r.witnesses[groupKey{goal.Target, g}] })
}

// awake calls look while one machine runs of each group that plan changes and of
// which none has run so far, because all were stopped. They are stopped again
// afterwards, however look ends. A machine that should run is not stopped where
// nobody knows whether it did.
func (r *roller) awake(ctx workflow.Context, plan release.Plan, look func() error) error {
	steps := plan.Sleepers(r.goal(plan), r.resumed(), func(t release.Target, g string) bool { return r.witnesses[groupKey{t, g}] })
	var started []release.Step
	var failed error
	waking := workflow.NewWaitGroup(ctx)
	for _, step := range steps {
		waking.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer waking.Done()
			var woken activities.Woken
			err := workflow.ExecuteActivity(waiting(ctx, "start "+step.Machine+" of "+step.Target.String()+" for a look", time.Duration(step.Wait)),
				act.Wake, r.stepInput(step)).Get(ctx, &woken)
			if woken.Started || err != nil && step.Idle {
				started = append(started, step)
			}
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	waking.Wait(ctx)
	if failed == nil {
		failed = look()
	}
	r.putBack(ctx, started)
	return failed
}

// leftAwake returns those steps whose machines run and did not before the first
// change: the rollout before this one started them for a look.
func (r *roller) leftAwake(woken []activities.StepInput) (steps []release.Step) {
	for _, w := range woken {
		id := cmp.Or(w.ID, w.Step.Machine)
		runs := func(s release.State) bool {
			m, ok := s.Machine(id)
			return ok && s.FlyApp == w.Step.FlyApp && m.Running()
		}
		if slices.ContainsFunc(r.states, runs) && !slices.ContainsFunc(release.States(r.baselines), runs) {
			step := w.Step
			step.Machine = id
			steps = append(steps, step)
		}
	}
	return steps
}

// putBack stops the machines that were started for a look. A failure is a note:
// what runs is what is wanted, and Fly's proxy stops what nobody needs.
func (r *roller) putBack(ctx workflow.Context, steps []release.Step) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	stopping := workflow.NewWaitGroup(ctx)
	for _, step := range steps {
		stopping.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer stopping.Done()
			step.Verb = release.Stop
			err := workflow.ExecuteActivity(waiting(ctx, "stop "+step.Machine+" of "+step.Target.String()+" after the look", time.Duration(step.Wait)),
				act.ApplyStep, r.stepInput(step)).Get(ctx, nil)
			if err != nil {
				r.note("machine %s of %s was started for a look and could not be stopped again: %s", step.Machine, step.Target, plain(err))
			}
		})
	}
	stopping.Wait(ctx)
}

// stepInput is the input of an activity that carries out step.
func (r *roller) stepInput(step release.Step) activities.StepInput {
	step.Before = nil // whoever changes a machine looks at it first
	return activities.StepInput{
		Step: step, Stamp: r.stamp(step), Holder: r.holder(), Nonce: r.nonce(step), Secrets: r.opened.Secrets[step.FlyApp], Retries: r.again,
		ID: r.written[step.FlyApp][step.Machine].ID,
	}
}
