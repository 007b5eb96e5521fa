package sim

import (
	"encoding/binary"
	"errors"
	"time"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// terminated is the kind of trouble in which Temporal terminates a rollout, and
// its release as well with Trouble.After: the workflows run no further, not even to
// clean up, and what their activities do meanwhile is heard by nobody.
const terminated = "rollout terminated"

// execute carries a Release or a Rollout out until it ends or is terminated.
func (o *observedWorkflow) executeUntilTerminated(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (result any, err error) {
	if !o.hasTrouble(terminated) {
		return o.Next.ExecuteWorkflow(ctx, in)
	}
	ended, cut := false, false
	workflow.Go(ctx, func(ctx workflow.Context) {
		result, err = o.Next.ExecuteWorkflow(ctx, in)
		ended = true
	})
	order := workflow.GetSignalChannel(ctx, terminated)
	apart, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if waiting := workflow.Await(apart, func() bool {
		cut = cut || order.ReceiveAsync(nil)
		return ended || cut
	}); waiting != nil {
		return nil, waiting
	}
	if ended {
		return result, err
	}
	o.workers.terminateRun(o.runID)
	return nil, &temporal.TerminatedError{}
}

// terminate ends the open rollout of an app's environment, if there is one, and
// whole its release, too.
func (s *simulation) terminateRollout(app string, whole bool) {
	_, env, _ := s.findApp(app)
	s.checker.mu.Lock()
	r := s.checker.openRollouts[env.Name]
	s.checker.mu.Unlock()
	if r == nil {
		return
	}
	s.callAfter(0, func() {
		s.logEvent("%s is terminated", r.id)
		if err := s.temporal.SignalWorkflowByID(r.id, terminated, nil); err != nil {
			s.logEvent("%s is not terminated: %v", r.id, err)
		}
		if !whole || s.operators.ended[r.req.Release] {
			return
		}
		s.logEvent("%s is terminated", r.req.Release)
		if err := s.temporal.SignalWorkflowByID(r.req.Release, terminated, nil); err != nil {
			s.logEvent("%s is not terminated: %v", r.req.Release, err)
		}
	})
}

// terminate has the activities of a run hear, at their next heartbeat, that it is
// over. None is tried again.
func (w *workers) terminateRun(run string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.terminatedRuns[run] = true
	for a := range w.running {
		if a.runID != run {
			continue
		}
		a.abandonOnce.Do(func() { close(a.abandoned) })
		drawn := w.sim.network.drawHash(terminated + a.String())
		time.AfterFunc(time.Duration(binary.BigEndian.Uint32(drawn[:4])%8_000)*time.Millisecond, func() { a.cancel(errActivityGone) })
	}
}

func (w *workers) isRunTerminated(run string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.terminatedRuns[run]
}

// isTerminated says whether a rollout was.
func (r *rolloutRun) isTerminated() bool { return isTerminated(r.err) }

// isTerminated says whether err is that of a workflow that was terminated.
func isTerminated(err error) bool {
	var t *temporal.TerminatedError
	return errors.As(err, &t)
}
