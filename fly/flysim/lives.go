package flysim

import "time"

// A Life is what became of a machine's present version.
type Life struct {
	Version string    `json:"version"`         // its InstanceID
	Passed  time.Time `json:"passed,omitzero"` // it was first started then, with all its checks passing
	Exits   int       `json:"exits,omitempty"` // how often it ended without being asked to
	Exited  time.Time `json:"exited,omitzero"` // the first time
}

// Lives returns what became of the present versions of an app's machines, by
// machine ID.
func (s *Sim) Lives(appName string) map[string]Life {
	out := map[string]Life{}
	s.setup(func() {
		if a := s.world.Apps[appName]; a != nil {
			for id, m := range a.Machines {
				out[id] = m.Life
			}
		}
	})
	return out
}

// pass notes that m runs and all its checks pass, if that is so.
func (s *Sim) pass(m *machine) {
	if m.Life.Passed.IsZero() && m.View.State == "started" && len(m.View.Checks) >= len(m.config().checks()) && allPass(m) {
		m.Life.Passed = s.now()
	}
}

func allPass(m *machine) bool {
	for _, c := range m.View.Checks {
		if c.Status != "passing" {
			return false
		}
	}
	return true
}

// Exit ends the process of a machine with that code, once: its restart policy
// says whether it is started again.
func (s *Sim) Exit(appName, id string, code int) {
	s.onMachine(appName, id, func(m *machine) {
		if m.View.State == "started" {
			s.halt(m, 0, "SIGKILL", time.Second, func(int) { s.exited(m, code) })
		}
	})
}
