package flysim

// Idle simulates that Fly's proxy sees no traffic for a machine: if it is
// started and its services have autostop, it is stopped or suspended, whatever
// min_machines_running is.
func (s *Sim) Idle(app, id string) {
	s.withMachine(app, id, func(m *machine) {
		if m.View.State != "started" {
			return
		}
		switch m.config().autostop() {
		case "stop":
			s.addEvent(m, "stop", "stopping", "proxy", nil)
			s.beginStop(m, "stopping", "", 0, func(code int) { s.finishStop(m, code) })
		case "suspend":
			s.beginSuspend(m, "proxy")
		}
	})
}

// Wake simulates a request for a machine: a stopped or suspended one that is
// not cordoned is started, unless its services have no autostart.
func (s *Sim) Wake(app, id string) {
	s.withMachine(app, id, func(m *machine) {
		down := m.View.State == "stopped" || m.View.State == "suspended"
		if down && !m.View.Cordoned && m.config().autostart() {
			s.addEvent(m, "start", "starting", "proxy", nil)
			s.launchMachine(m, "starting")
		}
	})
}

// autostop returns what the proxy does with an idle machine of that config:
// "stop", "suspend" or "".
func (c config) autostop() string {
	for _, s := range c.Services {
		switch s.Autostop {
		case true, "stop":
			return "stop"
		case "suspend":
			return "suspend"
		}
	}
	return ""
}

// autostart reports whether the proxy starts machines of that config, which is
// Fly's default.
func (c config) autostart() bool {
	for _, s := range c.Services {
		if s.Autostart == nil || *s.Autostart {
			return true
		}
	}
	return false
}
