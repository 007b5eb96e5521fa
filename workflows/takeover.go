package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// letEnd is longer than the time in which an activity notices that its workflow
// is closed, and sees through what it had sent.
const letEnd = 15 * time.Second

// takeOver settles what a rollout without a report left. It holds the lock, so
// that no other release changes the environment before a person has decided:
// plan again, roll back, keep or abandon. An abort means rollback.
func (r *roller) takeOver(ctx workflow.Context) (*release.Report, error) {
	apart, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if err := r.lease(apart); err != nil { // each change takes its own then
		r.leases.lost = err
		r.note("the machines of %s could not be leased: %s", r.in.Plan.Environment, plain(err))
	}
	start, err := r.readPredecessor(apart)
	if err != nil {
		start.Unread = plain(err)
	}
	lost := r.lostBefore(start)
	r.closeLeft(apart, start.Left)
	if start.Since != nil {
		return r.overtaken(apart, *start.Since, lost)
	}
	r.inherit(apart, start.Before)
	r.fail(lost)
	for {
		answer := r.hold(ctx, "", lost, r.takeOverChoices()...)
		switch {
		case answer == nil:
			return r.stale(apart, plain(lost))
		case gaveUp(answer):
			return r.giveUp(apart, answer)
		case r.knowsBaseline():
			return r.takeBack(apart, start.Before, lost)
		}
		r.in.Aborted, ctx = true, apart // and there is no baseline to go back to
	}
}

// readPredecessor reads the history of the rollout that r follows, once what its
// activities had in hand is seen through or has ended with their next heartbeat.
func (r *roller) readPredecessor(ctx workflow.Context) (start activities.Start, err error) {
	if err := workflow.NewTimerWithOptions(ctx, letEnd, workflow.TimerOptions{Summary: "Let its last changes end"}).Get(ctx, nil); err != nil {
		return start, err
	}
	err = workflow.ExecuteActivity(calling(ctx, "Read the history of the rollout before"), act.RecordBaseline,
		activities.StartInput{Follows: r.in.Follows}).Get(ctx, &start)
	return start, err
}

// lostBefore returns how the rollout that r follows ended, and what was tried since.
func (r *roller) lostBefore(start activities.Start) error {
	why := r.status.ID + " ended without a report"
	switch {
	case start.Since != nil:
		why = start.Since.Lost
	case start.Before != nil:
		why = start.Before.Why
	case start.Unread != "":
		why += ", and its history could not be read: " + start.Unread
	}
	if r.in.Tried != "" {
		why += "; then: " + r.in.Tried
	}
	return errors.New(why)
}

// inherit takes over plan and baseline of the rollout before this one, and cleans
// up what that left on Fly.
func (r *roller) inherit(ctx workflow.Context, before *activities.Unreported) {
	if before == nil {
		return
	}
	r.in.Plan, r.states, r.baselines, r.settles = before.Plan, before.States, before.Baselines, before.Run
	r.status.Plan = &r.in.Plan
	r.status.Environments[0].Plan, r.status.Environments[0].Targets = before.Plan.Hash, targetsOf(before.Plan, before.States)
	left := before.Close
	left.Woken = nil
	for _, w := range before.Close.Woken { // its leases are this rollout's now
		w.Holder, w.Nonce = r.holder(), r.nonce(w.Step)
		left.Woken = append(left.Woken, w)
	}
	r.closeBefore(ctx, left)
}

func (r *roller) knowsBaseline() bool { return len(r.baselines) > 0 }

// takeOverChoices returns what a person can choose. A release that was aborted can't
// plan again.
func (r *roller) takeOverChoices() (choices []release.Choice) {
	if !r.in.Aborted {
		choices = append(choices, release.Retry)
	}
	if r.knowsBaseline() {
		choices = append(choices, release.GoBack)
	}
	return append(choices, release.Keep, release.Abandon)
}

// takeBack restores the baseline of a rollout that ended without a report, as
// that one would have done.
func (r *roller) takeBack(ctx workflow.Context, before *activities.Unreported, cause error) (*release.Report, error) {
	r.opened.Secrets, r.opened.Addresses = before.Opened.Secrets, before.Opened.Addresses
	r.begun, r.ranCommand = true, before.RanCommand
	return r.rollback(ctx, cause)
}

// overtaken ends a takeover that came too late: another rollout has changed the
// environment since, and followed the same baseline.
func (r *roller) overtaken(ctx workflow.Context, since activities.Since, lost error) (*release.Report, error) {
	outcome := release.Superseded
	if since.Outcome == release.RolledBack || since.Outcome == release.Restored {
		outcome = release.RolledBack
	}
	return r.finish(ctx, outcome, fmt.Errorf("%w; since then %s has changed %s (%s)", lost, since.Release, r.in.Plan.Environment, since.Outcome))
}
