package workflows

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// An unreported error is a rollout that ended without a report: terminated,
// timed out or failed. What it left is not known.
type unreported struct {
	run  string // its run ID
	plan release.Plan
	err  error
	// What its history tells; nil until it is read.
	left *activities.Unreported
}

func (e *unreported) Error() string {
	if e.left != nil {
		return e.left.Why
	}
	return "the rollout ended without a report: " + plain(e.err)
}

// isUnreported reports whether a child's error means that it ended without a
// report. A stranded rollout has reported, and one that was canceled before it
// began has changed nothing.
func isUnreported(err error) bool {
	if err == nil || temporal.IsCanceledError(err) {
		return false
	}
	failed := applicationError(err)
	return failed == nil || failed.Type() != release.KindStranded
}

// isBroken reports whether err leaves the environment as a rollout without a
// report left it: neither promoted, nor brought back, nor given up on.
func (r *releaser) isBroken(err error) bool {
	var lost *unreported
	if errors.As(err, &lost) {
		r.broken = lost
		return true
	}
	var in *ended
	if r.broken == nil || err == nil || errors.Is(err, release.ErrPlanStale) {
		return false
	}
	if failed := applicationError(err); failed != nil && failed.Type() == release.KindStranded {
		return false
	}
	return !errors.As(err, &in) || in.report.Outcome.ChangedNothing()
}

// isSettled reports whether what env runs is what a rollout left that ended with a
// report. Otherwise nobody has looked at it, and a rollout does even if its plan is
// empty. It cleans up what rollouts without a report left that changed nothing.
func (r *releaser) isSettled(ctx workflow.Context, env release.Environment) (bool, error) {
	if r.broken != nil {
		return false, nil
	}
	var remains activities.Remains
	err := workflow.ExecuteActivity(calling(ctx, "Read how the last rollout of "+env.Name+" ended"), act.ReadRemains, r.standingInput(env)).Get(ctx, &remains)
	if err != nil || remains.Unsettled {
		return false, err
	}
	r.closeLeft(ctx, remains.Left)
	return true, nil
}

// closeLeft cleans up what rollouts without a report that changed nothing left on
// Fly.
func (c *chronicle) closeLeft(ctx workflow.Context, left []activities.CloseInput) {
	for _, in := range left {
		err := workflow.ExecuteActivity(calling(ctx, "Clean up what an earlier rollout left on Fly"), act.CloseRollout, in).Get(ctx, nil)
		if err != nil {
			c.note("not all that an earlier rollout left on Fly could be removed (leases, Fly releases): %s", plain(err))
		}
	}
}

// follows returns the run ID of the rollout without a report that the next
// rollout follows, or "".
func (r *releaser) follows(env release.Environment) string {
	if r.broken == nil || r.broken.plan.Environment != env.Name {
		return ""
	}
	return r.broken.run
}

// resolve holds the release after its rollout ended without a report, until the
// environment is brought back, kept or given up, which it returns as an error,
// or is to be tried again, which is ErrPlanStale. why led to the question.
// An abort means rollback.
func (r *releaser) resolve(ctx workflow.Context, env release.Environment, why error) error {
	apart, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	for {
		lost := new(unreported)
		if errors.As(why, &lost) && ctx.Err() != nil { // an abort that came before is no answer to this
			ctx = apart
		}
		if err := r.readBroken(apart, env); err != nil {
			r.note("what %s left could not be read: %s", release.RolloutID(r.req.Project, env.Name), plain(err))
		}
		held := release.Held{Why: r.broken.Error(), Choices: r.broken.choices(), Machines: r.classify(apart)}
		if !errors.As(why, &lost) {
			held.Why += "; then: " + causeOf(why).Message
		}
		answer := r.ask(ctx, env.Name, held, errors.New(r.broken.Error()))
		if answer == nil {
			return release.ErrPlanStale
		}
		r.fail(r.broken)
		switch {
		case errors.Is(answer, errKeep):
			return r.keepBroken(apart, env)
		case errors.Is(answer, errAbandon):
			return r.abandonBroken(apart, env)
		case !r.broken.canGoBack(): // it was aborted
			ctx, why = apart, answer
			continue
		}
		why = r.rollout(apart, env, r.broken.plan, env.Gate, true)
		if !r.isBroken(why) {
			return why
		}
		ctx = apart
	}
}

// readBroken reads what the history of the rollout tells, and cleans up what it
// left on Fly: leases, Fly releases, machines of commands.
func (r *releaser) readBroken(ctx workflow.Context, env release.Environment) error {
	if r.broken.left != nil {
		return nil
	}
	r.enter(ctx, release.RollingOut, env.Name)
	// What its activities had in hand is seen through, or ends with their next
	// heartbeat.
	if err := workflow.NewTimerWithOptions(ctx, letEnd, workflow.TimerOptions{Summary: "Let its last changes end"}).Get(ctx, nil); err != nil {
		return err
	}
	var left activities.Unreported
	err := workflow.ExecuteActivity(calling(ctx, "Read the history of the rollout of "+env.Name), act.ReadRollout, activities.ReadInput{
		Rollout: release.RolloutID(r.req.Project, env.Name), Run: r.broken.run,
	}).Get(ctx, &left)
	if err != nil {
		return err
	}
	r.broken.left = &left
	if err := workflow.ExecuteActivity(calling(ctx, "Clean up what the rollout left on Fly"), act.CloseRollout, left.Close).Get(ctx, nil); err != nil {
		r.note("not all that the rollout left on Fly could be removed (leases, Fly releases, machines of commands): %s", plain(err))
	}
	return nil
}

// letEnd is longer than the time in which an activity notices that its workflow
// is closed, and sees through what it had sent.
const letEnd = 15 * time.Second

// canGoBack reports whether the baseline is known.
func (e *unreported) canGoBack() bool { return e.left != nil && len(e.left.Baselines) > 0 }

func (e *unreported) choices() []release.Choice {
	if !e.canGoBack() {
		return []release.Choice{release.Retry, release.Keep, release.Abandon}
	}
	return []release.Choice{release.Retry, release.GoBack, release.Keep, release.Abandon}
}

// classify says of every machine whether it is on the plan, on the baseline or
// on neither. What cannot be read is said to be unknown.
func (r *releaser) classify(ctx workflow.Context) []string {
	in := activities.ObserveInput{}
	for _, t := range r.broken.plan.Targets {
		in.Places = append(in.Places, activities.Place{Target: t.Target, FlyApp: t.FlyApp})
	}
	var now []release.State
	short := budget(ctx, release.TaskQueue, "Read machine state", time.Minute, 2*time.Minute)
	if err := workflow.ExecuteActivity(short, act.Observe, in).Get(ctx, &now); err != nil {
		return []string{"unknown: Fly could not be read: " + plain(err)}
	}
	if e := r.status.EnvironmentStatus(r.broken.plan.Environment); e != nil {
		e.Targets, e.Plan = targetsNow(r.broken.plan, now), r.broken.plan.Hash
		e.Rollout, e.Run = release.RolloutID(r.req.Project, e.Name), r.broken.run
	}
	if !r.broken.canGoBack() {
		return append(release.WhatIsWhat(r.broken.plan.Goal(now), nil, now), "what ran before is not known: the history of the rollout does not tell")
	}
	return release.WhatIsWhat(r.broken.plan.Goal(r.broken.left.States), release.States(r.broken.left.Baselines), now)
}

// keepBroken ends with the environment as it is, on purpose.
func (r *releaser) keepBroken(ctx workflow.Context, env release.Environment) error {
	r.classify(ctx)
	report := release.Report{Status: release.Status{Outcome: release.Kept, Cause: r.status.Cause}}
	if e := r.status.EnvironmentStatus(env.Name); e != nil {
		e.Outcome = release.Kept
	}
	r.status.Plan = nil
	return &ended{report}
}

// abandonBroken ends with the environment stranded.
func (r *releaser) abandonBroken(ctx workflow.Context, env release.Environment) error {
	return temporal.NewNonRetryableApplicationError(
		fmt.Sprintf("%s is stranded: %s\n%s", env.Name, r.status.Cause.Message, strings.Join(r.classify(ctx), "\n")), release.KindStranded, nil)
}
