package driver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// defaultWait is how long a step without a time of its own is waited for.
const defaultWait = 5 * time.Minute

// await polls a machine until it has the wanted config and, where it should run, is
// started and healthy. One good read is enough: Verify reads every machine again before
// the rollout is promoted. await returns a KindFailure with the evidence when the
// machine crashes, has another version, or is not ready within the step's timeout.
func (r *stepRun) await(ctx context.Context, w awaited) (release.Machine, error) {
	// An attempt after a crash begins to count anew: waiting twice as long is better
	// than failing a machine that was never read.
	begun := time.Now()
	if err := r.awaitStart(ctx, w); err != nil {
		return release.Machine{}, err
	}
	started := time.Now()
	for {
		m, err := r.Fly.Machine(ctx, r.Step.FlyApp, w.id)
		switch isStale := err == nil && m.IsOlder(w.version) && time.Since(begun) < staleFor; {
		case isStale: // it was read before it was changed
		case err == nil:
			done, err := r.judge(ctx, w, m, begun)
			if err != nil {
				return release.Machine{}, err
			}
			if done {
				return Describe(m), nil
			}
			reportWaiting(ctx, w.id, w.waitText(m))
		case ctx.Err() == nil && !isTransient(err):
			return release.Machine{}, err
		case ctx.Err() == nil:
			reportWaiting(ctx, w.id, fmt.Sprintf("read machine %s of %s: %v", w.id, r.Step.Target, err))
		}
		if err := sleep(ctx, r.pollInterval(time.Since(started))); err != nil {
			return release.Machine{}, err
		}
	}
}

// judge reports whether m is as it should be. It starts a machine that Fly's proxy has
// stopped, and fails with the evidence if m is bad, or not good in time.
func (r *stepRun) judge(ctx context.Context, w awaited, m fly.Machine, begun time.Time) (done bool, err error) {
	if f := w.failureOf(m); f != nil {
		return false, r.addEvidence(ctx, w, m, *f)
	}
	if w.isReached(m) {
		r.memory().checkTimes.record(w, m)
		return true, nil
	}
	if w.isAsleep(m) {
		if err := r.wake(ctx, m); err != nil {
			return false, err
		}
	}
	if limit := waitLimit(r.Step); time.Since(begun) > limit {
		return false, r.addEvidence(ctx, w, m, w.timeoutFailure(m, limit))
	}
	return false, nil
}

// waitLimit returns how long the machine of a step is waited for.
func waitLimit(s release.Step) time.Duration {
	if s.Wait <= 0 {
		return defaultWait
	}
	return time.Duration(s.Wait)
}

// startWait is how long Fly is asked to report that a machine is started before the
// machine is read: Fly does not report there that it failed.
const startWait = 5 * time.Second

// awaitStart waits until Fly reports that the machine is started, instead of reading
// it again and again, and then for as long as the checks of its group took to pass
// before. It judges nothing: await reads what happened.
func (r *stepRun) awaitStart(ctx context.Context, w awaited) error {
	if !w.runs || r.Step.Unchecked || release.NeverRestarts(w.want) {
		return nil // a machine that ends may have ended before the wait begins
	}
	err := r.Fly.Wait(ctx, r.Step.FlyApp, w.id, fly.Wait{State: "started", Version: w.version, Timeout: min(waitLimit(r.Step), startWait)})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return nil
	}
	return sleep(ctx, r.memory().checkTimes.expected(w))
}

// pollInterval returns the delay before the next read of a machine: a sixteenth of
// the time waited, at least a sixteenth of Poll and at most Poll. With a Poll of 1 s
// this stays within Fly's limit for each machine: 5 reads a second after a burst of 10.
func (d *Driver) pollInterval(waited time.Duration) time.Duration {
	return min(max(d.poll()/16, waited/16), d.poll())
}

// addEvidence returns f with the last lines of the machine's log as an error.
func (r *stepRun) addEvidence(ctx context.Context, w awaited, m fly.Machine, f release.Failure) error {
	f.Log, f.Version = lastLogLines(ctx, r.Fly, r.Step.FlyApp, m.ID), w.version
	return failure(release.KindFailure, f)
}

// A logReader reads the log of a machine.
type logReader interface {
	Logs(ctx context.Context, app, machine string) ([]fly.LogLine, error)
}

// lastLogLines returns the end of a machine's log, or a line that says why it could
// not be read.
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
