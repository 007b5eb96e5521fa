package flysim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Save writes the state of a Sim to a file, atomically: a reader finds the
// complete old or new content.
func (s *Sim) Save(path string) error {
	if err := s.Open(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeState(path)
}

// Load reads a file of Save into a Sim that has not been used yet, and starts
// the machines that ran. A missing file is an error.
func (s *Sim) Load(path string) error {
	if err := s.Open(); err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("flysim: load: %w", err)
	}
	s.mu.Lock()
	err := s.readState(path)
	s.settleAndUnlock()
	return err
}

func (s *Sim) saveJournal() error {
	if s.Journal == "" || s.closed {
		return nil
	}
	return s.writeState(s.Journal)
}

func (s *Sim) writeState(path string) error {
	doc, err := json.Marshal(&s.state)
	if err != nil {
		return fmt.Errorf("flysim: save: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("flysim: save: %w", err)
	}
	_, err = f.Write(doc)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("flysim: save: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// readState replaces the state by that of a journal, and resumes every machine.
func (s *Sim) readState(path string) error {
	doc, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("flysim: load: %w", err)
	}
	var w journalState
	if err := json.Unmarshal(doc, &w); err != nil {
		return fmt.Errorf("flysim: load %s: not a journal of flysim: %w; remove it to start anew", path, err)
	}
	if w.Apps == nil {
		w.Apps = map[string]*app{}
	}
	s.state = w
	for _, a := range w.Apps {
		if a.Machines == nil {
			a.Machines = map[string]*machine{}
		}
		if a.Secrets == nil {
			a.Secrets = map[string]secret{}
		}
		for _, m := range a.sortedMachines() {
			m.app, m.changed = a, make(chan struct{})
			s.resumeMachine(m)
		}
	}
	return nil
}

// resumeMachine continues the transition that m was in when the journal was
// written.
func (s *Sim) resumeMachine(m *machine) {
	state := m.View.State
	switch {
	case state == "replacing" && m.NotLaunched:
		s.schedule(m, 0, func() { s.setState(m, "stopped") })
	case state == "started" && s.Runner == nil:
		s.schedule(m, 0, func() { s.scheduleRun(m) })
	case slices.Contains([]string{"started", "starting", "restarting", "replacing"}, state):
		m.View.Checks = nil
		s.schedule(m, 0, func() { s.launchMachine(m, "starting") })
	case state == "suspending":
		s.schedule(m, s.Latency.Stop, func() { s.setState(m, "suspended") })
	case state == "stopping":
		s.schedule(m, s.Latency.Stop, func() { s.finishStop(m, 0) })
	case state == "destroying":
		s.schedule(m, s.Latency.Destroy, func() { s.finishDestroy(m) })
	case state == "created":
		s.schedule(m, 0, func() { s.setState(m, "stopped") })
	}
}
