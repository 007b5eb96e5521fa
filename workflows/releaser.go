package workflows

import (
	"errors"
	"fmt"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// act names activities; it is never called. Go to definition works on it.
var act *activities.Activities

// A releaser carries one release from its request to its report.
type releaser struct {
	chronicle
	req      release.Request
	path     []release.Environment
	rejected *release.Decision
	project  *release.Project // once it is loaded
	line     line
	head     *release.Head // of the environment that is planned for
	pinned   string        // environment that this release has pinned
	tested   bool
	noRoom   []string    // machines, by ID, whose hosts have no room for another version
	broken   *unreported // the rollout under way ended without a report, and nothing was settled since
}

// begin opens every door of the release before anything blocks.
func begin(ctx workflow.Context, req release.Request) (*releaser, error) {
	revision := req.Revision
	var restores *release.Origin
	if req.Rollback != nil { // what it goes back to is not certain yet
		revision, restores = req.Rollback.Revision, &release.Origin{}
	}
	r := &releaser{req: req, chronicle: newChronicle(ctx, release.Status{
		Project: req.Project, Revision: revision, By: req.By, Restores: restores,
	})}
	r.registerQueue(ctx)
	r.registerAbort(ctx)
	return r, errors.Join(r.answerQueries(ctx), r.listen(ctx), r.registerExtension(ctx))
}

// load reads the files at the revision, and finds the way through the
// environments.
func (r *releaser) load(ctx workflow.Context) (project release.Project, err error) {
	r.enter(ctx, release.Loading, "")
	reading := building
	if r.req.Rollback != nil {
		reading = waiting // on the queue of rollouts: a rollback never waits for a free place to build
	}
	err = workflow.ExecuteActivity(reading(ctx, "read release.toml and infra/fly at "+r.req.Revision.Short(), 10*time.Minute),
		act.LoadProject, activities.LoadInput{
			Source: r.source(), Protocol: r.req.Protocol, Moved: r.req.Moved, Rollback: r.req.Rollback != nil,
		}).Get(ctx, &project)
	if err != nil {
		return project, err
	}
	if project.Name != r.req.Project {
		return project, fmt.Errorf("release.toml at %s is of project %q, not of %q, which was asked for", r.req.Revision.Short(), project.Name, r.req.Project)
	}
	for _, name := range r.req.Apps {
		if _, ok := project.App(name); !ok {
			return project, fmt.Errorf("there is no app %q at %s", name, r.req.Revision.Short())
		}
	}
	if r.req.Rollback != nil {
		var env release.Environment
		env, err = project.Environment(r.req.Rollback.Environment)
		r.lengthen([]release.Environment{env})
	} else {
		var path []release.Environment
		path, err = r.pathTo(&project, r.req.To)
		r.lengthen(path)
	}
	r.bind(ctx, project.Bound)
	r.project = &project
	return project, err
}

func (r *releaser) source() activities.Source {
	return activities.Source{Repository: r.req.Repository, Revision: r.req.Revision}
}

// apps are those that this release is about.
func (r *releaser) apps(p release.Project) (names []string) {
	for _, a := range p.Apps {
		if len(r.req.Apps) == 0 || slices.Contains(r.req.Apps, a.Name) {
			names = append(names, a.Name)
		}
	}
	return names
}

func (r *releaser) preflight(ctx workflow.Context, project release.Project, path []release.Environment) error {
	r.enter(ctx, release.Preflight, "")
	in := activities.PreflightInput{Project: project, Apps: r.apps(project)}
	for _, env := range path {
		in.Environments = append(in.Environments, env.Name)
	}
	ctx, end := workflow.WithCancel(ctx)
	defer end()
	fly := workflow.ExecuteActivity(calling(ctx, "is everything there that the release will need?"), act.Preflight, in)
	builds := workflow.ExecuteActivity(building(ctx, "can everything be built here?", 5*time.Minute), act.PreflightBuilds, activities.BuilderInput{
		Builds: project.Builds(path, r.apps(project), r.req.Images), Tests: project.Tests,
	})
	if err := fly.Get(ctx, nil); err != nil {
		return err
	}
	return builds.Get(ctx, nil)
}

// made are the images of a release, by the target that is to run them.
type made map[release.Target]release.Image

// testAndBuild runs the tests, unless they have passed, and the builds for the
// environments of path side by side, and adds the images. The first that fails
// ends the others.
func (r *releaser) testAndBuild(ctx workflow.Context, project release.Project, path []release.Environment, images made) error {
	r.enter(ctx, release.Building, "")
	all, end := workflow.WithCancel(ctx)
	defer end()
	jobs := workflow.NewWaitGroup(ctx)
	var failed error
	job := func(name string, do func(workflow.Context) error) {
		jobs.Add(1)
		r.status.Jobs = append(r.status.Jobs, release.Job{Name: name, Since: workflow.Now(ctx)})
		workflow.Go(all, func(ctx workflow.Context) {
			defer jobs.Done()
			if err := do(ctx); err != nil && failed == nil {
				failed = err
				end()
			}
			r.status.Jobs = slices.DeleteFunc(slices.Clone(r.status.Jobs), func(j release.Job) bool { return j.Name == name })
			r.show(ctx)
		})
	}
	tests := project.Tests
	if r.tested {
		tests = nil
	}
	for _, test := range tests {
		job("test "+test.Name, func(ctx workflow.Context) error { return r.test(ctx, test) })
	}
	for _, b := range project.Builds(path, r.apps(project), r.req.Images) {
		job("build "+b.Name, func(ctx workflow.Context) error {
			image, err := r.build(ctx, project, b)
			for _, t := range b.Targets {
				images[t] = image
			}
			return err
		})
	}
	jobs.Wait(ctx)
	r.tested = failed == nil
	return errors.Join(failed, ctx.Err())
}

func (r *releaser) test(ctx workflow.Context, test release.Test) error {
	var result release.TestResult
	err := workflow.ExecuteActivity(building(ctx, "test: "+test.String(), time.Duration(test.Timeout)),
		act.RunTest, activities.TestInput{Source: r.source(), Test: test}).Get(ctx, &result)
	if failed := applicationError(err); failed != nil && failed.Type() == release.KindTest && failed.HasDetails() {
		err = errors.Join(err, failed.Details(&result))
	}
	if err == nil || result.Name != "" {
		r.status.Tests = append(r.status.Tests, result)
		r.status.BoundTails()
	}
	return err
}

// build makes one image, and has it scanned. Every target that it is for runs
// that very image.
func (r *releaser) build(ctx workflow.Context, project release.Project, b release.Build) (release.Image, error) {
	var result release.BuildResult
	err := workflow.ExecuteActivity(building(ctx, "build "+b.Name, 30*time.Minute), act.BuildImage, activities.BuildInput{
		Source: r.source(), Name: b.Name, Recipe: b.Recipe, Repository: b.Repository, Scan: project.Scan,
	}).Get(ctx, &result)
	if failed := applicationError(err); failed != nil && failed.Type() == release.KindBuild && failed.HasDetails() {
		err = errors.Join(err, failed.Details(&result))
	}
	if err == nil || result.App != "" {
		r.status.Builds = append(r.status.Builds, result)
		r.status.BoundTails()
	}
	for _, note := range result.Notes {
		r.note("build %s: %s", b.Name, note)
	}
	if err == nil && project.Scan.Due(b) {
		err = r.scan(ctx, project.Scan, b, result.Image)
	}
	return result.Image, err
}

// scan has the project's scanner look at an image.
func (r *releaser) scan(ctx workflow.Context, scan release.Scan, b release.Build, image release.Image) error {
	var result release.ScanResult
	err := workflow.ExecuteActivity(building(ctx, "scan "+b.Name, time.Duration(scan.Timeout)), act.ScanImage, activities.ScanInput{
		Source: r.source(), Name: b.Name, Image: image, Scan: scan,
	}).Get(ctx, &result)
	if failed := applicationError(err); failed != nil && failed.Type() == release.KindScan && failed.HasDetails() {
		err = errors.Join(err, failed.Details(&result))
	}
	if err == nil || result.Name != "" {
		r.status.Scans = append(r.status.Scans, result)
		r.status.BoundTails()
	}
	return err
}

// place has the images of an environment where its machines take them from.
func (r *releaser) place(ctx workflow.Context, env release.Environment, made made) (images release.Images, err error) {
	var in activities.PlaceInput
	var placed activities.Placed
	images = release.Images{}
	elsewhere := false
	for _, t := range env.Targets {
		image, ok := made[t.Target]
		if !ok {
			continue
		}
		images[t.Target.App] = image
		in.Images = append(in.Images, activities.Placing{Target: t.Target, Image: image, Repository: t.FlyApp})
		elsewhere = elsewhere || !image.In(t.FlyApp)
	}
	if !elsewhere || workflow.GetVersion(ctx, "place-images", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return images, nil
	}
	err = workflow.ExecuteActivity(waiting(ctx, "copy images to where "+env.Name+" takes them from", 10*time.Minute), act.PlaceImages, in).Get(ctx, &placed)
	if e := r.status.EnvironmentStatus(env.Name); err == nil {
		e.Copied += placed.Bytes
	}
	return placed.Images, err
}

func (r *releaser) plan(ctx workflow.Context, project release.Project, env release.Environment, made made) (plan release.Plan, err error) {
	r.enter(ctx, release.Planning, env.Name)
	images, err := r.place(ctx, env, made)
	if err != nil {
		return plan, err
	}
	err = workflow.ExecuteActivity(calling(ctx, "what does "+env.Name+" run, and what has to change?"), act.PlanRollout, activities.PlanInput{
		Project: project, Environment: env.Name, Revision: r.req.Revision, Images: images, NoRoom: r.noRoom,
		Unverified: release.Unverified(project.Builds(r.path, r.apps(project), r.req.Images), env),
	}).Get(ctx, &plan)
	if err == nil {
		plan, err = r.compare(ctx, env, plan)
	}
	return r.seal(ctx, plan), err
}

// seal binds the plan to this run, as it was when the plan was made: replayed
// after a reset, decisions that came before it name the same hash.
func (r *releaser) seal(ctx workflow.Context, plan release.Plan) release.Plan {
	run := workflow.SideEffect(ctx, func(ctx workflow.Context) any { return workflow.GetInfo(ctx).WorkflowExecution.RunID })
	sealed := r.recordedRun
	if err := run.Get(&sealed); err != nil {
		workflow.GetLogger(ctx).Error("the run that the plan is for could not be read", "error", err)
	}
	plan = plan.Sealed(sealed)
	r.status.Plan = &plan
	return plan
}

// An ended error is how a rollout ended that did not promote.
type ended struct{ report release.Report }

func (e *ended) Error() string {
	if e.report.Cause == nil {
		return string(e.report.Outcome)
	}
	return e.report.Cause.Message
}

// rollout changes the environment, alone: while another rollout holds the lock,
// it waits. standing is what the plan was approved with.
// With takeOver the plan is that of a rollout without a report, and a person
// decides.
func (r *releaser) rollout(ctx workflow.Context, env release.Environment, plan release.Plan, standing activities.Standing, takeOver bool) error {
	id := release.RolloutID(r.req.Project, env.Name)
	keepsPlace := false
	defer func() {
		if !keepsPlace {
			r.leave(ctx) // who waits behind this release is told
		}
	}()
	for tries := 0; ; tries++ {
		r.status.Rollout, r.line.environment = id, env.Name
		r.enter(ctx, release.RollingOut, env.Name)
		child := workflow.ExecuteChildWorkflow(r.alone(ctx, env, id), Rollout, release.RolloutRequest{
			Project: r.req.Project, Release: r.status.ID, Revision: r.status.Revision, Plan: plan, Bake: env.Bake, By: r.req.By, Irreversible: env.Irreversible,
			Gate: standing.Then, Unread: standing.Unread, Head: r.head, Whole: len(r.req.Apps) == 0, Rollback: r.req.Rollback != nil,
			Restores: r.status.Restores, Follows: r.follows(env), TakeOver: takeOver, Tried: r.tried(), Aborted: r.isAborted(),
		})
		var run workflow.Execution
		err := child.GetChildWorkflowExecution().Get(ctx, &run)
		if temporal.IsWorkflowExecutionAlreadyStartedError(err) || isTaken(err) {
			r.status.Rollout, r.line.environment = "", ""
			if err := r.queue(ctx, env, id, tries); err != nil {
				return err
			}
			continue
		}
		if err != nil { // it never began
			r.status.Rollout = ""
			return err
		}
		report, err := r.awaitReport(ctx, env, child, run)
		r.status.Rollout = ""
		if keepsPlace = isUnreported(err); keepsPlace { // a person decides first
			return &unreported{run: run.RunID, plan: plan, err: err}
		}
		if err != nil {
			return err
		}
		if report.Stale != "" {
			r.note("the plan for %s was made again: %s", env.Name, report.Stale)
			if takeOver || len(report.NoRoom) > 0 { // it was begun, and held or taken back
				r.noRoom = append(r.noRoom, report.NoRoom...)
				r.status.Notes = append(r.status.Notes, report.Notes...)
			}
			keepsPlace = true // it plans again, and tries again before those who came later
			return release.ErrPlanStale
		}
		r.adopt(report, env, run.RunID)
		if report.Outcome != release.Promoted && report.Outcome != release.Restored {
			return &ended{report}
		}
		return nil
	}
}

// adopt takes over what the rollout has to tell, in place of "rolling out".
func (r *releaser) adopt(report release.Report, env release.Environment, run string) {
	e := r.status.EnvironmentStatus(env.Name)
	e.Outcome, e.Plan, e.Rollout, e.Run = report.Outcome, report.Plan.Hash, report.ID, run
	if in := report.EnvironmentStatus(env.Name); in != nil {
		e.Targets, e.Verdicts, e.Commands, e.Warnings = in.Targets, in.Verdicts, in.Commands, in.Warnings
	}
	r.status.Notes = append(r.status.Notes, report.Notes...)
	r.status.Spans = append(r.status.Spans[:len(r.status.Spans)-1], report.Spans...)
	r.status.Plan = nil
}

// alone is a child whose ID is the environment's lock. An abort of the release
// is an abort of the rollout, which then ends by itself.
func (r *releaser) alone(ctx workflow.Context, env release.Environment, id string) workflow.Context {
	return workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		WaitForCancellation:   true,
		StaticSummary:         view.Summary(fmt.Sprintf("%s: %s by %s", env.Name, r.what(), r.req.By)),
		StaticDetails:         view.Markdown(fmt.Sprintf("The rollout of %s in %s.", r.status.ID, env.Name)),
		TypedSearchAttributes: temporal.NewSearchAttributes(attributes(r.status, env.Name)...),
	})
}

func isTaken(err error) bool {
	var taken *temporal.ChildWorkflowExecutionAlreadyStartedError
	return errors.As(err, &taken)
}

// stop ends a release that changed nothing in the environment it was about.
func (r *releaser) stop(ctx workflow.Context, cause error) (*release.Report, error) {
	r.fail(cause)
	return r.close(ctx, release.Stopped)
}

// end is how a release ends when an environment did not take its plan.
func (r *releaser) end(ctx workflow.Context, cause error) (*release.Report, error) {
	if failed := applicationError(cause); failed != nil && failed.Type() == release.KindStranded {
		r.fail(cause)
		if _, err := r.close(ctx, ""); err != nil {
			return nil, err
		}
		return nil, temporal.NewNonRetryableApplicationError(failed.Message(), release.KindStranded, nil)
	}
	var in *ended
	if errors.As(cause, &in) {
		r.status.Cause = in.report.Cause
		return r.close(ctx, in.report.Outcome)
	}
	var newer *supersededError
	if errors.As(cause, &newer) {
		r.fail(cause)
		r.status.EnvironmentStatus(newer.environment).Outcome = release.Superseded
		return r.close(ctx, release.Superseded)
	}
	return r.stop(ctx, cause)
}

func (r *releaser) finish(ctx workflow.Context) (*release.Report, error) {
	outcome := release.Unchanged
	for _, e := range r.status.Environments {
		if e.Outcome == release.Promoted || e.Outcome == release.Restored {
			outcome = e.Outcome
		}
	}
	return r.close(ctx, outcome)
}
