package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// carryOut does the steps of one wave: in each lane so many at a time, and
// never in lock-step. With strict, the first failure ends those in flight, and
// what has not begun does not begin.
func (r *roller) carryOut(ctx workflow.Context, wave release.Wave, strict bool) error {
	flight, end := workflow.WithCancel(ctx)
	defer end()
	steps, room := workflow.NewWaitGroup(ctx), workflow.NewSemaphore(ctx, stepRoom)
	var failed []error
	for _, lane := range wave.Lanes {
		free := workflow.NewSemaphore(ctx, int64(lane.AtOnce))
		for _, step := range lane.Steps {
			steps.Add(1)
			workflow.Go(flight, func(ctx workflow.Context) {
				defer steps.Done()
				if free.Acquire(ctx, 1) != nil {
					return // the wave is over
				}
				defer free.Release(1)
				if room.Acquire(ctx, roomFor(step)) != nil {
					return
				}
				defer room.Release(roomFor(step))
				if ctx.Err() != nil {
					return // it ended just now, which is what freed the place
				}
				if err := r.apply(ctx, step); err != nil {
					failed = append(failed, err)
					if strict {
						end()
					}
				}
			})
		}
	}
	steps.Wait(ctx)
	switch {
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), errors.Join(failed...))
	case strict && len(failed) > 0:
		return failed[0] // the others were ended because of it
	}
	return errors.Join(failed...)
}

// stepRoom is how large the steps in flight may be together, in bytes, whatever
// their lanes allow. It keeps what one task of the workflow sends below the 4 MB of
// a gRPC message, and the activities that are pending below Temporal's 2,000.
const stepRoom = 3 << 20

// roomFor returns how much of stepRoom a step takes: at least 2 kB, so that at
// most 1,536 are in flight.
func roomFor(step release.Step) int64 {
	size := 2<<10 + len(step.After)
	for _, check := range step.MachineChecks {
		size += len(check)
	}
	return int64(min(size, stepRoom))
}

// apply carries out one step.
func (r *roller) apply(ctx workflow.Context, step release.Step) error {
	r.begun = true
	r.ranCommand = r.ranCommand || step.Verb == release.Run
	r.machine(ctx, step, release.Doing)
	var after activities.StepResult
	err := workflow.ExecuteActivity(
		stepping(ctx, step.String(), time.Duration(step.Wait)*time.Duration(1+len(step.MachineChecks))), act.ApplyStep,
		r.stepInput(step),
	).Get(ctx, &after)
	r.ran(step, after, err)
	r.wrote(step, after.Machine, err)
	if err != nil {
		r.machine(ctx, step, release.Failed)
		if r.stuck != nil {
			r.stuck[step.Target] = true
		}
		return err
	}
	r.witness(step, after.Machine)
	r.done(ctx, step, after.Machine)
	return nil
}

// ran keeps how a release command ended.
func (r *roller) ran(step release.Step, after activities.StepResult, err error) {
	if step.Verb != release.Run {
		return
	}
	commands := &r.status.Environments[0].Commands
	var f release.Failure
	if after.Ran != nil {
		*commands = append(*commands, *after.Ran)
	} else if failed := applicationError(err); failed != nil && failed.HasDetails() && failed.Details(&f) == nil && f.ExitCode != nil {
		*commands = append(*commands, release.CommandResult{Target: step.Target, Command: step.Command, Machine: f.Machine, ExitCode: *f.ExitCode, Log: f.Log})
	}
}

// settle gives what a wave changed time to be seen, or watches it meanwhile.
func (r *roller) settle(ctx workflow.Context, plan release.Plan, i int) error {
	wave := plan.Waves[i]
	switch {
	case wave.Settle <= 0:
		return nil
	case wave.Watch:
		return r.look(ctx, release.Baking, plan.Until(i), activities.VerifyInput{For: wave.Settle})
	}
	return workflow.NewTimerWithOptions(ctx, time.Duration(wave.Settle), workflow.TimerOptions{
		Summary: view.Summary(wave.Title + ": settle"),
	}).Get(ctx, nil)
}

// isOver says whether the wave was carried out, and over that it was.
func (r *roller) isOver(plan release.Plan, i int) bool { return r.waves[plan.Waves[i].Last] > i }

func (r *roller) over(plan release.Plan, i int) { r.waves[plan.Waves[i].Last] = i + 1 }
