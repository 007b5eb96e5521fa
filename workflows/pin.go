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

// Pin keeps releases from changing an environment until a person takes the pin
// away. The pin is the open workflow: Temporal deletes only closed ones.
func Pin(ctx workflow.Context, pin release.Pin) (*release.Unpinning, error) {
	ctx, done := workflow.NewDisconnectedContext(ctx) // a cancellation says neither who nor why
	defer done()
	var taken *release.Unpinning
	var ignored error // why the last signal did not count
	const shape = `{"by": "…", "reason": "…"}`
	show := func() { workflow.SetCurrentDetails(ctx, pinDetails(pin, ignored)) }
	err := workflow.SetUpdateHandlerWithOptions(ctx, release.UnpinUpdate,
		func(_ workflow.Context, raw converter.RawValue) error {
			u, err := release.ReadUnpinning(raw.Payload().GetData())
			if err != nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), "Refused", nil)
			}
			taken = &u
			return nil
		},
		workflow.UpdateHandlerOptions{
			Description: "Let releases change the environment again: " + shape,
			Validator: func(raw converter.RawValue) error {
				_, err := release.ReadUnpinning(raw.Payload().GetData())
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
			u, err := release.ReadUnpinning(raw.Payload().GetData())
			if err == nil {
				taken = &u
				continue
			}
			ignored = err
			show()
		}
	})
	show()
	err = workflow.Await(ctx, func() bool { return taken != nil && workflow.AllHandlersFinished(ctx) })
	return taken, err
}

// pinDetails is what the Temporal UI shows of a pin, and why the last signal did not
// take it away.
func pinDetails(pin release.Pin, ignored error) string {
	text := fmt.Sprintf("%s.\n\nIn a terminal: %s. Here: send the signal `%s` with `by` and `reason`.\n",
		view.Markdown(pin.String()), view.Code("release unpin "+pin.Environment+" --reason …"), release.UnpinSignal)
	if ignored != nil {
		text += "\nThe last signal does not count: " + view.Markdown(ignored.Error()) + ".\n"
	}
	return text
}

// pin pins the environment of a rollback before its first change, so that no
// release that waits changes it afterwards. An environment that is pinned stays
// pinned as it is. Other releases pin nothing.
func (r *releaser) pin(ctx workflow.Context, env release.Environment) error {
	if r.req.Rollback == nil || r.pinned != "" {
		return nil
	}
	apart, _ := workflow.NewDisconnectedContext(ctx) // the end of this context would cancel the pin
	pin := release.Pin{
		Project: r.req.Project, Environment: env.Name, Release: r.status.ID, Revision: r.status.Revision, By: r.req.By, Reason: r.req.Rollback.Reason, Since: workflow.Now(ctx),
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(apart, workflow.ChildWorkflowOptions{
		WorkflowID:        release.PinID(r.req.Project, env.Name),
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:     fmt.Sprintf("%s is pinned: rolled back by %s", env.Name, r.req.By),
		Memo:              map[string]any{release.MemoPin: pin},
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(release.AttrProject).ValueSet(r.req.Project),
			temporal.NewSearchAttributeKeyKeyword(release.AttrEnvironment).ValueSet(env.Name),
		),
	}), Pin, pin)
	err := child.GetChildWorkflowExecution().Get(apart, nil)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) || isTaken(err) {
		return nil
	}
	if err == nil {
		r.pinned = env.Name
	}
	return err
}

// unpin takes away the pin of a rollback that ended without an effect. Where
// machines are left as they are, or stranded, the pin stays.
func (r *releaser) unpin(ctx workflow.Context, cause error) {
	var in *ended
	failed := applicationError(cause)
	if r.pinned == "" || errors.As(cause, &in) && in.report.Outcome == release.Kept || failed != nil && failed.Type() == release.KindStranded {
		return
	}
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	err := workflow.SignalExternalWorkflow(ctx, release.PinID(r.req.Project, r.pinned), "", release.UnpinSignal,
		release.Unpinning{By: r.status.ID, Reason: "the rollback had no effect"}).Get(ctx, nil)
	if err != nil {
		r.note("the pin of %s could not be taken away: %s; do it with: release unpin %[1]s --reason …", r.pinned, plain(err))
	}
}
