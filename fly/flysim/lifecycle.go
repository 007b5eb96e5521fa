package flysim

import (
	"slices"
	"time"

	"github.com/microbima/release/fly"
)

// The functions of this file are the transitions of machines. All are called
// with the lock held; they leave whatever takes time to schedule and
// startGoroutine.

// launchMachine boots m with its current config.
func (s *Sim) launchMachine(m *machine, state string) {
	m.generation++
	m.NotLaunched = false
	s.setState(m, state)
	if !m.HasFault {
		m.Behaviour = Behaviour{}
		if s.Behave != nil {
			m.Behaviour = s.Behave(m.app.Name, []byte(m.Config))
		}
	}
	if m.Behaviour.NeverStarts {
		return
	}
	if s.Runner != nil {
		s.startProcess(m)
		return
	}
	boot := s.Latency.Boot
	if m.Behaviour.BootTakes > 0 {
		boot = m.Behaviour.BootTakes
	}
	s.schedule(m, boot, func() { s.finishStart(m) })
}

// finishStart makes m started and schedules what follows.
func (s *Sim) finishStart(m *machine) {
	s.addEvent(m, "start", "started", "flyd", nil)
	s.setState(m, "started")
	s.recordPass(m)
	if !m.config().runsOnce() {
		m.app.Status = "deployed"
	}
	for _, line := range m.Behaviour.Log {
		s.appendLog(m, line)
	}
	s.scheduleRun(m)
}

// scheduleRun starts the checks of a started machine and, if its process is to
// end by itself, schedules that.
func (s *Sim) scheduleRun(m *machine) {
	s.startChecks(m)
	code, takes := 0, s.Latency.Command
	switch {
	case m.Behaviour.CrashExit != nil:
		code, takes = *m.Behaviour.CrashExit, m.Behaviour.RunsFor
	case m.proc != nil || !m.config().runsOnce():
		return
	case m.Behaviour.RunsFor > 0:
		takes = m.Behaviour.RunsFor
	}
	crash := m.Behaviour.CrashExit
	s.schedule(m, takes, func() {
		if crash != nil && m.Behaviour.CrashExit == nil {
			return // reset by Heal
		}
		s.endProcess(m, 0, "SIGKILL", time.Second, func(int) {
			if m.Behaviour.Exits--; m.Behaviour.Exits == 0 {
				m.Behaviour, m.HasFault = Behaviour{}, true
			}
			s.handleExit(m, code)
		})
	})
}

// handleExit handles an exit of m's process that nobody requested.
func (s *Sim) handleExit(m *machine, code int) {
	m.generation++
	if m.History.Exits++; m.History.Exits == 1 {
		m.History.Exited = s.now()
	}
	m.History.LastExited = s.now()
	s.stopChecks(m)
	m.proc = nil
	c := m.config()
	again := c.restartsAfter(code, m.Restarts)
	if again {
		m.Restarts++
	}
	s.addExitEvent(m, fly.ExitEvent{ExitCode: code, GuestExitCode: code, Restarting: again})
	switch {
	case again:
		s.setState(m, "restarting")
		s.schedule(m, s.restartDelay(m.Restarts), func() { s.launchMachine(m, "restarting") })
	case c.AutoDestroy:
		s.finishDestroy(m)
	default:
		s.setState(m, "stopped")
	}
}

// restartDelay returns the time between a crash and the next start. It is never
// 0, or a machine that always crashes would keep the Sim busy.
func (s *Sim) restartDelay(times int) time.Duration {
	if s.Latency.Restart > 0 {
		return s.Latency.Restart
	}
	return min(100*time.Millisecond<<min(times-1, 10), 10*time.Second)
}

func (s *Sim) addExitEvent(m *machine, x fly.ExitEvent) {
	x.ExitedAt = s.now()
	s.addEvent(m, "exit", "stopped", "flyd", &fly.EventRequest{ExitEvent: &x, RestartCount: m.Restarts})
}

// beginStop stops m and calls then with the exit code once it has ended.
func (s *Sim) beginStop(m *machine, state, signal string, timeout time.Duration, then func(code int)) {
	m.generation++
	s.setState(m, state)
	s.stopChecks(m)
	s.endProcess(m, s.Latency.Stop, signal, timeout, then)
}

// endProcess ends m's process or, without one, waits for simulated; then is
// called with the exit code.
func (s *Sim) endProcess(m *machine, simulated time.Duration, signal string, timeout time.Duration, then func(code int)) {
	if m.proc == nil {
		s.schedule(m, simulated, func() { then(0) })
		return
	}
	s.stopProcess(m, signal, timeout, then)
}

// finishStop completes a requested stop.
func (s *Sim) finishStop(m *machine, code int) {
	s.addExitEvent(m, fly.ExitEvent{ExitCode: code, GuestExitCode: code, RequestedStop: true})
	if m.config().AutoDestroy {
		s.finishDestroy(m)
		return
	}
	s.setState(m, "stopped")
}

// replaceVersion gives m a new version and boots it unless skipLaunch is set.
func (s *Sim) replaceVersion(m *machine, config string, ref fly.ImageRef, skipLaunch bool) {
	ran := m.proc
	s.setVersion(m, config, ref)
	s.addEvent(m, "update", "replacing", "user", nil)
	m.generation++
	s.stopChecks(m)
	m.Restarts, m.HasFault, m.NotLaunched = 0, false, skipLaunch
	s.setState(m, "replacing")
	then := func(int) { s.launchMachine(m, "replacing") }
	if skipLaunch {
		then = func(int) { s.setState(m, "stopped") }
	}
	m.proc = ran
	s.endProcess(m, 0, "", 0, then)
}

// setVersion gives m another config and another InstanceID.
func (s *Sim) setVersion(m *machine, config string, ref fly.ImageRef) {
	const remembered = 100
	m.FormerVersions = append(m.FormerVersions, m.View.InstanceID)
	m.FormerVersions = m.FormerVersions[max(0, len(m.FormerVersions)-remembered):]
	m.previous, m.staleUntil = m.apiView(), s.now().Add(staleFor)
	m.View.InstanceID = s.newVersionID()
	m.History = VersionHistory{Version: m.View.InstanceID}
	m.Config, m.View.ImageRef, m.cachedJSON = config, ref, nil
	m.Secrets = m.app.secretValues()
}

// beginDestroy kills m and removes it.
func (s *Sim) beginDestroy(m *machine) {
	m.generation++
	s.setState(m, "destroying")
	s.stopChecks(m)
	s.endProcess(m, s.Latency.Destroy, "SIGKILL", time.Second, func(int) { s.finishDestroy(m) })
}

// finishDestroy marks m as destroyed. It stays readable for a while.
func (s *Sim) finishDestroy(m *machine) {
	s.addEvent(m, "destroy", "destroyed", "user", nil)
	s.setState(m, "destroyed")
	m.generation++
	m.Lease = nil
	for _, v := range m.app.Volumes {
		if v.Machine != nil && *v.Machine == m.View.ID {
			v.Machine = nil
		}
	}
	m.app.pruneDestroyed()
}

// pruneDestroyed deletes all but the newest destroyed machines.
func (a *app) pruneDestroyed() {
	const kept = 100
	var gone []*machine
	for _, m := range a.Machines {
		if m.View.State == "destroyed" {
			gone = append(gone, m)
		}
	}
	slices.SortFunc(gone, func(x, y *machine) int { return y.View.UpdatedAt.Compare(x.View.UpdatedAt) })
	for _, m := range gone[min(len(gone), kept):] {
		delete(a.Machines, m.View.ID)
	}
}

func (a *app) secretValues() map[string]string {
	values := map[string]string{}
	for name, s := range a.Secrets {
		values[name] = s.Value
	}
	return values
}
