package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A rolloutRun is one run of a Rollout.
type rolloutRun struct {
	id, run, environment string
	req                  release.RolloutRequest
	begun, ended         time.Time
	before               map[string][]fly.Machine // by Fly app, when it began
	over                 chan struct{}
	report               *release.Report
	doc                  []byte // report as JSON, once written is done
	written              sync.Once
	err                  error
	unfit                string               // why its plan did not fit when it began
	changed              time.Time            // when it last gave a machine another config
	verified             time.Time            // all was found well then
	known                map[string]time.Time // how old the newest list of each app was then
	record               record
	recorded             time.Time                // its baseline was read by then
	found                map[string][]fly.Machine // before, but for a rollout that goes on after one that was terminated
}

func (r *rolloutRun) result(value any) error {
	if r.err != nil || value == nil {
		return r.err
	}
	r.written.Do(func() { r.doc, r.err = json.Marshal(r.report) })
	if r.err != nil {
		return r.err
	}
	return json.Unmarshal(r.doc, value)
}

// observed tells the world what workflows do.
type observed struct {
	interceptor.WorkerInterceptorBase
	*world
	mu   sync.Mutex
	runs int
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (o *observed) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs++
	in := &observedWorkflow{world: o.world, run: fmt.Sprintf("run-%d", o.runs)}
	in.Next = next
	return in
}

type observedWorkflow struct {
	interceptor.WorkflowInboundInterceptorBase
	*world
	run string
}

// Init implements interceptor.WorkflowInboundInterceptor.
func (o *observedWorkflow) Init(out interceptor.WorkflowOutboundInterceptor) error {
	own := &outbound{world: o.world, run: o.run}
	own.Next = out
	return o.Next.Init(own)
}

// ExecuteWorkflow implements interceptor.WorkflowInboundInterceptor.
func (o *observedWorkflow) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	info := workflow.GetInfo(ctx)
	if info.WorkflowType.Name == release.PinWorkflow {
		defer o.world.watch.pin(info.WorkflowExecution.ID)()
	}
	switch info.WorkflowType.Name {
	case "Rollout":
	case "Release":
		return o.execute(ctx, in)
	default:
		return o.Next.ExecuteWorkflow(ctx, in)
	}
	run := o.world.watch.rolloutBegins(info.WorkflowExecution.ID, o.run, in.Args[0].(release.RolloutRequest))
	result, err := o.execute(ctx, in)
	report, _ := result.(*release.Report)
	o.world.watch.rolloutEnds(run, report, err)
	return result, err
}

type outbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	*world
	run    string
	booked int // activities
}

// GetInfo implements interceptor.WorkflowOutboundInterceptor: the environment
// gives all runs of a workflow ID the same run ID.
func (o *outbound) GetInfo(ctx workflow.Context) *workflow.Info {
	info := *o.Next.GetInfo(ctx)
	info.WorkflowExecution.RunID = o.run
	return &info
}

// unstaffed is added to the time that an attempt may take: the environment
// counts the time that it waits for a worker, too. The staff keeps the limit.
const unstaffed = 1000 * time.Hour

// ExecuteActivity implements interceptor.WorkflowOutboundInterceptor.
func (o *outbound) ExecuteActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	options := workflow.GetActivityOptions(ctx)
	o.staff.allow(name, options.StartToCloseTimeout)
	options.StartToCloseTimeout += unstaffed
	o.booked++
	options.ActivityID = fmt.Sprintf("%s/%d", o.run, o.booked)
	o.watch.schedules(o.run, options.ActivityID, name, args)
	return o.Next.ExecuteActivity(workflow.WithActivityOptions(ctx, options), name, args...)
}

// UpsertTypedSearchAttributes implements interceptor.WorkflowOutboundInterceptor.
func (o *outbound) UpsertTypedSearchAttributes(ctx workflow.Context, updates ...temporal.SearchAttributeUpdate) error {
	set := temporal.NewSearchAttributes(updates...)
	p, _ := set.GetKeyword(temporal.NewSearchAttributeKeyKeyword(release.AttrPhase))
	env, _ := set.GetKeyword(temporal.NewSearchAttributeKeyKeyword(release.AttrEnvironment))
	o.crowd.phase(o.Next.GetInfo(ctx).WorkflowExecution.ID, release.Phase(p), env)
	return nil
}

// stale says why the plan does not fit what Fly runs, by our own reading.
func (r *rolloutRun) stale() string {
	for _, t := range r.req.Plan.Targets {
		if n := len(r.before[t.FlyApp]); n != len(t.Seen) {
			return fmt.Sprintf("%s has %d machines, and the plan was made for %d", t.FlyApp, n, len(t.Seen))
		}
		for _, m := range r.before[t.FlyApp] {
			if t.Seen[m.ID] != m.InstanceID {
				return fmt.Sprintf("machine %s is at version %s, and the plan was made for %q", m.ID, m.InstanceID, t.Seen[m.ID])
			}
		}
	}
	return ""
}

func (r *rolloutRun) leftIn(environment string) bool {
	return r.environment == environment && !r.ended.IsZero() && (r.err != nil || r.report != nil && (r.report.Outcome == release.Kept || r.keepsOld()))
}

// keepsOld says whether a person let the old stay beside the new.
func (r *rolloutRun) keepsOld() bool {
	return r.report != nil && strings.Contains(strings.Join(r.report.Notes, "\n"), "what is left of the old stays")
}

func (w *watch) lastRun(id string) *rolloutRun {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range slices.Backward(w.runs) {
		if r.id == id {
			return r
		}
	}
	return nil
}

// isOpen reports whether a run of that rollout has begun and has not ended.
func (w *watch) isOpen(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.open {
		if r.id == id {
			return true
		}
	}
	return false
}

// findRun returns a run of a rollout. The test environment gives releases other run
// IDs than the simulation: when such an ID is used first, it means the newest run of
// the release that asks, and it means that run from then on.
func (w *watch) findRun(ctx context.Context, id, run string) *rolloutRun {
	if run == "" {
		return w.lastRun(id)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		if r.id == id && r.run == run {
			return r
		}
	}
	return w.nameRun(id, run, w.releaseOf(attemptOf(ctx)))
}

// nameRun returns the run that an ID of the test environment means to a release. The
// caller holds w.mu.
func (w *watch) nameRun(id, run, release string) *rolloutRun {
	if w.named[run] == nil {
		for _, r := range w.runs {
			if r.id == id && r.req.Release == release {
				w.named[run] = r
			}
		}
	}
	return w.named[run]
}

// releaseOf returns the workflow ID of the release that an attempt belongs to.
func (w *watch) releaseOf(a *attempt) string {
	if a == nil {
		return ""
	}
	for _, r := range w.runs {
		if r.run == a.run {
			return r.req.Release
		}
	}
	return a.id
}

// closed returns the rollouts that a query asks for, newest first: those that have
// completed, or all that have ended.
func (w *watch) closed(query string) (all []*rolloutRun) {
	w.mu.Lock()
	defer w.mu.Unlock()
	completed := strings.Contains(query, "'Completed'")
	for _, r := range slices.Backward(w.runs) {
		if !r.ended.IsZero() && (r.err == nil || !completed) && strings.Contains(query, "'"+r.id+"'") {
			all = append(all, r)
		}
	}
	return all
}

// status is how Temporal says that a rollout has ended.
func (r *rolloutRun) status() enumspb.WorkflowExecutionStatus {
	switch {
	case r.isTerminated():
		return enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	case r.err != nil:
		return enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
	}
	return enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
}
