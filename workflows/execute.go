package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// carryOut does the steps of one wave: in each lane so many at a time, and
// never in lock-step. With strict, the first failure ends those in flight, and
// what has not begun does not begin.
func (r *roller) carryOut(ctx workflow.Context, wave release.Wave, strict bool) error {
	flight, end := workflow.WithCancel(ctx)
	defer end()
	steps := workflow.NewWaitGroup(ctx)
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

// apply carries out one step.
func (r *roller) apply(ctx workflow.Context, step release.Step) error {
	r.begun = true
	r.machine(ctx, step, release.Doing)
	var after release.Machine
	err := workflow.ExecuteActivity(
		waiting(ctx, step.String(), time.Duration(step.Wait)), act.ApplyStep,
		activities.StepInput{Step: step, Stamp: r.stamp()},
	).Get(ctx, &after)
	if err != nil {
		r.machine(ctx, step, release.Failed)
		return err
	}
	r.done(ctx, step, after)
	return nil
}

// settle gives what a wave changed time to be seen.
func (r *roller) settle(ctx workflow.Context, wave release.Wave) error {
	if wave.Settle <= 0 {
		return nil
	}
	return workflow.NewTimerWithOptions(ctx, time.Duration(wave.Settle), workflow.TimerOptions{
		Summary: wave.Title + ": settle",
	}).Get(ctx, nil)
}

// stamp says, on every machine that is changed, by which release it was.
func (r *roller) stamp() map[string]string {
	return map[string]string{
		release.MetaRelease:  r.in.Release,
		release.MetaRevision: r.in.Revision.Commit,
	}
}
