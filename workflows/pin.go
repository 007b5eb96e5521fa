package workflows

import (
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// Pin keeps releases from changing an environment until an operator removes the pin. An
// open Pin workflow is the pin: Temporal deletes only closed workflows.
func Pin(ctx workflow.Context, pin release.Pin) (*release.Unpinning, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx) // a cancellation has no author and no reason, so it is ignored
	defer done()
	var unpinning *release.Unpinning
	var ignored error // why the last signal was ignored
	const shape = `{"by": "…", "reason": "…"}`
	show := func() { workflow.SetCurrentDetails(ctx, pinDetails(pin, ignored)) }
	err := workflow.SetUpdateHandlerWithOptions(ctx, release.UnpinUpdate,
		func(_ workflow.Context, raw converter.RawValue) error {
			u, err := release.ParseUnpinning(raw.Payload().GetData())
			if err != nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), "Refused", nil)
			}
			unpinning = &u
			return nil
		},
		workflow.UpdateHandlerOptions{
			Description: "Let releases change the environment again: " + shape,
			Validator: func(raw converter.RawValue) error {
				_, err := release.ParseUnpinning(raw.Payload().GetData())
				return err
			},
		})
	if err != nil {
		return nil, err
	}
	workflow.Go(ctx, func(ctx workflow.Context) {
		ch := workflow.GetSignalChannelWithOptions(ctx, release.UnpinSignal, workflow.SignalChannelOptions{
			Description: shape + ": let releases change the environment again",
		})
		for raw := (converter.RawValue{}); ch.Receive(ctx, &raw); raw = (converter.RawValue{}) {
			u, err := release.ParseUnpinning(raw.Payload().GetData())
			if err == nil {
				unpinning = &u
				continue
			}
			ignored = err
			show()
		}
	})
	show()
	err = workflow.Await(ctx, func() bool { return unpinning != nil && workflow.AllHandlersFinished(ctx) })
	return unpinning, err
}

// pinDetails returns the details of a pin for the Temporal UI. ignored is why the last
// signal was ignored, or nil.
func pinDetails(pin release.Pin, ignored error) string {
	text := fmt.Sprintf("%s.\n\nIn a terminal: %s. Here: send the signal `%s` with `by` and `reason`.\n",
		view.Markdown(pin.String()), view.Code("release unpin "+pin.Environment+" --reason …"), release.UnpinSignal)
	if ignored != nil {
		text += "\nThe last signal does not count: " + view.Markdown(ignored.Error()) + ".\n"
	}
	return text
}

// pinEnvironment pins the environment of a rollback before its first change, so that no
// waiting release changes it afterwards. An existing pin stays. Other releases pin
// nothing.
func (r *releaseRun) pinEnvironment(ctx workflow.Context, env release.Environment) error {
	if r.req.Rollback == nil || r.pinnedEnvironment != "" {
		return nil
	}
	disconnected, _ := workflow.NewDisconnectedContext(ctx) // the end of ctx would cancel the pin
	pin := release.Pin{
		Project: r.req.Project, Environment: env.Name, Release: r.status().ID, Revision: r.status().Revision, By: r.req.By, Reason: r.req.Rollback.Reason, Since: workflow.Now(ctx),
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(disconnected, workflow.ChildWorkflowOptions{
		WorkflowID:        release.PinID(r.req.Project, env.Name),
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:     fmt.Sprintf("%s is pinned: rolled back by %s", env.Name, r.req.By),
		Memo:              map[string]any{release.MemoPin: pin},
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(release.AttrProject).ValueSet(r.req.Project),
			temporal.NewSearchAttributeKeyKeyword(release.AttrEnvironment).ValueSet(env.Name),
		),
	}), Pin, pin)
	err := child.GetChildWorkflowExecution().Get(disconnected, nil)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) || isChildAlreadyStarted(err) {
		return nil
	}
	if err == nil {
		r.pinnedEnvironment = env.Name
	}
	return err
}

// removePin removes the pin of a rollback that had no effect. The pin stays if the
// machines are kept as they are or the rollout is stranded.
func (r *releaseRun) removePin(ctx workflow.Context, cause error) {
	var rollout *notPromotedError
	failed := findApplicationError(cause)
	if r.pinnedEnvironment == "" || errors.As(cause, &rollout) && rollout.report.Outcome == release.Kept || failed != nil && failed.Type() == release.KindStranded {
		return
	}
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	err := workflow.SignalExternalWorkflow(ctx, release.PinID(r.req.Project, r.pinnedEnvironment), "", release.UnpinSignal,
		release.Unpinning{By: r.status().ID, Reason: "the rollback had no effect"}).Get(ctx, nil)
	if err != nil {
		r.addNote(ctx, "could not remove the pin of %s: %s; remove it with: release unpin %[1]s --reason …", r.pinnedEnvironment, errorMessage(err))
	}
}
