package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/config"
	"github.com/microbima/release/internal/version"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type start struct {
	*env
	to, branch, repo, by string
	moved                string
	images               map[string]string
	apps                 []string
	wait, asJSON         bool
	skip                 []string // environments
	reason               string   // for that
	allowDiverged        bool
	bake                 *release.Duration // in place of what release.toml says: the demo is short
}

func newStart(e *env) *cobra.Command {
	c := start{env: e}
	cmd := &cobra.Command{
		Use:   "start [REVISION]",
		Short: "Release a revision",
		Long: `Start releases a revision (HEAD, unless another is named) along the path to
an environment: to the last one, unless --to or --branch says otherwise.

What is released is the commit, never the worktree. Its release.toml and
fly.toml files are checked here before anything is started. Workers fetch the
commit from the repository that release.toml names; else from this clone, with
release dev; else from its remote called origin.

An image given by --image is taken as it is: by the digest that its reference
has when the release builds, in every environment, whatever becomes of its tag.

Starting the same revision again, while it is under way, attaches to the release
that runs. For an environment further on it extends that release; for one before,
--wait follows it until that environment is done.

An environment never moves backwards: a revision that is older than what runs
there ends as superseded (exit code 6). One that takes commits away which run
there needs an approval, gate or not, unless --allow-diverged says otherwise for
environments without a gate.

--skip-env leaves out an environment on the path, as for a hotfix that must not
replace what is tested there. It needs a --reason. The environments after it then
ask for an approval, and say that the revision is not verified.`,
		Example: `  release start                                    # HEAD, all the way
  release start v1.4 --to staging --wait
  release start --branch "$GITHUB_REF_NAME" --wait # in CI
  release start --app web-admin --app public-api
  release start hotfix --skip-env staging --reason "staging tests 2.0; this is 1.9.1"
  release start --app proxy --image proxy=docker.io/library/nginx:1.29`,
		Args: args(0, 1, "REVISION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), strings.Join(args, ""))
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.to, "to", "", "the `ENVIRONMENT` to go to; those before it come first")
	f.StringVar(&c.branch, "branch", "", "go to the environment that this `BRANCH` releases to, as release.toml says")
	f.StringSliceVar(&c.apps, "app", nil, "only this `APP`; may be given again")
	f.StringToStringVar(&c.images, "image", nil, "take the image of an app as it is, instead of building one: `APP=REF`; may be given again")
	f.Lookup("image").DefValue = "" // pflag would write []
	f.StringSliceVar(&c.skip, "skip-env", nil, "leave out this `ENVIRONMENT` on the path; may be given again; needs --reason")
	f.StringVar(&c.reason, "reason", "", "why an environment is skipped, in a `SENTENCE`")
	f.BoolVar(&c.allowDiverged, "allow-diverged", false, "do not ask, in an environment without a gate, before a revision replaces one that it does not descend from")
	f.StringVar(&c.repo, "repo", "", "where workers fetch the revision: a `URL` or an absolute path")
	f.StringVar(&c.moved, "moved-repository", "", "the project is at another repository now than its earlier releases were: why, in a `SENTENCE`")
	f.StringVar(&c.by, "by", "", "your `NAME`; git's user.name, unless given")
	f.BoolVar(&c.wait, "wait", false, "follow the release until it is over; the exit code says how it ended")
	f.BoolVar(&c.asJSON, "json", false, "write what was started, or with --wait how it ended, as JSON")
	offer(cmd, "to", c.environments())
	offer(cmd, "app", e.apps())
	offer(cmd, "skip-env", c.environments())
	return cmd
}

func (c start) run(ctx context.Context, revision string) error {
	request, path, err := c.request(ctx, revision)
	if err != nil {
		return err
	}
	s, err := c.temporal(ctx)
	if err != nil {
		return err
	}
	return c.begin(ctx, s, release.ID(request.Project, request.Revision), request, path, c.wait, c.asJSON)
}

// skipped returns the environments that are left out of a path.
func (c start) skipped(path []release.Environment, by string) (skipped []release.Skipped, err error) {
	if len(c.skip) > 0 && c.reason == "" {
		return nil, usage("--skip-env needs a --reason: it is shown to whoever approves")
	}
	if len(c.skip) == 0 && c.reason != "" {
		return nil, usage("--reason is for --skip-env")
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(c.skip))) {
		i := slices.IndexFunc(path, func(e release.Environment) bool { return e.Name == name })
		switch {
		case i < 0:
			return nil, usage("--skip-env %s: it is not on the way to %s, which is: %s", name, path[len(path)-1].Name, strings.Join(names(path), ", "))
		case i == len(path)-1:
			return nil, usage("--skip-env %s: it is where the release goes to", name)
		}
		skipped = append(skipped, release.Skipped{Environment: name, By: by, Reason: c.reason})
	}
	return skipped, nil
}

// request is what the flags ask for, and the environments on its path.
func (c start) request(ctx context.Context, revision string) (request release.Request, path []string, err error) {
	src, err := c.source(ctx, revision)
	if err != nil {
		return request, nil, err
	}
	lacks, err := config.CheckLeftOut(src.files, src.project)
	if err != nil {
		return request, nil, err
	}
	if len(lacks) > 0 {
		return request, nil, fmt.Errorf("nothing can be built of %s:\n%w", src.revision.Short(), lacks)
	}
	environments, err := c.path(src.project)
	if err != nil {
		return request, nil, err
	}
	options, err := c.temporalOptions()
	if err != nil {
		return request, nil, err
	}
	dev := c.readDevFile()
	repository, err := c.repository(ctx, src, c.repo, dev != nil && dev.Temporal == options.HostPort)
	if err != nil {
		if _, away := c.temporal(ctx); away != nil { // a release dev that is not started yet needs no address
			c.doubts(ctx, src, "")
			return request, nil, away
		}
		return request, nil, err
	}
	c.doubts(ctx, src, repository)
	slices.Sort(c.apps)
	by := c.whoami(ctx, c.by)
	skipped, err := c.skipped(environments, by)
	if err != nil {
		return request, nil, err
	}
	path = slices.DeleteFunc(names(environments), func(name string) bool {
		return slices.ContainsFunc(skipped, func(s release.Skipped) bool { return s.Environment == name })
	})
	return release.Request{
		Project: src.project.Name, Repository: repository, Revision: src.revision, Apps: slices.Compact(c.apps), Images: c.images,
		To: path[len(path)-1], By: by, Version: version.Read().Short(), Protocol: release.Protocol, Moved: c.moved, Bake: c.bake, Skip: skipped, AllowDiverged: c.allowDiverged,
	}, path, nil
}

// path is the way that the flags ask for, through environments and apps that
// exist.
func (c start) path(p *release.Project) ([]release.Environment, error) {
	if c.to != "" && c.branch != "" {
		return nil, usage("--to and --branch both say where to go: use one")
	}
	to := c.to
	if c.branch != "" {
		e, err := p.ForBranch(c.branch)
		if err != nil {
			return nil, usage("%v", err)
		}
		to = e.Name
	}
	path, err := p.Path(to)
	if err != nil {
		return nil, usage("%v", err)
	}
	if err := checkApps(p, c.apps); err != nil {
		return nil, err
	}
	for app, ref := range c.images {
		if _, ok := p.App(app); !ok {
			return nil, usage("--image %s=%s: no app %q; there are: %s", app, ref, app, strings.Join(appNames(p), ", "))
		}
		if len(c.apps) > 0 && !slices.Contains(c.apps, app) {
			return nil, usage("--image %s=%s: that app is not released; --app names only %s", app, ref, strings.Join(c.apps, ", "))
		}
		if _, err := name.ParseReference(ref); err != nil {
			return nil, usage("--image %s=%s: %v; it should be HOST/NAME:TAG or HOST/NAME@sha256:…", app, ref, err)
		}
	}
	return path, nil
}

// checkApps returns wrong usage where an app is none of the project.
func checkApps(p *release.Project, apps []string) error {
	for _, app := range apps {
		if _, ok := p.App(app); !ok {
			return usage("no app %q; there are: %s", app, strings.Join(appNames(p), ", "))
		}
	}
	return nil
}

func appNames(p *release.Project) (names []string) {
	for _, a := range p.Apps {
		names = append(names, a.Name)
	}
	return names
}

func names(path []release.Environment) (names []string) {
	for _, e := range path {
		names = append(names, e.Name)
	}
	return names
}

// A begun release, as --json tells it.
type begun struct {
	ID       string `json:"id"`
	Run      string `json:"run"`
	Attached bool   `json:"attached"` // it ran already
	Page     string `json:"page"`
}

// begin starts a release, or attaches to the one that runs, and follows it or
// says how that is done.
func (e *env) begin(ctx context.Context, s *server, id string, request release.Request, path []string, wait, asJSON bool) error {
	run, attached, err := e.launch(ctx, s, id, request, path)
	if err != nil {
		return err
	}
	if wait {
		return e.followTo(ctx, s, id, run, request.To, asJSON)
	}
	if asJSON {
		return e.json(begun{id, run, attached, s.page(id, run)})
	}
	e.say("  release watch %s", view.Ref(id))
	fmt.Fprintln(e.stdout, view.Ref(id))
	return nil
}

// launch starts a release, or attaches to the one that runs if that is the same.
func (e *env) launch(ctx context.Context, s *server, id string, request release.Request, path []string) (run string, attached bool, err error) {
	for {
		run, err = s.execute(ctx, id, request, path)
		var already *serviceerror.WorkflowExecutionAlreadyStarted
		if attached = errors.As(err, &already); attached {
			run, err = s.attach(ctx, id, already.RunId, request, path)
		}
		if !errors.Is(err, errOver) || ctx.Err() != nil {
			break
		}
		pause(ctx, again) // it ended just now: another may begin
	}
	if err != nil {
		return "", false, err
	}
	if attached {
		e.say("it is under way already: attached to %s", view.Ref(id))
	} else {
		if request.Rollback != nil {
			e.say("started: %s", what(request))
		} else {
			e.say("started: %s to %s", what(request), strings.Join(path, ", then "))
		}
	}
	if page := s.page(id, run); page != "" {
		e.say("  %s", page)
	}
	return run, attached, nil
}

// what is what a request asks for, in a line.
func what(r release.Request) string {
	if r.Rollback == nil {
		if len(r.Apps) > 0 {
			return subject(r.Revision) + " (only " + strings.Join(r.Apps, ", ") + ")"
		}
		return subject(r.Revision)
	}
	if r.Rollback.Revision.Commit != "" {
		return r.Rollback.Environment + " back to " + subject(r.Rollback.Revision)
	}
	if r.Rollback.To != "" {
		return r.Rollback.Environment + " back to what " + view.Ref(r.Rollback.To) + " left there"
	}
	return r.Rollback.Environment + " back to what it ran before its last release"
}

func (s *server) execute(ctx context.Context, id string, request release.Request, path []string) (run string, err error) {
	keyword := temporal.NewSearchAttributeKeyKeyword
	call, cancel := context.WithTimeout(ctx, 2*dialLimit)
	defer cancel()
	started, err := s.ExecuteWorkflow(call, client.StartWorkflowOptions{
		ID:                                       id,
		TaskQueue:                                release.TaskQueue,
		WorkflowIDConflictPolicy:                 enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		StaticSummary:                            view.Summary(what(request) + " → " + strings.Join(path, " → ")),
		StaticDetails:                            details(request, path),
		Memo:                                     map[string]any{release.MemoRequest: request},
		// Activities and rollouts inherit it. Where the server is fair, projects
		// share a busy queue equally.
		Priority: temporal.Priority{PriorityKey: request.Priority(), FairnessKey: request.Project[:min(64, len(request.Project))]},
		TypedSearchAttributes: temporal.NewSearchAttributes(
			keyword(release.AttrProject).ValueSet(request.Project),
			keyword(release.AttrRevision).ValueSet(about(request).Short()),
			keyword(release.AttrEnvironment).ValueSet(path[0]),
			keyword(release.AttrPhase).ValueSet(string(release.Loading)),
		),
	}, release.ReleaseWorkflow, request)
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &already) {
		return "", err
	}
	if err != nil {
		return "", s.said(ctx, "start "+id, err)
	}
	return started.GetRunID(), nil
}

// about returns the revision that a request is about.
func about(r release.Request) release.Revision {
	if r.Rollback != nil && r.Rollback.Revision.Commit != "" {
		return r.Rollback.Revision
	}
	return r.Revision
}

// attach is the run under way, if it is what request asks for.
func (s *server) attach(ctx context.Context, id, run string, request release.Request, path []string) (string, error) {
	described, err := s.DescribeWorkflowExecution(ctx, id, run)
	if err != nil {
		return "", s.said(ctx, "look at "+id, err)
	}
	other := requestOf(described.WorkflowExecutionInfo)
	if why := differs(request, other); why != "" {
		return "", fmt.Errorf("%s is under way with another aim: %s; wait for it (release watch %[1]s) or stop it (release abort %[1]s) first", view.Ref(id), why)
	}
	if slices.Contains(path, other.To) && other.To != request.To { // it goes less far
		return run, s.extend(ctx, id, run, release.Extension{To: request.To, By: request.By})
	}
	return described.WorkflowExecutionInfo.Execution.RunId, nil
}

// differs says in what the release under way differs from the one asked for.
func differs(asked, running release.Request) string {
	back := func(r release.Request) string {
		if r.Rollback == nil {
			return ""
		}
		return r.Rollback.Environment + " " + r.Rollback.To
	}
	all := func(apps []string) string {
		if len(apps) == 0 {
			return "all apps"
		}
		return strings.Join(apps, ", ")
	}
	switch {
	case asked.Rollback == nil && running.Revision.Commit != asked.Revision.Commit:
		return fmt.Sprintf("it releases %s, not %s", running.Revision.Commit, asked.Revision.Commit)
	case back(asked) != back(running):
		return "it is " + what(running)
	case !slices.Equal(skips(running), skips(asked)):
		return "it was started with other --skip-env"
	case !maps.Equal(running.Images, asked.Images):
		return "it was started with other --image"
	case !slices.Equal(running.Apps, asked.Apps):
		return fmt.Sprintf("it is about %s, not %s", all(running.Apps), all(asked.Apps))
	}
	return ""
}

// skips are the names of the skipped environments.
func skips(r release.Request) (names []string) {
	for _, s := range r.Skip {
		names = append(names, s.Environment)
	}
	return names
}

// details are what the Temporal UI shows of the request, in Markdown.
func details(r release.Request, path []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n", view.Markdown(what(r)))
	fmt.Fprintf(&b, "- path: %s\n- by: %s\n", view.Markdown(strings.Join(path, " → ")), view.Markdown(r.By))
	if r.Rollback == nil {
		fmt.Fprintf(&b, "- commit: %s", view.Code(r.Revision.Commit))
		if r.Revision.Author != "" {
			fmt.Fprintf(&b, " by %s", view.Markdown(r.Revision.Author))
		}
		b.WriteString("\n")
	} else if r.Rollback.Emergency {
		fmt.Fprintf(&b, "- emergency, the gate is passed: %s\n", view.Markdown(r.Rollback.Reason))
	}
	for _, app := range slices.Sorted(maps.Keys(r.Images)) {
		fmt.Fprintf(&b, "- image of %s: %s, not built\n", view.Markdown(app), view.Code(r.Images[app]))
	}
	for _, s := range r.Skip {
		fmt.Fprintf(&b, "- %s is skipped: %s\n", view.Markdown(s.Environment), view.Markdown(s.Reason))
	}
	fmt.Fprintf(&b, "- repository: %s\n", view.Code(r.Repository))
	return b.String()
}
