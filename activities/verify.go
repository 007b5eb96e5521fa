package activities

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/microbima/release/release"
)

const (
	// badInARow is how often in a row a target must be found bad to be called
	// unhealthy.
	badInARow = 3
	// unsureFor is how long verifying goes on when it can't find out: Fly may be
	// away for an hour. After that the verdict is unknown, and a person is asked.
	unsureFor = 90 * time.Minute
)

// An Aim is what a target should be, and how it is looked at from outside.
type Aim struct {
	Goal  release.State  `json:"goal"`
	Probe *release.Probe `json:"probe,omitempty"`
	// Before: the goal is the baseline. A machine that is still of its version is as
	// it was, also while its host can't be reached.
	Before bool `json:"before,omitempty"`
}

// VerifyInput says what should be so, and for how long.
type VerifyInput struct {
	Aims []Aim            `json:"aims"`
	For  release.Duration `json:"for,omitempty"` // 0: until it is sure
	// Within is how long a target may take to become what it should be: what
	// is bad before that may still become good, as a proxy learns of machines.
	Within release.Duration `json:"within,omitempty"`
}

// Verify looks at every target, machine by machine and from outside, until it
// is sure: healthy when all is as it should be inARow times (and for as long as
// asked), unhealthy when it is not badInARow times, unknown when neither could
// be found out. One that is healthy is looked at until it is sure of all: no
// verdict is older than the last. It changes nothing and returns one verdict for
// each target.
func (a *Activities) Verify(ctx context.Context, in VerifyInput) ([]release.Verdict, error) {
	ctx, stop := beatWaiting(ctx)
	defer stop()
	verdicts := make([]release.Verdict, len(in.Aims))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	sure := newQuorum(len(in.Aims))
	for i, aim := range in.Aims {
		wg.Go(func() {
			verdicts[i] = a.verify(ctx, aim, in, sure)
			if verdicts[i].Health == release.Unhealthy {
				cancel() // one bad target is enough: the way back starts now
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

// A quorum is reached when all are for it at once, and then stays so.
type quorum struct {
	mu      sync.Mutex
	missing int
	reached chan struct{}
}

func newQuorum(n int) *quorum { return &quorum{missing: n, reached: make(chan struct{})} }

// vote changes one's mind from was to is, and says whether the quorum is reached.
func (q *quorum) vote(was, is bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.missing == 0 {
		return true
	}
	switch {
	case is && !was:
		q.missing--
	case was && !is:
		q.missing++
	}
	if q.missing == 0 {
		close(q.reached)
	}
	return q.missing == 0
}

func (a *Activities) verify(ctx context.Context, aim Aim, in VerifyInput, sure *quorum) release.Verdict {
	begun, good, bad, wasSure := time.Now(), 0, 0, false
	during, within := time.Duration(in.For), time.Duration(in.Within)
	for {
		every := 2 * a.poll()
		v := a.look(ctx, aim)
		reportWaiting(ctx, aim.Goal.Target.String(), failureText(v))
		switch v.Health {
		case release.Healthy:
			good, bad = good+1, 0
		case release.Unhealthy:
			good, bad = 0, bad+1
		default:
			good = 0
		}
		past := time.Since(begun)
		isSure := good >= inARow && past >= during
		all := sure.vote(wasSure, isSure)
		wasSure = isSure
		switch {
		case bad >= badInARow && past >= within:
			return a.withLogs(ctx, aim, v)
		case all && isSure:
			return v
		case !isSure && past > max(during, within)+unsureFor:
			sure.vote(false, true) // the others need not wait for it
			v.Health = release.Unknown
			return v
		}
		if good > 0 && !isSure && during == 0 {
			every = a.poll() / 20 // each machine was seen to be good before: only to be sure
		}
		var reached chan struct{} // who is not sure goes on looking
		if isSure {
			reached = sure.reached
		}
		select {
		case <-time.After(every):
		case <-reached:
			return v
		case <-ctx.Done():
			v.Health = release.Unknown
			return v
		}
	}
}

// failureText returns the first failure of v and how many there are besides, or
// "".
func failureText(v release.Verdict) string {
	switch n := len(v.Failures); n {
	case 0:
		return ""
	case 1:
		return v.Failures[0].Error()
	default:
		return fmt.Sprintf("%s (and %d more of %s)", v.Failures[0].Error(), n-1, v.Target)
	}
}

// look is one look at a target. What can't be read is unknown, never bad.
func (a *Activities) look(ctx context.Context, aim Aim) release.Verdict {
	v := release.Verdict{Target: aim.Goal.Target, Health: release.Unknown, Machines: len(aim.Goal.Machines)}
	now := release.State{Target: aim.Goal.Target, FlyApp: aim.Goal.FlyApp, URL: aim.Goal.URL}
	if err := lookAgain(ctx, a.Fly, aim.Goal, &now); err != nil {
		v.Failures = []release.Failure{{Target: v.Target, Reason: "could not be looked at: " + err.Error()}}
		return v
	}
	if v.Failures = aim.Goal.Missing(now); len(v.Failures) > 0 {
		v.Health = release.Unhealthy
		return v
	}
	if v.Failures = aim.unseen(now); len(v.Failures) > 0 {
		return v
	}
	serving := false
	for _, m := range now.Machines {
		serving = serving || m.State == "started" && !m.Cordoned
	}
	if aim.Probe == nil || now.URL == "" || !serving {
		v.Health = release.Healthy
		return v
	}
	v.Probed = now.URL + aim.Probe.Path
	v.Health, v.Failures = a.probe(ctx, v.Target, v.Probed)
	return v
}

// probe asks the target from outside. An answer is good or bad; no answer is
// unknown, because it may be our own network.
func (a *Activities) probe(ctx context.Context, t release.Target, url string) (release.Health, []release.Failure) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	fail := func(reason, output string) []release.Failure {
		return []release.Failure{{Target: t, Reason: reason, Output: output}}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return release.Unknown, fail("has a probe that can't be sent", err.Error())
	}
	resp, err := cmp.Or(a.Edge, http.DefaultClient).Do(req)
	if err != nil {
		return release.Unknown, fail("did not answer the probe of "+url, err.Error())
	}
	defer resp.Body.Close()
	if resp.StatusCode < 400 {
		return release.Healthy, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 400))
	if err != nil {
		body = nil
	}
	return release.Unhealthy, fail(fmt.Sprintf("answered the probe of %s with %s", url, resp.Status), string(body))
}

// withLogs adds the last lines of the machines that failed.
func (a *Activities) withLogs(ctx context.Context, aim Aim, v release.Verdict) release.Verdict {
	for i, f := range v.Failures {
		if f.Machine != "" {
			v.Failures[i].Log = a.lastLines(ctx, aim.Goal.FlyApp, f.Machine)
		}
	}
	return v
}
