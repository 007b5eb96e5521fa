package flysim

import (
	"slices"
	"time"

	"github.com/microbima/release/fly"
)

// The functions of this file are the lives of machines. All are called with
// the lock held; what takes time they leave to after and to spawn.

// launch boots m with the config it has.
func (s *Sim) launch(m *machine, state string) {
	m.life++
	m.Down = false
	s.setState(m, state)
	if !m.Odd {
		m.Behaves = Behaviour{}
		if s.Behave != nil {
			m.Behaves = s.Behave(m.app.Name, []byte(m.Config))
		}
	}
	if m.Behaves.NeverStarts {
		return
	}
	if s.Runner != nil {
		s.startProcess(m)
		return
	}
	boot := s.Latency.Boot
	if m.Behaves.BootTakes > 0 {
		boot = m.Behaves.BootTakes
	}
	s.after(m, boot, func() { s.started(m) })
}

// started is what follows once m runs.
func (s *Sim) started(m *machine) {
	s.event(m, "start", "started", "flyd", nil)
	s.setState(m, "started")
	s.pass(m)
	if !m.config().runsOnce() {
		m.app.Status = "deployed"
	}
	for _, line := range m.Behaves.Log {
		s.logLine(m, line)
	}
	s.runs(m)
}

// runs is what happens to a started machine by itself.
func (s *Sim) runs(m *machine) {
	s.check(m)
	code, takes := 0, s.Latency.Command
	switch {
	case m.Behaves.CrashExit != nil:
		code, takes = *m.Behaves.CrashExit, m.Behaves.RunsFor
	case m.proc != nil || !m.config().runsOnce():
		return
	case m.Behaves.RunsFor > 0:
		takes = m.Behaves.RunsFor
	}
	crash := m.Behaves.CrashExit
	s.after(m, takes, func() {
		if crash != nil && m.Behaves.CrashExit == nil {
			return // it was healed
		}
		s.halt(m, 0, "SIGKILL", time.Second, func(int) {
			if m.Behaves.Exits--; m.Behaves.Exits == 0 {
				m.Behaves, m.Odd = Behaviour{}, true
			}
			s.exited(m, code)
		})
	})
}

// exited is what follows when m's process ends by itself.
func (s *Sim) exited(m *machine, code int) {
	m.life++
	if m.Life.Exits++; m.Life.Exits == 1 {
		m.Life.Exited = s.now()
	}
	s.uncheck(m)
	m.proc = nil
	c := m.config()
	again := c.restarts(code, m.Restarts)
	if again {
		m.Restarts++
	}
	s.exitEvent(m, fly.ExitEvent{ExitCode: code, GuestExitCode: code, Restarting: again})
	switch {
	case again:
		s.setState(m, "restarting")
		s.after(m, s.backoff(m.Restarts), func() { s.launch(m, "restarting") })
	case c.AutoDestroy:
		s.destroyed(m)
	default:
		s.setState(m, "stopped")
	}
}

// backoff is the time between a crash and the next start: never none, or a
// machine that always crashes would keep the Sim busy.
func (s *Sim) backoff(times int) time.Duration {
	if s.Latency.Restart > 0 {
		return s.Latency.Restart
	}
	return min(100*time.Millisecond<<min(times-1, 10), 10*time.Second)
}

func (s *Sim) exitEvent(m *machine, x fly.ExitEvent) {
	x.ExitedAt = s.now()
	s.event(m, "exit", "stopped", "flyd", &fly.EventRequest{ExitEvent: &x, RestartCount: m.Restarts})
}

// stop ends m; then is called once it has ended, with its exit code.
func (s *Sim) stop(m *machine, state, signal string, timeout time.Duration, then func(code int)) {
	m.life++
	s.setState(m, state)
	s.uncheck(m)
	s.halt(m, s.Latency.Stop, signal, timeout, then)
}

// halt ends m's process, or pretends to for as long as makeBelieve; then is
// called with the code it ended with.
func (s *Sim) halt(m *machine, makeBelieve time.Duration, signal string, timeout time.Duration, then func(code int)) {
	if m.proc == nil {
		s.after(m, makeBelieve, func() { then(0) })
		return
	}
	s.stopProcess(m, signal, timeout, then)
}

// stopped is a stop that somebody asked for, done.
func (s *Sim) stopped(m *machine, code int) {
	s.exitEvent(m, fly.ExitEvent{ExitCode: code, GuestExitCode: code, RequestedStop: true})
	if m.config().AutoDestroy {
		s.destroyed(m)
		return
	}
	s.setState(m, "stopped")
}

// replace makes another version of m, and boots it unless it is to stay down.
func (s *Sim) replace(m *machine, config string, ref fly.ImageRef, skipLaunch bool) {
	ran := m.proc
	s.version(m, config, ref)
	s.event(m, "update", "replacing", "user", nil)
	m.life++
	s.uncheck(m)
	m.Restarts, m.Odd, m.Down = 0, false, skipLaunch
	s.setState(m, "replacing")
	then := func(int) { s.launch(m, "replacing") }
	if skipLaunch {
		then = func(int) { s.setState(m, "stopped") }
	}
	m.proc = ran
	s.halt(m, 0, "", 0, then)
}

// version gives m another config and another InstanceID.
func (s *Sim) version(m *machine, config string, ref fly.ImageRef) {
	const remembered = 100
	m.Former = append(m.Former, m.View.InstanceID)
	m.Former = m.Former[max(0, len(m.Former)-remembered):]
	m.former, m.formerUntil = m.view(), s.now().Add(staleFor)
	m.View.InstanceID = s.ulid()
	m.Life = Life{Version: m.View.InstanceID}
	m.Config, m.View.ImageRef, m.shown = config, ref, nil
	m.Secrets = m.app.secretValues()
}

// destroy kills m and removes it.
func (s *Sim) destroy(m *machine) {
	m.life++
	s.setState(m, "destroying")
	s.uncheck(m)
	s.halt(m, s.Latency.Destroy, "SIGKILL", time.Second, func(int) { s.destroyed(m) })
}

// destroyed: m is gone, but may be read for a while.
func (s *Sim) destroyed(m *machine) {
	s.event(m, "destroy", "destroyed", "user", nil)
	s.setState(m, "destroyed")
	m.life++
	m.Lease = nil
	for _, v := range m.app.Volumes {
		if v.Machine != nil && *v.Machine == m.View.ID {
			v.Machine = nil
		}
	}
	m.app.forget()
}

// forget drops the destroyed machines that were destroyed longest ago.
func (a *app) forget() {
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
