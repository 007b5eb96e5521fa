package driver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// defaultWait is the timeout of a step without its own.
const defaultWait = 5 * time.Minute

// awaitReady polls a machine until it has the wanted config and, if it should run, is
// started and healthy. One healthy read is enough, because Verify reads every machine
// again. It returns a KindFailure with the evidence if the machine crashes, has another
// version, or is not ready within the timeout of the step.
func (r *stepRun) awaitReady(ctx context.Context, w awaitedMachine) (release.Machine, error) {
	// Each attempt has the whole timeout: after a crash a wait of twice the time is
	// better than a failure of a machine that was never read.
	begun := time.Now()
	if err := r.awaitStart(ctx, w); err != nil {
		return release.Machine{}, err
	}
	started := time.Now()
	for {
		m, err := r.Fly.Machine(ctx, r.Step.FlyApp, w.id)
		switch isStale := err == nil && m.IsOlder(w.version) && time.Since(begun) < staleFor; {
		case isStale: // the read is from before the change
		case err == nil:
			seen := observedMachine{m, r.describe(m)}
			done, err := r.judgeMachine(ctx, w, seen, begun)
			if err != nil {
				return release.Machine{}, err
			}
			if done {
				return seen.described, nil
			}
			reportWaiting(ctx, w.id, w.waitText(m))
		case ctx.Err() == nil && !isTransient(err):
			return release.Machine{}, err
		case ctx.Err() == nil:
			reportWaiting(ctx, w.id, fmt.Sprintf("read machine %s of %s: %v", w.id, r.Step.Target, err))
		}
		if err := sleep.For(ctx, r.pollInterval(time.Since(started))); err != nil {
			return release.Machine{}, err
		}
	}
}

// judgeMachine reports whether m has reached its state. It starts a machine that Fly's
// proxy has stopped. It returns the failure with evidence if m is bad, or not ready in
// time.
func (r *stepRun) judgeMachine(ctx context.Context, w awaitedMachine, m observedMachine, begun time.Time) (done bool, err error) {
	if f := w.failureOf(m); f != nil {
		return false, r.addEvidence(ctx, w, m.Machine, *f)
	}
	if w.isReached(m) {
		r.memory().checkTimes.record(w, m.Machine)
		return true, nil
	}
	if w.isAsleep(m) {
		if err := r.startUnderLease(ctx, m.Machine); err != nil {
			return false, err
		}
	}
	if limit := waitLimit(r.Step); time.Since(begun) > limit {
		return false, r.addEvidence(ctx, w, m.Machine, w.timeoutFailure(m, limit))
	}
	return false, nil
}

// waitLimit returns the timeout of a step.
func waitLimit(s release.Step) time.Duration {
	if s.Wait <= 0 {
		return defaultWait
	}
	return time.Duration(s.Wait)
}

// startWait is the timeout of Fly's wait for a started machine. Fly does not report
// failures there, so the machine is read afterwards.
const startWait = 5 * time.Second

// awaitStart waits until Fly reports that the machine is started, which saves reads,
// and then for the time in which the checks of its group passed before. awaitReady
// reads the result.
func (r *stepRun) awaitStart(ctx context.Context, w awaitedMachine) error {
	if !w.runs || r.Step.SkipHealthCheck || w.want.Facts().NeverRestarts() {
		return nil // a machine that ends may have ended before the wait begins
	}
	err := r.Fly.Wait(ctx, r.Step.FlyApp, w.id, fly.Wait{State: "started", Version: w.version, Timeout: min(waitLimit(r.Step), startWait)})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return nil
	}
	return sleep.For(ctx, r.memory().checkTimes.expected(w))
}

// pollInterval returns the delay before the next read of a machine: a sixteenth of
// the time waited, at least a sixteenth of Poll and at most Poll. With a Poll of 1 s
// this stays within Fly's limit for each machine: 5 reads a second after a burst of 10.
func (d *Driver) pollInterval(waited time.Duration) time.Duration {
	return min(max(d.poll()/16, waited/16), d.poll())
}

// addEvidence returns f with the last lines of the machine's log as an error.
func (r *stepRun) addEvidence(ctx context.Context, w awaitedMachine, m fly.Machine, f release.Failure) error {
	f.Log = lastLogLines(ctx, r.Fly, r.Step.FlyApp, m.ID)
	f.Version = w.version
	return failureError(release.KindFailure, f)
}

// A logReader reads the log of a machine.
type logReader interface {
	Logs(ctx context.Context, app, machine string) ([]fly.LogLine, error)
}

// lastLogLines returns the end of a machine's log, or a line with the error of the
// read.
func lastLogLines(ctx context.Context, l logReader, app, machine string) (last []string) {
	lines, err := l.Logs(ctx, app, machine)
	if err != nil {
		return []string{"(its log could not be read: " + err.Error() + ")"}
	}
	for _, line := range lines[max(0, len(lines)-12):] {
		last = append(last, lastBytes(strings.TrimSpace(line.Message), 300))
	}
	return last
}
