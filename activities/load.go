package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/config"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A Source is a commit and where it is fetched from.
type Source struct {
	Repository string           `json:"repository"`
	Revision   release.Revision `json:"revision"`
}

// LoadInput is a commit, and the protocol of the program that asks for it.
type LoadInput struct {
	Source
	Protocol int    `json:"protocol"`
	Rollback bool   `json:"rollback,omitempty"` // nothing is built
	Moved    string `json:"moved,omitempty"`    // why the project is at another repository now
}

// LoadProject reads release.toml and infra/fly as they are at the revision. It
// fails with KindConfig and every mistake in them at once, with KindConfig and what
// no image can be built of (pointers of Git LFS, submodules) unless it is for a
// rollback, with KindTooLarge where Temporal could not hold them, and where the worker
// and whoever asked may misunderstand each other. (That is looked at here and
// not in the workflow: a release under way must not care that its worker has
// become newer.)
func (a *Activities) LoadProject(ctx context.Context, in LoadInput) (release.Project, error) {
	defer beat(ctx)()
	if why := release.Mismatch(in.Protocol, "program that asked"); why != "" {
		return release.Project{}, refused(release.KindConfig, errors.New("worker: "+why))
	}
	files, err := a.Git.Files(ctx, in.Repository, in.Revision.Commit)
	if err != nil {
		return release.Project{}, classify(ctx, err)
	}
	project, _, err := config.Load(files)
	if err != nil {
		return release.Project{}, refused(release.KindConfig, err)
	}
	if !in.Rollback {
		if err := checkLeftOut(ctx, files, project, in.Revision); err != nil {
			return release.Project{}, err
		}
	}
	if err := projectFits(project); err != nil {
		return release.Project{}, err
	}
	project.Bound, err = a.bind(ctx, project.Name, in)
	return *project, err
}

// checkLeftOut returns an error of KindConfig that names the files which a checkout
// of the revision does not have as they are meant.
func checkLeftOut(ctx context.Context, files fs.FS, project *release.Project, revision release.Revision) error {
	mistakes, err := config.CheckLeftOut(files, project)
	if err != nil {
		return classify(ctx, err)
	}
	if len(mistakes) > 0 {
		return refused(release.KindConfig, fmt.Errorf("nothing can be built of %s:\n%w", revision.Short(), mistakes))
	}
	return nil
}

// PreflightInput is what a release is about to need.
type PreflightInput struct {
	Project      release.Project `json:"project"`
	Environments []string        `json:"environments"`
	Apps         []string        `json:"apps"`
}

// Preflight finds out, before anything is tested or built, whether everything
// is there that the release will need of Fly: apps, a token that opens them,
// secrets. It fails with KindPreflight and all that is missing at once.
// It changes nothing.
func (a *Activities) Preflight(ctx context.Context, in PreflightInput) error {
	defer beat(ctx)()
	var targets []release.TargetFile
	for _, name := range in.Environments {
		env, err := in.Project.Environment(name)
		if err != nil {
			return refused(release.KindConfig, err)
		}
		for _, t := range env.Targets {
			if slices.Contains(in.Apps, t.Target.App) {
				targets = append(targets, t)
			}
		}
	}
	lacks := make([][]string, len(targets))
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(TargetsAtOnce)
	for i, t := range targets {
		g.Go(func() (err error) {
			lacks[i], err = a.lacks(all, in.Project, t)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return classify(ctx, err)
	}
	missing := slices.Concat(lacks...)
	if len(missing) > 0 {
		return refused(release.KindPreflight, errors.New(strings.Join(missing, "\n")))
	}
	return nil
}

// lacks is what a target lacks. An error is one that may pass.
func (a *Activities) lacks(ctx context.Context, p release.Project, t release.TargetFile) ([]string, error) {
	app, _ := p.App(t.Target.App)
	switch _, err := retryRead(ctx, func() (fly.App, error) { return a.Fly.App(ctx, t.FlyApp) }); {
	case errors.Is(err, fly.ErrUnauthorized):
		return []string{fmt.Sprintf("%s: the worker's token does not open Fly app %s: %v; give it one that does in FLY_API_TOKEN", t.Target, t.FlyApp, err)}, nil
	case errors.Is(err, fly.ErrNotFound):
		return []string{fmt.Sprintf("%s: there is no Fly app %s; make it with: fly apps create %s", t.Target, t.FlyApp, t.FlyApp)}, nil
	case err != nil:
		return nil, err
	}
	if len(app.Secrets) == 0 {
		return nil, nil
	}
	have, err := retryRead(ctx, func() ([]fly.Secret, error) { return a.Fly.Secrets(ctx, t.FlyApp) })
	if err != nil {
		return nil, err
	}
	var lacks []string
	for _, name := range app.Secrets {
		if !slices.ContainsFunc(have, func(s fly.Secret) bool { return s.Name == name }) {
			lacks = append(lacks, fmt.Sprintf("%s: secret %s is not set; set it with: fly secrets set --stage -a %s %s=…", t.Target, name, t.FlyApp, name))
		}
	}
	return lacks, nil
}
