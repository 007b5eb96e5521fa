package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// registerAbort registers the signal that says who aborts the release, and why.
// The abort itself is the cancellation that follows: Temporal records neither
// with it.
func (r *releaser) registerAbort(ctx workflow.Context) {
	r.receive(ctx, workflow.GetSignalChannelWithOptions(ctx, release.AbortSignal, workflow.SignalChannelOptions{
		Description: `{"by": "…", "reason": "…"}: who cancels the release next, and why`,
	}), func(ctx workflow.Context, doc []byte) {
		a, err := release.ReadAbort(doc)
		if err != nil {
			r.ignore(ctx, release.AbortSignal, err)
			return
		}
		a.At = workflow.Now(ctx)
		if r.status.Abort == nil {
			r.status.Abort = &a
		}
		r.show(ctx)
	})
}

// nameAbort adds to the cause of an aborted release who ordered it, and why.
func (c *chronicle) nameAbort() {
	abort := c.status.Abort
	if abort == nil || c.status.Cause == nil || !c.status.Cause.Aborted {
		return
	}
	cause := *c.status.Cause
	cause.Message += " by " + abort.By
	if abort.Reason != "" {
		cause.Message += ": " + abort.Reason
	}
	c.status.Cause = &cause
}
