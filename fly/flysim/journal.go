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

// Save writes everything that is kept of a Sim to a file, in one step: whoever
// reads it finds all of it or what was there before.
func (s *Sim) Save(path string) error {
	if err := s.Open(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(path)
}

// Load reads what Save wrote into a Sim that has not been used yet, and starts
// what ran. A file that is not there is an error.
func (s *Sim) Load(path string) error {
	if err := s.Open(); err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("flysim: load: %w", err)
	}
	s.mu.Lock()
	err := s.read(path)
	s.settle()
	return err
}

func (s *Sim) journal() error {
	if s.Journal == "" || s.closed {
		return nil
	}
	return s.write(s.Journal)
}

func (s *Sim) write(path string) error {
	doc, err := json.Marshal(&s.world)
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

// read takes over what a journal says, and resumes every machine.
func (s *Sim) read(path string) error {
	doc, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("flysim: load: %w", err)
	}
	var w world
	if err := json.Unmarshal(doc, &w); err != nil {
		return fmt.Errorf("flysim: load %s: not a journal of flysim: %w; remove it to start anew", path, err)
	}
	if w.Apps == nil {
		w.Apps = map[string]*app{}
	}
	s.world = w
	for _, a := range w.Apps {
		if a.Machines == nil {
			a.Machines = map[string]*machine{}
		}
		if a.Secrets == nil {
			a.Secrets = map[string]secret{}
		}
		for _, m := range a.sorted() {
			m.app, m.changed = a, make(chan struct{})
			s.resume(m)
		}
	}
	return nil
}

// resume goes on where a machine was when the journal was written.
func (s *Sim) resume(m *machine) {
	state := m.View.State
	switch {
	case state == "replacing" && m.Down:
		s.after(m, 0, func() { s.setState(m, "stopped") })
	case state == "started" && s.Runner == nil:
		s.after(m, 0, func() { s.runs(m) })
	case slices.Contains([]string{"started", "starting", "restarting", "replacing"}, state):
		m.View.Checks = nil
		s.after(m, 0, func() { s.launch(m, "starting") })
	case state == "suspending":
		s.after(m, s.Latency.Stop, func() { s.setState(m, "suspended") })
	case state == "stopping":
		s.after(m, s.Latency.Stop, func() { s.stopped(m, 0) })
	case state == "destroying":
		s.after(m, s.Latency.Destroy, func() { s.destroyed(m) })
	case state == "created":
		s.after(m, 0, func() { s.setState(m, "stopped") })
	}
}
