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

// act names the activities. It is nil and never called: it makes "go to definition"
// work.
var act *activities.Activities

// A releaseRun is the state of one Release workflow.
type releaseRun struct {
	statusLog
	req               release.Request
	path              []release.Environment
	rejection         *release.Review
	project           *release.Project // nil until it is loaded
	queue             queueState
	head              *release.Head // of the environment that is being planned
	pinnedEnvironment string        // environment that this release pinned, or ""
	hasTested         bool
	noRoom            []string         // IDs of machines whose hosts have no room for another version
	unsettled         *unreportedError // the last rollout, if it ended without a report and is not settled yet
}

// beginRelease returns the state of a new release. It registers all handlers before
// anything blocks.
func beginRelease(ctx workflow.Context, req release.Request) (*releaseRun, error) {
	revision := req.Revision
	var restores *release.StateRef
	if req.Rollback != nil { // findBaseline completes the origin
		revision, restores = req.Rollback.Revision, &release.StateRef{}
	}
	r := &releaseRun{req: req, statusLog: newStatusLog(ctx, release.Begun{
		Project: req.Project, Revision: revision, By: req.By, Restores: restores,
	})}
	r.registerQueueSignals(ctx)
	r.registerAbortSignal(ctx)
	return r, errors.Join(r.registerQueries(ctx), r.registerReviews(ctx), r.registerExtensionHandlers(ctx))
}

// loadProject reads the files at the revision and resolves the path of environments.
func (r *releaseRun) loadProject(ctx workflow.Context) (project release.Project, err error) {
	r.enterPhase(ctx, release.Loading, "")
	withOptions := withBuildOptions
	if r.req.Rollback != nil {
		withOptions = withWaitOptions // on the queue of rollouts, because a rollback must not wait for builds
	}
	err = workflow.ExecuteActivity(withOptions(ctx, "Read release.toml and infra/fly at "+r.req.Revision.Short(), 10*time.Minute),
		act.LoadProject, activities.LoadInput{
			Source: r.source(), Protocol: r.req.Protocol, Moved: r.req.Moved, Rollback: r.req.Rollback != nil,
		}).Get(ctx, &project)
	if err != nil {
		return project, err
	}
	if project.Name != r.req.Project {
		return project, fmt.Errorf("release.toml at %s has project %q, want %q, as in the request", r.req.Revision.Short(), project.Name, r.req.Project)
	}
	for _, name := range r.req.Apps {
		if _, ok := project.App(name); !ok {
			return project, fmt.Errorf("app %q does not exist at %s", name, r.req.Revision.Short())
		}
	}
	if r.req.Rollback != nil {
		var env release.Environment
		env, err = project.Environment(r.req.Rollback.Environment)
		r.addToPath(ctx, []release.Environment{env}, "")
	} else {
		var path []release.Environment
		path, err = r.resolvePath(&project, r.req.To)
		r.addToPath(ctx, path, "")
	}
	r.recordRepository(ctx, project.BoundRepository)
	r.project = &project
	return project, err
}

// source returns the repository and the revision of the release.
func (r *releaseRun) source() activities.Source {
	return activities.Source{Repository: r.req.Repository, Revision: r.req.Revision}
}

// appNames returns the names of the apps that the release covers.
func (r *releaseRun) appNames(p release.Project) (names []string) {
	for _, a := range p.Apps {
		if len(r.req.Apps) == 0 || slices.Contains(r.req.Apps, a.Name) {
			names = append(names, a.Name)
		}
	}
	return names
}

// runPreflight checks that Fly and the build worker have what the release needs on
// path. Both checks run concurrently.
func (r *releaseRun) runPreflight(ctx workflow.Context, project release.Project, path []release.Environment) error {
	r.enterPhase(ctx, release.Preflight, "")
	in := activities.PreflightInput{Project: project, Apps: r.appNames(project)}
	for _, env := range path {
		in.Environments = append(in.Environments, env.Name)
	}
	ctx, end := workflow.WithCancel(ctx)
	defer end()
	fly := workflow.ExecuteActivity(withCallOptions(ctx, "Check apps, secrets and tokens"), act.Preflight, in)
	builds := workflow.ExecuteActivity(withBuildOptions(ctx, "Check builders", 5*time.Minute), act.PreflightBuilds, activities.BuilderInput{
		Builds: project.Builds(path, r.appNames(project), r.req.Images), Tests: project.Tests,
	})
	if err := fly.Get(ctx, nil); err != nil {
		return err
	}
	return builds.Get(ctx, nil)
}

// builtImages has the images of a release, by target.
type builtImages map[release.Target]release.Image

// testAndBuild runs the tests, unless they have passed, and the builds for the
// environments of path, concurrently. It adds the built images to images. The first
// failure cancels the other jobs and is returned.
func (r *releaseRun) testAndBuild(ctx workflow.Context, project release.Project, path []release.Environment, images builtImages) error {
	r.enterPhase(ctx, release.Building, "")
	jobsCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	jobs := workflow.NewWaitGroup(ctx)
	var firstErr error
	startJob := func(name string, run func(workflow.Context) error) {
		jobs.Add(1)
		r.record(ctx, release.JobStarted(name))
		workflow.Go(jobsCtx, func(ctx workflow.Context) {
			defer jobs.Done()
			if err := run(ctx); err != nil && firstErr == nil {
				firstErr = err
				cancel()
			}
			r.record(ctx, release.JobEnded(name))
			r.showStatus(ctx)
		})
	}
	tests := project.Tests
	if r.hasTested {
		tests = nil
	}
	for _, test := range tests {
		startJob("test "+test.Name, func(ctx workflow.Context) error { return r.runTest(ctx, test) })
	}
	for _, b := range project.Builds(path, r.appNames(project), r.req.Images) {
		startJob("build "+b.Name, func(ctx workflow.Context) error {
			image, err := r.buildImage(ctx, project, b)
			for _, t := range b.Targets {
				images[t] = image
			}
			return err
		})
	}
	jobs.Wait(ctx)
	r.hasTested = firstErr == nil
	return errors.Join(firstErr, ctx.Err())
}

// runTest runs one test and records its result, also if it failed.
func (r *releaseRun) runTest(ctx workflow.Context, test release.Test) error {
	var result release.TestResult
	err := workflow.ExecuteActivity(withBuildOptions(ctx, "Test "+test.String(), time.Duration(test.Timeout)),
		act.RunTest, activities.TestInput{Source: r.source(), Test: test}).Get(ctx, &result)
	if failed := findApplicationError(err); failed != nil && failed.Type() == release.KindTest && failed.HasDetails() {
		err = errors.Join(err, failed.Details(&result))
	}
	if err == nil || result.Name != "" {
		r.record(ctx, release.TestFinished(result))
	}
	return err
}

// buildImage builds one image and scans it if the project wants that. All targets of
// the build run this image.
func (r *releaseRun) buildImage(ctx workflow.Context, project release.Project, b release.Build) (release.Image, error) {
	var result release.BuildResult
	err := workflow.ExecuteActivity(withBuildOptions(ctx, "Build "+b.Name, 30*time.Minute), act.BuildImage, activities.BuildInput{
		Source: r.source(), Name: b.Name, Recipe: b.Recipe, ImageRepository: b.Repository, Scan: project.Scan,
	}).Get(ctx, &result)
	if failed := findApplicationError(err); failed != nil && failed.Type() == release.KindBuild && failed.HasDetails() {
		err = errors.Join(err, failed.Details(&result))
	}
	if err == nil || result.App != "" {
		r.record(ctx, release.BuildFinished(result))
	}
	for _, note := range result.Notes {
		r.addNote(ctx, "build %s: %s", b.Name, note)
	}
	if err == nil && project.Scan.Includes(b) {
		err = r.scanImage(ctx, project.Scan, b, result.Image)
	}
	return result.Image, err
}

// scanImage runs the scanner of the project on an image and records its result.
func (r *releaseRun) scanImage(ctx workflow.Context, scan release.Scan, b release.Build, image release.Image) error {
	var result release.ScanResult
	err := workflow.ExecuteActivity(withBuildOptions(ctx, "Scan "+b.Name, time.Duration(scan.Timeout)), act.ScanImage, activities.ScanInput{
		Source: r.source(), Name: b.Name, Image: image, Scan: scan,
	}).Get(ctx, &result)
	if failed := findApplicationError(err); failed != nil && failed.Type() == release.KindScan && failed.HasDetails() {
		err = errors.Join(err, failed.Details(&result))
	}
	if err == nil || result.Name != "" {
		r.record(ctx, release.ScanFinished(result))
	}
	return err
}

// placeImages copies the images of an environment into the repositories from which its
// machines pull them. It returns the images by app.
func (r *releaseRun) placeImages(ctx workflow.Context, env release.Environment, built builtImages) (images release.Images, err error) {
	var in activities.PlaceInput
	var placed activities.PlacedImages
	images = release.Images{}
	needsCopy := false
	for _, t := range env.Targets {
		image, ok := built[t.Target]
		if !ok {
			continue
		}
		images[t.Target.App] = image
		in.Images = append(in.Images, activities.ImagePlacement{Target: t.Target, Image: image, Repository: t.FlyApp})
		needsCopy = needsCopy || !image.IsIn(t.FlyApp)
	}
	if !needsCopy || workflow.GetVersion(ctx, "place-images", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return images, nil
	}
	err = workflow.ExecuteActivity(withWaitOptions(ctx, "Copy images for "+env.Name, 10*time.Minute), act.PlaceImages, in).Get(ctx, &placed)
	if err == nil {
		r.record(ctx, release.ImagesCopied(env.Name, placed.Bytes))
	}
	return placed.Images, err
}

// planRollout places the images of an environment and plans its rollout.
func (r *releaseRun) planRollout(ctx workflow.Context, project release.Project, env release.Environment, built builtImages) (plan release.Plan, err error) {
	r.enterPhase(ctx, release.Planning, env.Name)
	images, err := r.placeImages(ctx, env, built)
	if err != nil {
		return plan, err
	}
	err = workflow.ExecuteActivity(withCallOptions(ctx, "Plan "+env.Name), act.PlanRollout, activities.PlanInput{
		Project: project, Environment: env.Name, Revision: r.req.Revision, Images: images, FullHosts: r.noRoom, PredecessorRun: r.followedRunID(env),
		UnverifiedReasons: release.DescribeUnverified(project.Builds(r.path, r.appNames(project), r.req.Images), env),
	}).Get(ctx, &plan)
	if err == nil {
		plan, err = r.compareLineage(ctx, env, plan)
	}
	return r.sealPlan(ctx, plan, err)
}

// sealPlan binds the plan to the run ID of this workflow and shows it in the status,
// unless planning has failed with err, which it returns. The run ID is recorded in the
// history: reviews from before a reset still name the same hash.
func (r *releaseRun) sealPlan(ctx workflow.Context, plan release.Plan, err error) (release.Plan, error) {
	run := workflow.SideEffect(ctx, func(ctx workflow.Context) any { return workflow.GetInfo(ctx).WorkflowExecution.RunID })
	sealed := r.recordedRunID
	if err := run.Get(&sealed); err != nil {
		workflow.GetLogger(ctx).Error("could not read the recorded run ID of the plan", "error", err)
	}
	plan = plan.Seal(sealed)
	if err == nil {
		r.record(ctx, release.PlanMade(plan))
		r.showStatus(ctx)
	}
	return plan, err
}

// A notPromotedError is the report of a rollout that did not promote its plan.
type notPromotedError struct{ report release.Report }

func (e *notPromotedError) Error() string {
	if e.report.Cause == nil {
		return string(e.report.Outcome)
	}
	return e.report.Cause.Message
}

// runRollout runs the plan as a child workflow, and waits while another rollout holds
// the lock of the environment. standing is what the plan was approved with. With
// takeOver the plan is the one of a rollout that ended without a report, and an
// operator decides.
func (r *releaseRun) runRollout(ctx workflow.Context, env release.Environment, plan release.Plan, standing activities.Standing, takeOver bool) error {
	keepsPlace := false
	defer func() {
		if !keepsPlace {
			r.leaveQueue(ctx)
		}
	}()
	for tries := 0; ; tries++ {
		r.enterPhase(ctx, release.RollingOut, env.Name)
		child, run, isLocked, err := r.startRollout(ctx, env, release.RolloutRequest{
			Project: r.req.Project, Release: r.status().ID, Revision: r.status().Revision, Plan: plan, Bake: env.Bake, By: r.req.By, Irreversible: env.Irreversible,
			Gate: standing.GateAtRevision, UnreadRollout: standing.UnreadRollout, Head: r.head, SetsHead: len(r.req.Apps) == 0, Rollback: r.req.Rollback != nil,
			Restores: r.status().Restores, PredecessorRun: r.followedRunID(env), TakeOver: takeOver, RecoveryResult: r.settleAttempts(), Aborted: r.wasAborted(),
		})
		if err != nil {
			return err
		}
		if isLocked {
			if err := r.waitInQueue(ctx, env, tries); err != nil {
				return err
			}
			continue
		}
		report, err := r.followRollout(ctx, env, child, run)
		if keepsPlace = isUnreported(err); keepsPlace { // an operator decides before the next release starts
			return &unreportedError{runID: run.RunID, plan: plan, err: err}
		}
		if err != nil {
			return err
		}
		if report.Stale != "" {
			r.noRoom = append(r.noRoom, report.FullHosts...)
			keepsPlace = true // this release plans again before later releases get their turn
			return release.ErrPlanStale
		}
		if report.Outcome != release.Promoted && report.Outcome != release.Restored {
			return &notPromotedError{report}
		}
		return nil
	}
}

// startRollout starts a rollout, whose workflow ID is the lock of the environment.
// isLocked is true if another rollout holds the lock.
func (r *releaseRun) startRollout(ctx workflow.Context, env release.Environment, req release.RolloutRequest) (child workflow.ChildWorkflowFuture, run workflow.Execution, isLocked bool, err error) {
	r.queue.held = env.Name
	child = workflow.ExecuteChildWorkflow(r.withRolloutOptions(ctx, env), Rollout, req)
	err = child.GetChildWorkflowExecution().Get(ctx, &run)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) || isChildAlreadyStarted(err) {
		r.queue.held = ""
		return child, run, true, nil
	}
	return child, run, false, err
}

// followRollout records the start of a rollout, waits for its report or its error, and
// records its end.
func (r *releaseRun) followRollout(ctx workflow.Context, env release.Environment, child workflow.ChildWorkflowFuture, run workflow.Execution) (release.Report, error) {
	ref := release.RolloutRef{ID: run.ID, Run: run.RunID}
	r.record(ctx, release.RolloutStarted(env.Name, ref))
	r.showStatus(ctx)
	report, err := r.waitForReport(ctx, env, child, run)
	var result *release.RolloutResult
	switch {
	case err != nil:
	case report.Stale != "":
		r.record(ctx, release.PlanStale(env.Name, fmt.Sprintf("planned %s again: %s", env.Name, report.Stale)))
		result = &release.RolloutResult{Notes: report.Notes}
	default:
		e := release.EnvironmentStatus{Name: env.Name}
		if in := report.EnvironmentStatus(env.Name); in != nil {
			e = *in
		}
		e.Outcome, e.Plan = report.Outcome, report.Plan.Hash
		result = &release.RolloutResult{Environment: &e, Spans: report.Spans, Notes: report.Notes}
	}
	r.record(ctx, release.RolloutEnded(env.Name, ref, result))
	return report, err
}

// withRolloutOptions returns ctx with child options for the rollout of env. The
// workflow ID is the lock of the environment. Cancellation of the release cancels the
// rollout, which then ends on its own.
func (r *releaseRun) withRolloutOptions(ctx workflow.Context, env release.Environment) workflow.Context {
	return workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            release.RolloutID(r.req.Project, env.Name),
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		WaitForCancellation:   true,
		StaticSummary:         view.Summary(fmt.Sprintf("%s: %s by %s", env.Name, r.describeChange(), r.req.By)),
		StaticDetails:         view.Markdown(fmt.Sprintf("Rollout of %s in %s.", r.status().ID, env.Name)),
		TypedSearchAttributes: temporal.NewSearchAttributes(searchAttributes(r.status(), env.Name)...),
	})
}

// isChildAlreadyStarted reports whether a child with the same workflow ID is running.
func isChildAlreadyStarted(err error) bool {
	var taken *temporal.ChildWorkflowExecutionAlreadyStartedError
	return errors.As(err, &taken)
}

// stop ends a release that changed nothing in its current environment.
func (r *releaseRun) stop(ctx workflow.Context, cause error) (*release.Report, error) {
	r.recordCause(ctx, cause)
	return r.closeWorkflow(ctx, release.Stopped)
}

// endWithCause ends a release whose current environment did not promote its plan.
func (r *releaseRun) endWithCause(ctx workflow.Context, cause error) (*release.Report, error) {
	if failed := findApplicationError(cause); failed != nil && failed.Type() == release.KindStranded {
		r.recordCause(ctx, cause)
		if _, err := r.closeWorkflow(ctx, ""); err != nil {
			return nil, err
		}
		return nil, temporal.NewNonRetryableApplicationError(failed.Message(), release.KindStranded, nil)
	}
	var rollout *notPromotedError
	if errors.As(cause, &rollout) {
		if found := rollout.report.Cause; found != nil {
			r.record(ctx, release.CauseFound(*found))
		}
		return r.closeWorkflow(ctx, rollout.report.Outcome)
	}
	var newer *supersededError
	if errors.As(cause, &newer) {
		r.recordCause(ctx, cause)
		r.record(ctx, release.OutcomeReached(newer.environment, release.Superseded, nil))
		return r.closeWorkflow(ctx, release.Superseded)
	}
	return r.stop(ctx, cause)
}

// finish ends a release that went through its whole path.
func (r *releaseRun) finish(ctx workflow.Context) (*release.Report, error) {
	outcome := release.Unchanged
	for _, e := range r.status().Environments {
		if e.Outcome == release.Promoted || e.Outcome == release.Restored {
			outcome = e.Outcome
		}
	}
	return r.closeWorkflow(ctx, outcome)
}
