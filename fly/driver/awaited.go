package driver

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// isReached reports whether m is, at this read, as it should be.
func (w awaited) isReached(m fly.Machine) bool {
	seen := Describe(m)
	if m.InstanceID != w.version || seen.Host != "" {
		return false // another version, or one that Fly itself cannot reach
	}
	if !w.runs || w.step.Unchecked {
		return !isTransitional(m.State)
	}
	if seen.Ended() && !release.Serves(w.want) && release.ChecksIn(w.want) == 0 {
		return true // its work is done
	}
	return m.State == "started" && len(m.Checks) >= release.ChecksIn(w.want) && seen.Healthy()
}

// isAsleep reports whether Fly's proxy has stopped m before it was found healthy: no
// request has come for it.
func (w awaited) isAsleep(m fly.Machine) bool {
	seen := Describe(m)
	return w.runs && !w.step.Unchecked && m.InstanceID == w.version && seen.Host == "" && seen.Exit == nil && !isTransitional(m.State) && seen.Rests()
}

// failureOf returns what is wrong with m for good, or nil.
func (w awaited) failureOf(m fly.Machine) *release.Failure {
	f := release.Failure{Target: w.step.Target, Machine: m.ID, Name: m.Name, Group: w.step.Group}
	exit := Describe(m).Exit
	switch {
	case m.State == "destroyed":
		f.Reason = "was destroyed by somebody else"
	case isHostAway(m):
		return nil // the facts that Fly has of it are old
	case m.InstanceID != w.version && !isOn(m, w.step, w.want):
		f.Reason = fmt.Sprintf("is at version %s, not at %s, which it was given: Fly put another version in its place, or somebody else did", m.InstanceID, w.version)
	case !w.runs || w.step.Unchecked:
		return nil
	case exit != nil && w.isFailedExit(m, *exit):
		f.Reason, f.ExitCode = exit.String(), &exit.Code
	case m.State == "failed", m.State == "launch_failed":
		f.Reason = "could not be started"
	default:
		return nil
	}
	return &f
}

// isFailedExit reports whether an exit of m that nobody requested is a failure. A
// restored machine may exit once while it starts, as it may have before.
func (w awaited) isFailedExit(m fly.Machine, exit release.Exit) bool {
	if Describe(m).Ended() {
		return false // its work is done, or it is late
	}
	again := exit.Restarts > 1 && exit.IsRecent(time.Now())
	return !w.step.Exact || again || m.State == "stopped" || m.State == "failed"
}

// waitSetting names the setting that gives a machine more time.
const waitSetting = "wait_timeout of [deploy] in its fly.toml"

// timeoutFailure returns what m lacks when its time is over.
func (w awaited) timeoutFailure(m fly.Machine, limit time.Duration) release.Failure {
	f := release.Failure{Target: w.step.Target, Machine: m.ID, Name: m.Name, Group: w.step.Group}
	seen := Describe(m)
	if seen.Host != "" {
		f.Reason = fmt.Sprintf("could not be seen within %s: its host is %s", limit, seen.Host)
		return f
	}
	f.Reason = fmt.Sprintf("is %s after %s (%s), not started", m.State, limit, waitSetting)
	if seen.Exit != nil {
		f.ExitCode = &seen.Exit.Code
	}
	if m.State != "started" {
		return f
	}
	f.Reason = fmt.Sprintf("reports %d of its %d checks after %s (%s)", len(m.Checks), release.ChecksIn(w.want), limit, waitSetting)
	if c := failingCheck(m); c != nil {
		f.Reason = fmt.Sprintf("check %s did not pass within %s (%s)", c.Name, limit, waitSetting)
		f.Check, f.Output = c.Name, lastBytes(c.Output, 400)
	}
	return f
}

// waitText returns in a sentence what m lacks.
func (w awaited) waitText(m fly.Machine) string {
	text := fmt.Sprintf("machine %s of %s is %s", m.ID, w.step.Target, m.State)
	if c := failingCheck(m); c != nil {
		text += fmt.Sprintf(", check %s is %s: %s", c.Name, c.Status, strings.TrimSpace(c.Output))
	}
	return strings.TrimSuffix(text, ": ")
}

// failingCheck returns the first check of m that does not pass, or nil.
func failingCheck(m fly.Machine) *fly.Check {
	i := slices.IndexFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" })
	if i < 0 {
		return nil
	}
	return &m.Checks[i]
}
