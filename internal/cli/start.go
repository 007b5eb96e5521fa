package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/microbima/release/config"
	"github.com/microbima/release/internal/version"
	"github.com/microbima/release/release"
)

type startCommand struct {
	*World
	to, branch, repo, by string
	moved                string
	images               map[string]string
	apps                 []string
	wait, asJSON         bool
	skip                 []string // names of environments
	reason               string   // of skip
	allowDiverged        bool
	bake                 *release.Duration // replaces that of release.toml; used by the demo
}

func newStart(w *World) *cobra.Command {
	c := startCommand{World: w}
	cmd := &cobra.Command{
		Use:   "start [REVISION]",
		Short: "Release a revision",
		Long: `Start releases a revision (default: HEAD) along the path to an environment: the last
one, or that of --to or --branch.

What is released is the commit, never the worktree. Its release.toml and fly.toml
files are checked here before anything starts. Workers fetch the commit from the
repository that release.toml names; else from this clone, with release dev; else from
its remote called origin.

An image given by --image is not built. Every environment gets the digest that its
reference has when the release begins, even if its tag moves.

Starting a revision whose release is under way attaches to that release. For a later
environment on the path it extends it; for an earlier one, --wait follows it until
that environment is done.

An environment never moves backwards: a revision older than the running one ends as
superseded (exit code 6). A revision that removes commits which run there needs an
approval, even without a gate; --allow-diverged removes that need where there is no
gate.

--skip-env leaves out an environment on the path, for example for a hotfix that must
not replace what is tested there. It needs a --reason. The environments after it ask
for an approval, which says that the revision is not verified.`,
		Example: `  release start                                    # HEAD, to the last environment
  release start v1.4 --to staging --wait
  release start --branch "$GITHUB_REF_NAME" --wait # in CI
  release start --app web-admin --app public-api
  release start hotfix --skip-env staging --reason "staging tests 2.0; this is 1.9.1"
  release start --app proxy --image proxy=docker.io/library/nginx:1.29`,
		Args: WantArgs(0, 1, "REVISION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), strings.Join(args, ""))
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.to, "to", "", "release to this `ENVIRONMENT`, and to those before it")
	f.StringVar(&c.branch, "branch", "", "release to the environment of this `BRANCH` in release.toml")
	f.StringSliceVar(&c.apps, "app", nil, "release only this `APP`; may be repeated")
	f.StringToStringVar(&c.images, "image", nil, "use this image of an app instead of building one: `APP=REF`; may be repeated")
	f.Lookup("image").DefValue = "" // pflag would print []
	f.StringSliceVar(&c.skip, "skip-env", nil, "leave out this `ENVIRONMENT` on the path; may be repeated; needs --reason")
	f.StringVar(&c.reason, "reason", "", "why an environment is skipped, as a `SENTENCE`")
	f.BoolVar(&c.allowDiverged, "allow-diverged", false, "in an environment without a gate, replace a revision that this one does not descend from without approval")
	f.StringVar(&c.repo, "repo", "", "where workers fetch the revision: a `URL` or an absolute path")
	f.StringVar(&c.moved, "moved-repository", "", "confirm that the project has moved to another repository: the reason, as a `SENTENCE`")
	f.StringVar(&c.by, "by", "", "your `NAME` (default: git's user.name)")
	f.BoolVar(&c.wait, "wait", false, "follow the release until it is over; the exit code is its outcome")
	f.BoolVar(&c.asJSON, "json", false, "write what was started, or with --wait the report, as JSON")
	completeFlag(cmd, "to", completeEnvironments(w))
	completeFlag(cmd, "app", completeApps(w))
	completeFlag(cmd, "skip-env", completeEnvironments(w))
	return cmd
}

func (c startCommand) run(ctx context.Context, revision string) error {
	l, err := c.newLaunch(ctx, revision)
	if err != nil {
		return err
	}
	temporal, err := dialTemporal(ctx, c.World)
	if err != nil {
		return err
	}
	return l.run(ctx, c.World, temporal)
}

// newLaunch returns the launch for the flags.
func (c startCommand) newLaunch(ctx context.Context, revision string) (launch, error) {
	src, err := LoadSource(ctx, c.World, revision)
	if err != nil {
		return launch{}, err
	}
	leftOut, err := config.CheckLeftOut(src.Files, src.Project)
	if err != nil {
		return launch{}, err
	}
	if len(leftOut) > 0 {
		return launch{}, fmt.Errorf("nothing can be built of %s:\n%w", src.Revision.Short(), leftOut)
	}
	environments, err := c.selectPath(src.Project)
	if err != nil {
		return launch{}, err
	}
	repository, err := c.repositoryOf(ctx, src)
	if err != nil {
		return launch{}, err
	}
	src.warnUnreleased(ctx, c.World, repository)
	by := operatorName(ctx, c.World, c.by)
	skipped, err := c.skippedEnvironments(environments, by)
	if err != nil {
		return launch{}, err
	}
	path := slices.DeleteFunc(environmentNames(environments), func(name string) bool {
		return slices.ContainsFunc(skipped, func(s release.Skipped) bool { return s.Environment == name })
	})
	apps := slices.Compact(slices.Sorted(slices.Values(c.apps)))
	return launch{wait: c.wait, asJSON: c.asJSON, path: path, request: release.Request{
		Project: src.Project.Name, Repository: repository, Revision: src.Revision, Apps: apps, Images: c.images,
		To: path[len(path)-1], By: by, Version: version.Read().Short(), Protocol: release.Protocol, Moved: c.moved, Bake: c.bake, Skip: skipped, AllowDiverged: c.allowDiverged,
	}}, nil
}

// repositoryOf returns the address from which workers fetch the revision.
func (c startCommand) repositoryOf(ctx context.Context, src Source) (string, error) {
	o, err := ClientOptions(c.World)
	if err != nil {
		return "", err
	}
	repository, err := src.repositoryAddress(ctx, c.repo, isDevTemporal(c.Env, o.Temporal.HostPort))
	if err == nil {
		return repository, nil
	}
	if _, unreachable := dialTemporal(ctx, c.World); unreachable != nil { // the release dev to be started needs no address
		src.warnUnreleased(ctx, c.World, "")
		return "", unreachable
	}
	return "", err
}

// selectPath returns the path for the flags. It returns an error if an app is unknown.
func (c startCommand) selectPath(p *release.Project) ([]release.Environment, error) {
	if c.to != "" && c.branch != "" {
		return nil, Usage("--to and --branch both say where to go: use one")
	}
	to := c.to
	if c.branch != "" {
		e, err := p.EnvironmentForBranch(c.branch)
		if err != nil {
			return nil, Usage("%v", err)
		}
		to = e.Name
	}
	path, err := p.Path(to)
	if err != nil {
		return nil, Usage("%v", err)
	}
	if err := checkApps(p, c.apps); err != nil {
		return nil, err
	}
	return path, c.checkImages(p)
}

// checkImages returns an error if a value of --image is invalid.
func (c startCommand) checkImages(p *release.Project) error {
	for app, ref := range c.images {
		if _, ok := p.App(app); !ok {
			return Usage("--image %s=%s: no app %q; there are: %s", app, ref, app, strings.Join(appNames(p), ", "))
		}
		if len(c.apps) > 0 && !slices.Contains(c.apps, app) {
			return Usage("--image %s=%s: that app is not released; --app names only %s", app, ref, strings.Join(c.apps, ", "))
		}
		if _, err := name.ParseReference(ref); err != nil {
			return Usage("--image %s=%s: %v; it should be HOST/NAME:TAG or HOST/NAME@sha256:…", app, ref, err)
		}
	}
	return nil
}

// skippedEnvironments returns the environments of a path to leave out.
func (c startCommand) skippedEnvironments(path []release.Environment, by string) (skipped []release.Skipped, err error) {
	if len(c.skip) > 0 && c.reason == "" {
		return nil, Usage("--skip-env needs a --reason: reviewers are shown it")
	}
	if len(c.skip) == 0 && c.reason != "" {
		return nil, Usage("--reason is for --skip-env")
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(c.skip))) {
		i := slices.IndexFunc(path, func(e release.Environment) bool { return e.Name == name })
		switch {
		case i < 0:
			return nil, Usage("--skip-env %s: it is not on the way to %s, which is: %s", name, path[len(path)-1].Name, strings.Join(environmentNames(path), ", "))
		case i == len(path)-1:
			return nil, Usage("--skip-env %s: it is where the release goes to", name)
		}
		skipped = append(skipped, release.Skipped{Environment: name, By: by, Reason: c.reason})
	}
	return skipped, nil
}
