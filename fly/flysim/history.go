package flysim

import "time"

// A Life is what became of a machine's present version.
type VersionHistory struct {
	Version string    `json:"version"`         // its InstanceID
	Passed  time.Time `json:"passed,omitzero"` // it was first started then, with all its checks passing
	Exits   int       `json:"exits,omitempty"` // how often it ended without being asked to
	Exited  time.Time `json:"exited,omitzero"` // the first time
}

// Lives returns what became of the present versions of an app's machines, by
// machine ID.
func (s *Sim) VersionHistories(appName string) map[string]VersionHistory {
	out := map[string]VersionHistory{}
	s.withState(func() {
		if a := s.state.Apps[appName]; a != nil {
			for id, m := range a.Machines {
				out[id] = m.History
			}
		}
	})
	return out
}

// pass notes that m runs and all its checks pass, if that is so.
func (s *Sim) recordPass(m *machine) {
	if m.History.Passed.IsZero() && m.View.State == "started" && len(m.View.Checks) >= len(m.config().checks()) && allChecksPass(m) {
		m.History.Passed = s.now()
	}
}

func allChecksPass(m *machine) bool {
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
	s.withMachine(appName, id, func(m *machine) {
		if m.View.State == "started" {
			s.endProcess(m, 0, "SIGKILL", time.Second, func(int) { s.handleExit(m, code) })
		}
	})
}
