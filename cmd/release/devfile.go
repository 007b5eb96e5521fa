package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A devFile says where the Temporal and the Fly of a running `release dev` are.
// Other commands use them where the environment names no others.
type devFile struct {
	Temporal string `json:"temporal"` // host:port
	UI       string `json:"ui"`       // URL of the Web UI
	Fly      string `json:"fly"`      // URL of flysim
	Registry string `json:"registry"` // host:port
	PID      int    `json:"pid"`
	Token    string `json:"token"` // that flysim takes
}

const devFileName = "dev.json"

// stateDir is where this program keeps what must survive it.
func (e *env) stateDir() string {
	if dir := e.getenv("RELEASE_STATE_DIR"); dir != "" {
		return dir
	}
	if dir := e.getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "release")
	}
	return filepath.Join(e.getenv("HOME"), ".local", "state", "release")
}

// checkStateDir returns an error when nothing says where state is kept: it must
// not end up in whatever the current directory is.
func (e *env) checkStateDir() error {
	if e.getenv("RELEASE_STATE_DIR") == "" && e.getenv("XDG_STATE_HOME") == "" && e.getenv("HOME") == "" {
		return errors.New("nothing says where to keep state: HOME is not set; set it, or RELEASE_STATE_DIR to a folder")
	}
	return nil
}

// readDevFile is what the running `release dev` has written, or nil if none
// runs: a file that a killed one left behind counts for nothing.
func (e *env) readDevFile() *devFile {
	doc, err := os.ReadFile(filepath.Join(e.stateDir(), devFileName))
	var dev devFile
	if err != nil || json.Unmarshal(doc, &dev) != nil || !alive(dev.PID) {
		return nil
	}
	return &dev
}

// writeDevFile announces a running `release dev`, in one piece and for this
// user alone: it holds a token. The returned function takes it back.
func (e *env) writeDevFile(dev devFile) (remove func() error, err error) {
	doc, err := json.MarshalIndent(dev, "", "  ")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(e.stateDir(), devFileName)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("announce release dev: %w", err)
	}
	if err := os.WriteFile(path+".new", append(doc, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("announce release dev: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("announce release dev: %w", err)
	}
	return func() error {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}, nil
}

// alive says whether there is a process with that ID.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, fs.ErrPermission)
}
