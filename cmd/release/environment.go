package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/git"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// ofEnvironment shows what runs in one environment, its pin, and what a rollback
// goes back to. What cannot be read is said to be unknown.
func (c status) ofEnvironment(ctx context.Context, project *release.Project, env release.Environment) error {
	shown := view.Environment{Name: env.Name}
	var all sync.WaitGroup
	all.Go(func() { shown.Places = c.fly().observe(ctx, env.Targets) })
	if s, err := c.temporal(ctx); err != nil {
		shown.PinUnknown, shown.Rollback.Unknown = err.Error(), err.Error()
	} else {
		all.Go(func() { shown.Pin, shown.PinUnknown = s.pin(ctx, project.Name, env.Name) })
		all.Go(func() { shown.Rollback = s.wayBack(ctx, project, env.Name) })
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if target := shown.Rollback.Target; target != nil {
		target.Lineage = c.takenAway(ctx, target.Revision, shown.Places)
	}
	var err error
	if c.asJSON {
		err = c.json(shown)
	} else {
		_, err = fmt.Fprint(c.stdout, view.EnvironmentText(shown, c.now(), c.style(c.stdout)))
	}
	unknown := shown.PinUnknown != "" || shown.Rollback.Unknown != ""
	if unknown || slices.ContainsFunc(shown.Places, func(p view.Place) bool { return p.Unknown != "" }) {
		return &exit{code: exitFailed} // it is said where it is shown
	}
	return err
}

// pin returns the pin of an environment, or why it is not known.
func (s *server) pin(ctx context.Context, project, environment string) (pin *release.Pin, unknown string) {
	call, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	pin, err := activities.FindPin(call, s, activities.EnvironmentRef{Project: project, Environment: environment})
	if err != nil {
		return nil, s.said(ctx, "read the pin of "+environment, err).Error()
	}
	return pin, ""
}

// wayBack returns what a rollback of an environment goes back to, whether its
// images still exist, and until when history tells of it.
func (s *server) wayBack(ctx context.Context, project *release.Project, environment string) (back view.Back) {
	past, err := s.past(ctx, project, release.Rollback{Environment: environment})
	nothing := new(activities.NoPastStateError)
	switch {
	case errors.As(err, &nothing):
		return view.Back{Refused: nothing.Why}
	case err != nil:
		return view.Back{Unknown: err.Error()}
	case past.Busy:
		return view.Back{Busy: true}
	}
	back = view.Back{Target: &release.RestoredRevision{Revision: past.Revision}, Said: past.Text, Notes: past.Notes}
	kept, err := s.retention(ctx)
	switch {
	case err != nil:
		back.NoUntil = err.Error()
	case kept > 0:
		back.Kept, back.Until = release.Duration(kept), past.Closed.Add(kept)
	}
	back.Images = s.env.fly().imagesThere(ctx, past.Baselines)
	return back
}

// retention returns how long Temporal keeps the histories of closed workflows;
// 0 is without a limit.
func (s *server) retention(ctx context.Context) (time.Duration, error) {
	call, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	d, err := s.WorkflowService().DescribeNamespace(call, &workflowservice.DescribeNamespaceRequest{Namespace: s.namespace})
	if err != nil {
		return 0, s.said(ctx, "read the retention of namespace "+s.namespace, err)
	}
	return d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(), nil
}

// registryLimit is how long a registry may take to say whether it has an image.
const registryLimit = 10 * time.Second

// imagesThere asks the registries whether they have the images of baselines, each
// by its digest.
func (p place) imagesThere(ctx context.Context, baselines []release.Baseline) (images []view.ImageThere) {
	for _, b := range baselines {
		for _, m := range b.State.Machines {
			one := view.ImageThere{App: b.State.Target.App, Image: m.Image}
			if !slices.Contains(images, one) {
				images = append(images, one)
			}
		}
	}
	call, cancel := context.WithTimeout(ctx, registryLimit)
	defer cancel()
	registry := p.images()
	var all sync.WaitGroup
	for i := range images {
		all.Go(func() {
			there, err := registry.Exists(call, images[i].Image)
			if images[i].There = there; err != nil {
				images[i].Unknown = err.Error()
			}
		})
	}
	all.Wait()
	return images
}

// takenAway returns which commits a rollback takes away, as far as this clone and
// the running machines tell.
func (e *env) takenAway(ctx context.Context, restored release.Revision, places []view.Place) release.Lineage {
	var states []release.State
	for _, p := range places {
		states = append(states, p.State)
	}
	lineage := release.Lineage{Running: release.RunningRevisions(states)}
	if restored.Commit == "" || len(lineage.Running) == 0 {
		lineage.Why = "the machines do not say which revision they run or ran"
		return lineage
	}
	repo, err := git.Open(ctx, e.dir)
	if err == nil {
		var compared release.Lineage
		compared, err = repo.Lineage(ctx, restored.Commit, lineage.Running)
		lineage.Takes, lineage.Why = compared.Takes, compared.Why
	}
	if err != nil {
		lineage.Why = err.Error()
	}
	return lineage
}

// addPins adds to places the pins of their environments. Without Temporal they
// are not known, which is said.
func (e *env) addPins(ctx context.Context, project *release.Project, places []view.Place) {
	s, err := e.temporal(ctx)
	if err != nil {
		e.say("which environments are pinned is not known: %v", err)
		return
	}
	for _, environment := range project.Environments {
		pin, unknown := s.pin(ctx, project.Name, environment.Name)
		if unknown != "" {
			e.say("whether %s is pinned is not known: %s", environment.Name, unknown)
		}
		for i := range places {
			if places[i].State.Target.Environment == environment.Name {
				places[i].Pin = pin
			}
		}
	}
}
