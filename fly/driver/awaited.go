package driver

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// An observedMachine is a machine that was just read.
type observedMachine struct {
	fly.Machine
	described release.Machine
}

// isReached reports whether m, as just read, has reached its state.
func (w awaitedMachine) isReached(m observedMachine) bool {
	seen := m.described
	if m.InstanceID != w.version || seen.Host != "" {
		return false // another version, or an unreachable host
	}
	if !w.runs || w.step.SkipHealthCheck {
		return !isTransitional(m.State)
	}
	if seen.HasCompleted() && !w.want.Facts().HasServices && w.want.Facts().WantedChecks == 0 {
		return true // its work has finished
	}
	return m.State == "started" && len(m.Checks) >= w.want.Facts().WantedChecks && seen.IsHealthy()
}

// isAsleep reports whether Fly's proxy stopped m, for lack of requests, before m was
// healthy.
func (w awaitedMachine) isAsleep(m observedMachine) bool {
	seen := m.described
	return w.runs && !w.step.SkipHealthCheck && m.InstanceID == w.version && seen.Host == "" && seen.Exit == nil && !isTransitional(m.State) && seen.IsAsleep()
}

// failureOf returns the permanent failure of m, or nil.
func (w awaitedMachine) failureOf(m observedMachine) *release.Failure {
	f := release.Failure{Target: w.step.Target, Machine: m.ID, Name: m.Name, Group: w.step.Group}
	exit := m.described.Exit
	switch {
	case m.State == "destroyed":
		f.Reason = "was destroyed by another client"
	case isHostAway(m.Machine):
		return nil // Fly returns only old facts
	case m.InstanceID != w.version && !isOn(m.described, w.step, w.want):
		f.Reason = fmt.Sprintf("is at version %s, not at %s, which it was given: Fly or another client put another version in its place", m.InstanceID, w.version)
	case !w.runs || w.step.SkipHealthCheck:
		return nil
	case exit != nil && w.isFailedExit(m, *exit):
		f.Reason = exit.String()
		f.ExitCode = &exit.Code
	case m.State == "failed", m.State == "launch_failed":
		f.Reason = "could not be started"
	default:
		return nil
	}
	return &f
}

// isFailedExit reports whether an unrequested exit of m is a failure. A restored
// machine may exit once while it starts, because it may have done so before.
func (w awaitedMachine) isFailedExit(m observedMachine, exit release.Exit) bool {
	if m.described.HasCompleted() {
		return false // its work has finished, or the timeout decides
	}
	again := exit.Restarts > 1 && exit.IsRecent(time.Now())
	return !w.step.Verbatim || again || m.State == "stopped" || m.State == "failed"
}

// waitSetting names the setting of the timeout, for messages.
const waitSetting = "wait_timeout of [deploy] in its fly.toml"

// timeoutFailure returns the failure of m after its timeout.
func (w awaitedMachine) timeoutFailure(m observedMachine, limit time.Duration) release.Failure {
	f := release.Failure{Target: w.step.Target, Machine: m.ID, Name: m.Name, Group: w.step.Group}
	seen := m.described
	if seen.Host != "" {
		f.Reason = fmt.Sprintf("could not be read within %s: its host is %s", limit, seen.Host)
		return f
	}
	f.Reason = fmt.Sprintf("is %s after %s (%s), not started", m.State, limit, waitSetting)
	if seen.Exit != nil {
		f.ExitCode = &seen.Exit.Code
	}
	if m.State != "started" {
		return f
	}
	f.Reason = fmt.Sprintf("reports %d of its %d checks after %s (%s)", len(m.Checks), w.want.Facts().WantedChecks, limit, waitSetting)
	if c := failingCheck(m.Machine); c != nil {
		f.Reason = fmt.Sprintf("check %s did not pass within %s (%s)", c.Name, limit, waitSetting)
		f.Check = c.Name
		f.Output = lastBytes(c.Output, 400)
	}
	return f
}

// waitText returns a sentence on the state of m that is waited for to change.
func (w awaitedMachine) waitText(m fly.Machine) string {
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
