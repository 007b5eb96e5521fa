package flysim

import "time"

// A VersionHistory is what has happened to the current version of a machine.
type VersionHistory struct {
	Version string    `json:"version"`         // its InstanceID
	Passed  time.Time `json:"passed,omitzero"` // when all its checks first passed while it was started
	Exits   int       `json:"exits,omitempty"` // number of unrequested exits
	Exited  time.Time `json:"exited,omitzero"` // the first of them
	// LastExited is the newest of them.
	LastExited time.Time `json:"last_exited,omitzero"`
}

// VersionHistories returns the history of the current version of each machine
// of an app, by machine ID.
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

// recordPass records the time if m is started and all its checks pass for the
// first time.
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
// decides whether it is started again.
func (s *Sim) Exit(appName, id string, code int) {
	s.withMachine(appName, id, func(m *machine) {
		if m.View.State == "started" {
			s.endProcess(m, 0, "SIGKILL", time.Second, func(int) { s.handleExit(m, code) })
		}
	})
}
