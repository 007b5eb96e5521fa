package workflows

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// A groupKey names one group of one target.
type groupKey struct {
	target release.Target
	group  string
}

// recordHealthyStep records that the machine of step ran the planned version and passed
// its checks.
func (r *rolloutRun) recordHealthyStep(step release.Step, m release.Machine) {
	if m.IsHealthy() && (step.Verb == release.Create || step.Verb == release.Update) {
		r.provenGroups[groupKey{step.Target, step.Group}] = true
	}
}

// recordHealthyGroups records which of the groups that plan changes had a running
// machine, for targets with a healthy verdict.
func (r *rolloutRun) recordHealthyGroups(plan release.Plan, verdicts []release.Verdict) {
	for _, goal := range r.goalStates(plan) {
		i := slices.IndexFunc(verdicts, func(v release.Verdict) bool { return v.Target == goal.Target && v.Health == release.Healthy })
		if i < 0 {
			continue
		}
		for _, g := range r.changedGroups(plan, goal) {
			if !slices.Contains(verdicts[i].Idle, g) {
				r.provenGroups[groupKey{goal.Target, g}] = true
			}
		}
	}
}

// provenGroupsOf returns the groups of a goal that plan changes and of which a machine
// ran and passed.
func (r *rolloutRun) provenGroupsOf(plan release.Plan, goal release.State) []string {
	return slices.DeleteFunc(r.changedGroups(plan, goal), func(g string) bool { return !r.provenGroups[groupKey{goal.Target, g}] })
}

// withSleepersStarted calls verify while one machine runs in each group that plan
// changes and that has had no running machine so far, because all were stopped. It
// stops these machines again afterwards, also if verify fails. If a start fails without
// an answer, it stops only machines that were planned to be stopped.
func (r *rolloutRun) withSleepersStarted(ctx workflow.Context, plan release.Plan, verify func() error) error {
	steps := plan.VerificationStarts(r.goalStates(plan), r.resumedMachines(), func(t release.Target, g string) bool { return r.provenGroups[groupKey{t, g}] })
	var started []release.Step
	var firstErr error
	starts := workflow.NewWaitGroup(ctx)
	for _, step := range steps {
		starts.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer starts.Done()
			var woken activities.StartedMachine
			err := workflow.ExecuteActivity(withWaitOptions(ctx, "Start "+step.Machine+" of "+step.Target.String()+" for verification", time.Duration(step.Wait)),
				act.Wake, r.newStepInput(step)).Get(ctx, &woken)
			if woken.Started || err != nil && step.SkipLaunch {
				started = append(started, step)
			}
			if err != nil && firstErr == nil {
				firstErr = err
			}
		})
	}
	starts.Wait(ctx)
	if firstErr == nil {
		firstErr = verify()
	}
	r.stopMachines(ctx, started)
	return firstErr
}

// findLeftAwake returns the steps of woken whose machines run now and were stopped
// before the first change: the previous rollout started them for verification.
func (r *rolloutRun) findLeftAwake(woken []activities.StepInput) (steps []release.Step) {
	for _, w := range woken {
		id := cmp.Or(w.ID, w.Step.Machine)
		runs := func(s release.State) bool {
			m, ok := s.FindMachine(id)
			return ok && s.FlyApp == w.Step.FlyApp && m.IsRunning()
		}
		if slices.ContainsFunc(r.states, runs) && !slices.ContainsFunc(release.BaselineStates(r.baselines), runs) {
			step := w.Step
			step.Machine = id
			steps = append(steps, step)
		}
	}
	return steps
}

// stopMachines stops machines that were started for verification. A failure is a note:
// the machines run the planned version, and Fly's proxy stops idle ones.
func (r *rolloutRun) stopMachines(ctx workflow.Context, steps []release.Step) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	stops := workflow.NewWaitGroup(ctx)
	for _, step := range steps {
		stops.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer stops.Done()
			step.Verb = release.Stop
			err := workflow.ExecuteActivity(withWaitOptions(ctx, "Stop "+step.Machine+" of "+step.Target.String()+" after verification", time.Duration(step.Wait)),
				act.ApplyStep, r.newStepInput(step)).Get(ctx, nil)
			if err != nil {
				r.record(ctx, release.MachineLeftAwake(step.Target, step.Machine, fmt.Sprintf(
					"machine %s of %s was started for verification and could not be stopped again: %s", step.Machine, step.Target, errorMessage(err))))
			}
		})
	}
	stops.Wait(ctx)
}

// newStepInput returns the input of an activity that executes step.
func (r *rolloutRun) newStepInput(step release.Step) activities.StepInput {
	step.Before = release.Config{} // the activity reads the machine itself
	return activities.StepInput{
		Step: step, Stamp: r.machineStamp(step), Holder: r.leaseHolder(), Nonce: r.leaseNonce(step), Secrets: r.opened.Secrets[step.FlyApp], Retries: r.retries,
		ID: r.written[step.FlyApp][step.Machine].ID, Written: r.written[step.FlyApp][step.Machine].Version,
	}
}
