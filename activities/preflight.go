package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// PreflightInput names the apps and environments of a release.
type PreflightInput struct {
	Project      release.Project `json:"project"`
	Environments []string        `json:"environments"`
	Apps         []string        `json:"apps"`
}

// Preflight checks, before any test or build, that Fly has what the release needs:
// apps, a token for them, secrets. It fails with KindPreflight and all missing things
// at once. It changes nothing.
func (a *Activities) Preflight(ctx context.Context, in PreflightInput) error {
	ctx, stop := a.beginAttempt(ctx)
	defer stop()
	targets, err := in.listTargets()
	if err != nil {
		return permanentError(release.KindConfig, err)
	}
	missing := make([][]string, len(targets))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(driver.ConcurrentTargets)
	for i, t := range targets {
		app, _ := in.Project.App(t.Target.App)
		g.Go(func() (err error) {
			missing[i], err = missingAtFly(all, a.Fly, app, t)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return classifyError(ctx, err)
	}
	if all := slices.Concat(missing...); len(all) > 0 {
		return permanentError(release.KindPreflight, errors.New(strings.Join(all, "\n")))
	}
	return nil
}

// listTargets returns the targets of the release.
func (in PreflightInput) listTargets() (targets []release.TargetFile, err error) {
	for _, name := range in.Environments {
		env, err := in.Project.Environment(name)
		if err != nil {
			return nil, err
		}
		for _, t := range env.Targets {
			if slices.Contains(in.Apps, t.Target.App) {
				targets = append(targets, t)
			}
		}
	}
	return targets, nil
}

// An appReader reads a Fly app and its secrets.
type appReader interface {
	App(ctx context.Context, app string) (fly.App, error)
	Secrets(ctx context.Context, app string) ([]fly.Secret, error)
}

// missingAtFly returns what a target lacks, one sentence each. It returns an error if
// Fly cannot be read.
func missingAtFly(ctx context.Context, f appReader, app release.App, t release.TargetFile) (missing []string, err error) {
	switch _, err := driver.RetryRead(ctx, func() (fly.App, error) { return f.App(ctx, t.FlyApp) }); {
	case errors.Is(err, fly.ErrUnauthorized):
		return []string{fmt.Sprintf("%s: the worker's token does not open Fly app %s: %v; give it one that does in FLY_API_TOKEN", t.Target, t.FlyApp, err)}, nil
	case errors.Is(err, fly.ErrNotFound):
		return []string{fmt.Sprintf("%s: there is no Fly app %s; create it with: fly apps create %s", t.Target, t.FlyApp, t.FlyApp)}, nil
	case err != nil:
		return nil, err
	}
	if len(app.Secrets) == 0 {
		return nil, nil
	}
	have, err := driver.RetryRead(ctx, func() ([]fly.Secret, error) { return f.Secrets(ctx, t.FlyApp) })
	if err != nil {
		return nil, err
	}
	for _, name := range app.Secrets {
		if !slices.ContainsFunc(have, func(s fly.Secret) bool { return s.Name == name }) {
			missing = append(missing, fmt.Sprintf("%s: secret %s is not set; set it with: fly secrets set --stage -a %s %s=…", t.Target, name, t.FlyApp, name))
		}
	}
	return missing, nil
}
