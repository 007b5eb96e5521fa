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
		if r.status().Abort == nil {
			r.record(ctx, release.AbortRequested(a))
		}
		r.showStatus(ctx)
	})
}
