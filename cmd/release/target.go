package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// past returns what a rollback of an environment goes back to, as the histories
// in Temporal tell it. The error is an *activities.NoPastStateError where there is
// nothing to go back to.
func (s *server) past(ctx context.Context, project *release.Project, back release.Rollback) (activities.PastState, error) {
	env, err := project.Environment(back.Environment)
	if err != nil {
		return activities.PastState{}, usage("%v", err)
	}
	in := activities.BaselineInput{Project: project.Name, Rollback: back}
	for _, t := range env.Targets {
		in.Targets = append(in.Targets, activities.TargetRef{Target: t.Target, FlyApp: t.FlyApp})
	}
	call, cancel := context.WithTimeout(ctx, 4*dialLimit)
	defer cancel()
	past, err := activities.FindPastState(call, s, in)
	if nothing := new(activities.NoPastStateError); err != nil && !errors.As(err, &nothing) {
		err = s.said(ctx, "read what "+back.Environment+" ran before", err)
	}
	return past, err
}

// preview returns the plan that leads from the running machines to past, as far
// as Fly can be read from here.
func (p place) preview(ctx context.Context, environment string, past activities.PastState) (release.Plan, error) {
	states := make([]release.State, len(past.Baselines))
	looks, all := errgroup.WithContext(ctx)
	looks.SetLimit(driver.ConcurrentTargets)
	for i, b := range past.Baselines {
		looks.Go(func() (err error) {
			states[i], err = driver.ObserveTarget(all, p, driver.TargetRef{Target: b.State.Target, FlyApp: b.State.FlyApp})
			return err
		})
	}
	if err := looks.Wait(); err != nil {
		return release.Plan{}, err
	}
	plan := release.Restore(environment, past.Baselines, states, nil, nil)
	plan.Lineage.Running = release.RunningRevisions(states)
	return plan, nil
}

// show writes what a rollback will do: the State that it goes back to, and the
// plan.
func (c rollback) show(ctx context.Context, src source, past activities.PastState) {
	c.say("%s", aim(c.environment, past))
	for _, note := range past.Notes {
		c.say("  %s", note)
	}
	call, cancel := context.WithTimeout(ctx, previewLimit)
	defer cancel()
	plan, err := c.fly().preview(call, c.environment, past)
	if err != nil {
		c.say("  the plan is made by a worker; from here Fly cannot be read: %s", flySaid(err))
		for _, b := range past.Baselines {
			c.say("  %s", view.Aim(b.State))
		}
		return
	}
	if taken := src.takenAway(ctx, past, plan.Lineage.Running).TakenAway(); taken != "" {
		c.say("  %s", taken)
	}
	fmt.Fprint(c.stderr, view.Plan(plan, c.style(c.stderr)))
}

// previewLimit keeps an emergency from waiting for a Fly that does not answer.
const previewLimit = 3 * time.Second

// aim is what a rollback goes back to, in a line.
func aim(environment string, past activities.PastState) string {
	line := environment + " goes back to"
	if past.Revision.Commit != "" {
		line += " " + subject(past.Revision) + ":"
	}
	return strings.TrimSpace(line + " " + past.Text)
}
