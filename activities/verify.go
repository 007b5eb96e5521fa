package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/microbima/release/release"
)

const (
	// inARow is how often in a row a target must be found good to be called healthy.
	inARow = 2
	// badInARow is how often in a row a target must be found bad to be called
	// unhealthy.
	badInARow = 3
	// unsureFor is how long verifying goes on when it can't find out: Fly may be
	// away for an hour. After that the verdict is unknown, and a person is asked.
	unsureFor = 90 * time.Minute
)

// An Aim is what a target should be, and how that is found out.
type Aim struct {
	Goal  release.State  `json:"goal"`
	Probe *release.Probe `json:"probe,omitempty"`
	// Changed are the groups that the plan changes; Ran, those of which a machine
	// ran the new version and passed, though it may have been stopped since.
	Changed []string `json:"changed,omitempty"`
	Ran     []string `json:"ran,omitempty"`
	// Removed are the IDs of machines that the plan destroys: they run the old version.
	Removed []string `json:"removed,omitempty"`
	// Resumed are the IDs of machines that a rollout without a report launched.
	Resumed []string `json:"resumed,omitempty"`
	// Back: the goal is a baseline. What comes back may be as it was.
	Back bool `json:"back,omitempty"`
	// RefuseUnchecked: a target that nothing checks counts as unhealthy.
	RefuseUnchecked bool `json:"refuse_unchecked,omitempty"`
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
// asked), unhealthy when it is not badInARow times, unchecked when nothing says
// whether it is, unknown when it could not be found out. One that it is sure of is
// looked at until it is sure of all: no verdict is older than the last. It
// changes nothing and returns one verdict for each target.
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
			verdicts[i] = aim.refuse(a.verify(ctx, aim, in, sure))
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

// refuse returns v as unhealthy where it is unchecked and the project does not
// let that be promoted.
func (aim Aim) refuse(v release.Verdict) release.Verdict {
	if v.Health == release.Unchecked && aim.RefuseUnchecked && len(aim.Changed) > 0 {
		v.Health = release.Unhealthy
		v.Failures = []release.Failure{{
			Target: v.Target, Reason: `is unchecked, and release.toml says unchecked = "refuse": ` + strings.Join(v.Notes, "; "),
		}}
	}
	return v
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

// smokeTime is how long a machine without a check has to stay up before it is
// believed: as long as flyctl watches one.
const smokeTime = 10 * time.Second

func (a *Activities) verify(ctx context.Context, aim Aim, in VerifyInput, sure *quorum) release.Verdict {
	begun, good, bad, wasSure := time.Now(), 0, 0, false
	during, within := time.Duration(in.For), time.Duration(in.Within)
	if !aim.Back && aim.Goal.IsBare(aim.Changed) {
		during = max(during, smokeTime)
	}
	ports := portWatch{settled: map[release.Listener]bool{}, patience: min(max(during, within), 30*time.Second)}
	for {
		every := 2 * a.poll()
		v, now := a.look(ctx, aim)
		past := time.Since(begun)
		waits := a.listen(ctx, aim, now, &v, &ports, past)
		reportWaiting(ctx, aim.Goal.Target.String(), failureText(v))
		switch v.Health {
		case release.Healthy, release.Unchecked:
			if good, bad = good+1, 0; waits {
				good = 0
			}
		case release.Unhealthy:
			good, bad = 0, bad+1
		default:
			good = 0
		}
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
			every = a.poll() / 100 // each machine was seen to be good before: only to be sure
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

// look is one look at a target, and what it saw. What can't be read is unknown,
// never bad.
func (a *Activities) look(ctx context.Context, aim Aim) (release.Verdict, release.State) {
	v := release.Verdict{Target: aim.Goal.Target, Health: release.Unknown, Machines: len(aim.Goal.Machines), At: time.Now()}
	now := release.State{Target: aim.Goal.Target, FlyApp: aim.Goal.FlyApp, URL: aim.Goal.URL}
	if err := lookAgain(ctx, a.Fly, aim.Goal, &now); err != nil {
		v.Failures = []release.Failure{{Target: v.Target, Reason: "could not be looked at: " + err.Error()}}
		return v, now
	}
	if v.Failures = aim.Goal.Missing(now, release.ExitRule{Back: aim.Back, Resumed: aim.Resumed, At: time.Now()}); len(v.Failures) > 0 {
		v.Health = release.Unhealthy
		return v, now
	}
	if v.Failures = aim.unseen(now); len(v.Failures) > 0 {
		return v, now
	}
	proof := release.Proof{Ran: aim.Ran, Probe: aim.Probe != nil, Back: aim.Back, Removed: aim.Removed}
	if aim.Probe != nil && now.URL != "" && serves(now) {
		var health release.Health
		v.Probed = aim.Probe.At(now.URL)
		if health, v.Failures = a.probe(ctx, v.Target, *aim.Probe, now.URL); health != release.Healthy {
			v.Health = health
			return v, now
		}
		proof.Answered = true
	}
	v.Health, v.Notes, v.Idle = aim.Goal.Judge(now, proof)
	return v, now
}

// serves reports whether a machine of s may get traffic.
func serves(s release.State) bool {
	return slices.ContainsFunc(s.Machines, func(m release.Machine) bool { return m.State == "started" && !m.Cordoned })
}

// maxLogged is of how many machines of a target that failed the logs are read: a
// thousand of them would be more than Temporal stores.
const maxLogged = 8

// withLogs adds the last lines of the first machines that failed.
func (a *Activities) withLogs(ctx context.Context, aim Aim, v release.Verdict) release.Verdict {
	read := 0
	for i, f := range v.Failures {
		if f.Machine != "" && read < maxLogged {
			v.Failures[i].Log = a.lastLines(ctx, aim.Goal.FlyApp, f.Machine)
			read++
		}
	}
	return v
}
