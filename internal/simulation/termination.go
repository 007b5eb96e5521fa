package simulation

import (
	"encoding/binary"
	"errors"
	"time"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// terminated is the kind of trouble in which Temporal terminates a rollout, and with
// Trouble.After also its release. The workflows stop without any cleanup, and the
// results of their running activities are lost.
const terminated = "rollout terminated"

// executeUntilTerminated executes a Release or a Rollout until it ends or is
// terminated.
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

// terminateRollout terminates the open rollout of an app's environment, if there is
// one. With whole it terminates its release too.
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

// terminateRun cancels the activities of a run at their next heartbeat. They are not
// retried.
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

// isRunTerminated reports whether the run of a workflow was terminated.
func (w *workers) isRunTerminated(run string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.terminatedRuns[run]
}

// isTerminated reports whether the rollout was terminated.
func (r *rolloutRun) isTerminated() bool { return isTerminated(r.err) }

// isTerminated reports whether err is the error of a terminated workflow.
func isTerminated(err error) bool {
	var t *temporal.TerminatedError
	return errors.As(err, &t)
}
