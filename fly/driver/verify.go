package driver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// An Expectation is the expected state of a target, and how to verify it. It is stored
// in histories.
type Expectation struct {
	Goal  release.State  `json:"goal"`
	Probe *release.Probe `json:"probe,omitempty"`
	// Changed are the groups that the plan changes. Ran are those of which a machine
	// ran the new version and passed; it may have been stopped since.
	Changed []string `json:"changed,omitempty"`
	Ran     []string `json:"ran,omitempty"`
	// Removed are the IDs of machines that the plan destroys. They run the old version.
	Removed []string `json:"removed,omitempty"`
	// Resumed are the IDs of machines that an unreported rollout launched.
	Resumed []string `json:"resumed,omitempty"`
	// Back: the goal is a baseline, whose machines may be as unhealthy as before.
	Back bool `json:"back,omitempty"`
	// RefuseUnchecked: a target without checks counts as unhealthy.
	RefuseUnchecked bool `json:"refuse_unchecked,omitempty"`
	// Before: the goal is the baseline with its versions. A machine with the same
	// version is unchanged, also while its host is unreachable.
	Before bool `json:"before,omitempty"`
}

// A Verification has the expected states, and how long to verify them.
type Verification struct {
	Expectations []Expectation
	For          time.Duration // 0: until the verdicts are certain
	// Within is how long a target may take to become as expected. An unhealthy target
	// may become healthy meanwhile, when Fly's proxy learns of its machines.
	Within time.Duration
}

// Verify observes the machines and the probe of every target until its verdict is
// certain: healthy, unchecked without checks, unhealthy, or unknown if it cannot be
// read. It observes a target with a certain verdict until all verdicts are certain, so
// that all are equally recent. It returns one verdict per target, and ends at the first
// unhealthy one. It changes nothing.
func (d *Driver) Verify(ctx context.Context, in Verification) ([]release.Verdict, error) {
	verdicts := make([]release.Verdict, len(in.Expectations))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	all := newQuorum(len(in.Expectations))
	for i, e := range in.Expectations {
		wg.Go(func() {
			verdicts[i] = e.refuseUnchecked(d.verifyTarget(ctx, e, in, all))
			if verdicts[i].Health == release.Unhealthy {
				cancel() // one unhealthy target starts the rollback
			}
		})
	}
	wg.Wait()
	for _, v := range verdicts {
		if v.Health == release.Unhealthy {
			return verdicts, nil
		}
	}
	return verdicts, context.Cause(ctx)
}

// verifyTarget observes one target until the verdicts of all targets are certain.
func (d *Driver) verifyTarget(ctx context.Context, e Expectation, in Verification, all *quorum) release.Verdict {
	tracker := newVerdictTracker(e, in)
	ports := newPortCheck(tracker)
	begun, wasCertain := time.Now(), false
	for {
		v, now := d.observeOnce(ctx, e)
		elapsed := time.Since(begun)
		isWaiting := ports.checkPorts(ctx, d.Fly, e, now, &v, elapsed)
		reportWaiting(ctx, e.Goal.Target.String(), formatFailures(v))
		state := tracker.add(v.Health, isWaiting, elapsed)
		isCertain := state == certain
		isUnanimous := all.count(vote{was: wasCertain, is: isCertain})
		wasCertain = isCertain
		switch {
		case state == failed:
			return d.addLogs(ctx, e, v)
		case isUnanimous && isCertain:
			return v
		case state == timedOut:
			all.count(vote{is: true}) // the other targets must not wait for it
			v.Health = release.Unknown
			return v
		}
		var reached chan struct{} // nil blocks: the verdict is not certain yet
		if isCertain {
			reached = all.reached
		}
		select {
		case <-time.After(tracker.interval(d.poll())):
		case <-reached:
			return v
		case <-ctx.Done():
			v.Health = release.Unknown
			return v
		}
	}
}

// observeOnce returns the verdict of one observation, and the observed state. A target
// that cannot be read is unknown, not unhealthy.
func (d *Driver) observeOnce(ctx context.Context, e Expectation) (release.Verdict, release.State) {
	v := release.Verdict{Target: e.Goal.Target, Health: release.Unknown, Machines: len(e.Goal.Machines), At: time.Now()}
	now := release.State{Target: e.Goal.Target, FlyApp: e.Goal.FlyApp, URL: e.Goal.URL}
	if err := d.observeAgain(ctx, e.Goal, &now); err != nil {
		v.Failures = []release.Failure{{Target: v.Target, Reason: "could not be read: " + err.Error()}}
		return v, now
	}
	if v.Failures = e.Goal.Unmet(now, release.ExitRule{IsRestore: e.Back, ResumedMachines: e.Resumed, ReadAt: time.Now()}); len(v.Failures) > 0 {
		v.Health = release.Unhealthy
		return v, now
	}
	if v.Failures = e.unreadableMachines(now); len(v.Failures) > 0 {
		return v, now
	}
	proof := release.Evidence{RanGroups: e.Ran, HasProbe: e.Probe != nil, IsRestore: e.Back, RemovedMachines: e.Removed}
	isServed, err := d.isServed(ctx, e, now)
	if err != nil {
		v.Failures = []release.Failure{{Target: v.Target, Reason: "could not be read: " + err.Error()}}
		return v, now
	}
	if isServed {
		var health release.Health
		v.Probed = e.Probe.Describe(now.URL)
		if health, v.Failures = d.sendProbe(ctx, v.Target, *e.Probe, now.URL); health != release.Healthy {
			v.Health = health
			return v, now
		}
		proof.ProbePassed = true
	}
	v.Health, v.Notes, v.Idle = e.Goal.Judge(now, proof)
	return v, now
}

// isServed reports whether e has a probe and a machine of now would answer it. Without
// such a machine, Fly's proxy would start a stopped one. A machine that is stopped in the
// goal is read again, because a list of machines may be old; the error is that of the
// read.
func (d *Driver) isServed(ctx context.Context, e Expectation, now release.State) (bool, error) {
	if e.Probe == nil || now.URL == "" {
		return false, nil
	}
	var unexpected []string
	for _, m := range now.Machines {
		if !mayGetTraffic(m) {
			continue
		}
		want, ok := e.Goal.FindMachine(m.ID)
		if !ok {
			want, ok = e.Goal.FindMachine(m.Name)
		}
		if !ok || want.State == "" || want.IsRunning() {
			return true, nil
		}
		unexpected = append(unexpected, m.ID)
	}
	for _, id := range unexpected {
		m, err := RetryRead(ctx, func() (fly.Machine, error) { return d.Fly.Machine(ctx, e.Goal.FlyApp, id) })
		switch {
		case isGone(err):
		case err != nil:
			return false, err
		case mayGetTraffic(d.describe(m)):
			return true, nil
		}
	}
	return false, nil
}

// unreadableMachines returns the machines of now without a verdict because of their
// host.
func (e Expectation) unreadableMachines(now release.State) []release.Failure {
	return slices.DeleteFunc(e.Goal.Unreachable(now), func(f release.Failure) bool {
		have, _ := now.FindMachine(f.Machine)
		was, ok := e.Goal.FindMachine(f.Machine)
		return e.Before && ok && have.IsSameVersion(was)
	})
}

// refuseUnchecked returns v as unhealthy if it is unchecked and the project refuses
// unchecked targets.
func (e Expectation) refuseUnchecked(v release.Verdict) release.Verdict {
	if v.Health == release.Unchecked && e.RefuseUnchecked && len(e.Changed) > 0 {
		v.Health = release.Unhealthy
		v.Failures = []release.Failure{{
			Target: v.Target, Reason: `is unchecked, and release.toml says unchecked = "refuse": ` + strings.Join(v.Notes, "; "),
		}}
	}
	return v
}

// formatFailures returns the first failure of v and the number of others, or "".
func formatFailures(v release.Verdict) string {
	switch n := len(v.Failures); n {
	case 0:
		return ""
	case 1:
		return v.Failures[0].Error()
	default:
		return fmt.Sprintf("%s (and %d more of %s)", v.Failures[0].Error(), n-1, v.Target)
	}
}

// maxLogs is the maximum number of machines whose logs are read per target, because
// histories are limited.
const maxLogs = 8

// addLogs adds the last log lines of the first failed machines.
func (d *Driver) addLogs(ctx context.Context, e Expectation, v release.Verdict) release.Verdict {
	read := 0
	for i, f := range v.Failures {
		if f.Machine != "" && read < maxLogs {
			v.Failures[i].Log = lastLogLines(ctx, d.Fly, e.Goal.FlyApp, f.Machine)
			read++
		}
	}
	return v
}
