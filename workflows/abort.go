package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// registerAbortSignal registers the signal that records who aborts the release and why.
// The abort itself is the cancellation that follows, in which Temporal records neither.
func (r *releaseRun) registerAbortSignal(ctx workflow.Context) {
	r.handleSignals(ctx, workflow.GetSignalChannelWithOptions(ctx, release.AbortSignal, workflow.SignalChannelOptions{
		Description: `{"by": "…", "reason": "…"}: who cancels the release, and why`,
	}), func(ctx workflow.Context, doc []byte) {
		a, err := release.ParseAbort(doc)
		if err != nil {
			r.noteIgnoredSignal(ctx, release.AbortSignal, err)
			return
		}
		a.At = workflow.Now(ctx)
		if r.status.Abort == nil {
			r.status.Abort = &a
		}
		r.showStatus(ctx)
	})
}

// addAbortToCause adds to the cause of an aborted release who aborted it and why.
func (c *statusLog) addAbortToCause() {
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
