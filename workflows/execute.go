package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// executeWave executes the steps of one wave. Each lane runs at most MaxConcurrent
// steps at a time and starts the next one as soon as one ends. With strict, the first
// failure cancels the running steps and no other step starts.
func (r *rolloutRun) executeWave(ctx workflow.Context, wave release.Wave, strict bool) error {
	stepsCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	steps, bytesInFlight := workflow.NewWaitGroup(ctx), workflow.NewSemaphore(ctx, maxBytesInFlight)
	var failed []error
	for _, lane := range wave.Lanes {
		slots := workflow.NewSemaphore(ctx, int64(lane.MaxConcurrent))
		for _, step := range lane.Steps {
			steps.Add(1)
			workflow.Go(stepsCtx, func(ctx workflow.Context) {
				defer steps.Done()
				if slots.Acquire(ctx, 1) != nil {
					return // the wave was canceled
				}
				defer slots.Release(1)
				if bytesInFlight.Acquire(ctx, stepSize(step)) != nil {
					return
				}
				defer bytesInFlight.Release(stepSize(step))
				if ctx.Err() != nil {
					return // the cancellation freed the slot
				}
				if err := r.applyStep(ctx, step); err != nil {
					failed = append(failed, err)
					if strict {
						cancel()
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
		return failed[0] // the others were canceled because of it
	}
	return errors.Join(failed...)
}

// maxBytesInFlight is the maximum total size of the steps in flight, in bytes, for all
// lanes together. It keeps the commands of one workflow task below the 4 MB of a gRPC
// message, and the pending activities below Temporal's limit of 2,000.
const maxBytesInFlight = 3 << 20

// stepSize returns the bytes of maxBytesInFlight that a step takes: at least 2 kB, so
// that at most 1,536 steps are in flight.
func stepSize(step release.Step) int64 {
	size := 2<<10 + len(step.After.Doc)
	for _, check := range step.MachineChecks {
		size += len(check)
	}
	return int64(min(size, maxBytesInFlight))
}

// applyStep executes one step and records its result.
func (r *rolloutRun) applyStep(ctx workflow.Context, step release.Step) error {
	r.hasBegun = true
	r.ranCommand = r.ranCommand || step.Verb == release.Run
	r.recordProgress(ctx, step, r.machineStatus(step), release.ProgressRunning)
	var after activities.StepResult
	err := workflow.ExecuteActivity(
		withStepOptions(ctx, step.String(), time.Duration(step.Wait)*time.Duration(1+len(step.MachineChecks))), act.ApplyStep,
		r.newStepInput(step),
	).Get(ctx, &after)
	r.recordCommand(ctx, step, after, err)
	r.recordWritten(step, after.Machine, err)
	if err != nil {
		r.recordProgress(ctx, step, r.machineStatus(step), release.ProgressFailed)
		if r.failedTargets != nil {
			r.failedTargets[step.Target] = true
		}
		return err
	}
	r.recordHealthyStep(step, after.Machine)
	r.recordStepDone(ctx, step, after.Machine)
	return nil
}

// recordCommand records the result of a release command, also if it failed.
func (r *rolloutRun) recordCommand(ctx workflow.Context, step release.Step, after activities.StepResult, err error) {
	if step.Verb != release.Run {
		return
	}
	var f release.Failure
	if after.Ran != nil {
		r.record(ctx, release.CommandRan(*after.Ran))
	} else if failed := findApplicationError(err); failed != nil && failed.HasDetails() && failed.Details(&f) == nil && f.ExitCode != nil {
		r.record(ctx, release.CommandRan(release.CommandResult{Target: step.Target, Command: step.Command, Machine: f.Machine, ExitCode: *f.ExitCode, Log: f.Log}))
	}
}

// settleWave waits for the settle time of wave i, so that its effects become visible.
// If the wave has VerifyWhileSettling set, it verifies the targets meanwhile.
func (r *rolloutRun) settleWave(ctx workflow.Context, plan release.Plan, i int) error {
	wave := plan.Waves[i]
	switch {
	case wave.Settle <= 0:
		return nil
	case wave.VerifyWhileSettling:
		return r.verifyPlan(ctx, release.Baking, plan.Through(i), activities.VerifyInput{For: wave.Settle})
	}
	return workflow.NewTimerWithOptions(ctx, time.Duration(wave.Settle), workflow.TimerOptions{
		Summary: view.Summary(wave.Title + ": settle"),
	}).Get(ctx, nil)
}

// isWaveDone reports whether wave i of plan was executed.
func (r *rolloutRun) isWaveDone(plan release.Plan, i int) bool {
	return r.wavesDone[plan.Waves[i].Irreversible] > i
}

// markWaveDone records that wave i of plan was executed.
func (r *rolloutRun) markWaveDone(plan release.Plan, i int) {
	r.wavesDone[plan.Waves[i].Irreversible] = i + 1
}
