package flysim

// Idle has Fly's proxy see no traffic for a machine: a started one whose
// services have autostop is stopped or suspended, as they say, whatever
// min_machines_running says. Others stay as they are.
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

// Wake has Fly's proxy want a machine for a request: a stopped or suspended
// one that is not cordoned is started, unless its services have no autostart.
func (s *Sim) Wake(app, id string) {
	s.withMachine(app, id, func(m *machine) {
		down := m.View.State == "stopped" || m.View.State == "suspended"
		if down && !m.View.Cordoned && m.config().autostart() {
			s.addEvent(m, "start", "starting", "proxy", nil)
			s.launchMachine(m, "starting")
		}
	})
}

// autostop is what the proxy does to an idle machine of that config: "stop",
// "suspend" or nothing.
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

// autostart says whether the proxy starts machines of that config. Fly's
// default is that it does.
func (c config) autostart() bool {
	for _, s := range c.Services {
		if s.Autostart == nil || *s.Autostart {
			return true
		}
	}
	return false
}
