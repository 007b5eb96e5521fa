package flysim

import (
	"context"
	"slices"
	"time"
)

// startProcess has the Runner start m.
func (s *Sim) startProcess(m *machine) {
	life := m.generation
	c := m.config()
	in := Instance{App: m.app.Name, ID: m.View.ID, Name: m.View.Name, Region: m.View.Region, InstanceID: m.View.InstanceID,
		Group: c.processGroup(), Config: []byte(m.Config), Secrets: m.Secrets, Cordoned: m.View.Cordoned}
	s.startGoroutine(func() {
		proc, err := s.Runner.Start(s.ctx, in)
		unwanted := false
		s.withLock(func() {
			switch {
			case s.closed || m.generation != life:
				unwanted = err == nil
			case err != nil:
				s.appendLog(m, err.Error())
				s.addEvent(m, "launch", "failed", "flyd", nil)
				s.setState(m, "failed")
			default:
				m.proc = proc
				s.finishStart(m)
				s.startGoroutine(func() { s.watchProcess(m, proc) })
			}
		})
		if unwanted {
			_ = proc.Stop(context.WithoutCancel(s.ctx), "SIGKILL", time.Second)
		}
	})
}

// watchProcess waits for a process to end.
func (s *Sim) watchProcess(m *machine, proc Process) {
	select {
	case <-proc.Done():
	case <-s.ctx.Done():
		return // Close stops the process
	}
	s.withLock(func() {
		if m.proc == proc && !s.closed {
			s.collectFinalLog(m, proc)
			s.handleExit(m, proc.ExitCode())
		}
	})
}

// stopProcess stops m's process and calls then with its exit code when it has
// ended, unless m gets another order first.
func (s *Sim) stopProcess(m *machine, signal string, timeout time.Duration, then func(code int)) {
	proc, life := m.proc, m.generation
	m.proc = nil
	c := m.config()
	if signal == "" {
		signal = c.StopConfig.Signal
	}
	if timeout <= 0 {
		timeout = time.Duration(c.StopConfig.Timeout)
	}
	if timeout <= 0 {
		timeout = 5 * time.Second // Fly's default
	}
	s.startGoroutine(func() {
		err := proc.Stop(context.WithoutCancel(s.ctx), signal, timeout)
		code := 0
		if err == nil {
			code = proc.ExitCode()
		}
		s.withLock(func() {
			s.collectFinalLog(m, proc)
			if err != nil {
				s.appendLog(m, "flysim: "+err.Error())
			}
			if m.generation == life && !s.closed {
				then(code)
			}
		})
	})
}

// updateRoute calls Runner.Route if the backends of the app have changed.
func (s *Sim) updateRoute(name string) {
	if s.Runner == nil {
		return
	}
	s.routeMu.Lock()
	defer s.routeMu.Unlock()
	s.mu.Lock()
	backends := s.backends(name)
	same := slices.Equal(backends, s.lastRoutes[name])
	s.lastRoutes[name] = backends
	s.mu.Unlock()
	if !same {
		s.Runner.Route(name, slices.Clone(backends))
	}
}

// backends returns the machines of an app that may get traffic: started,
// uncordoned, with a service and all service checks passing.
func (s *Sim) backends(name string) []Backend {
	var out []Backend
	if s.closed || s.state.Apps[name] == nil {
		return nil
	}
	for _, m := range s.state.Apps[name].sortedMachines() {
		c := m.config()
		if m.View.State == "started" && !m.View.Cordoned && m.proc != nil && c.urlPort() != 0 && serviceChecksPass(m, c) {
			out = append(out, Backend{Machine: m.View.ID, Process: m.proc, Port: c.urlPort()})
		}
	}
	return out
}
