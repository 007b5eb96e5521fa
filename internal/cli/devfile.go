package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A DevFile contains the addresses of a running `release dev`. Commands use them unless the
// environment has others.
type DevFile struct {
	Temporal string `json:"temporal"` // host:port
	UI       string `json:"ui"`       // URL of the Web UI
	Fly      string `json:"fly"`      // URL of flysim
	Registry string `json:"registry"` // host:port
	PID      int    `json:"pid"`
	Token    string `json:"token"` // accepted by flysim
}

// DevFileName is the name of the file in the state directory.
const DevFileName = "dev.json"

// StateDir returns the directory for persistent state.
func StateDir(env Environ) string {
	if dir := env.Get("RELEASE_STATE_DIR"); dir != "" {
		return dir
	}
	if dir := env.Get("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "release")
	}
	return filepath.Join(env.Get("HOME"), ".local", "state", "release")
}

// CheckStateDir returns an error if no variable names the state directory, so that state is
// never written to the current directory.
func CheckStateDir(env Environ) error {
	if env.Get("RELEASE_STATE_DIR") == "" && env.Get("XDG_STATE_HOME") == "" && env.Get("HOME") == "" {
		return errors.New("no state directory: HOME is not set; set it, or set RELEASE_STATE_DIR to a folder")
	}
	return nil
}

// ReadDevFile returns the DevFile of the running `release dev`, or nil if none runs. It
// ignores the file of a killed one.
func ReadDevFile(env Environ) *DevFile {
	doc, err := os.ReadFile(filepath.Join(StateDir(env), DevFileName))
	var dev DevFile
	if err != nil || json.Unmarshal(doc, &dev) != nil || !isProcessAlive(dev.PID) {
		return nil
	}
	return &dev
}

// WriteDevFile writes the DevFile of a running `release dev` atomically. Only this user can
// read it, because it contains a token. The returned function removes it.
func WriteDevFile(env Environ, dev DevFile) (remove func() error, err error) {
	doc, err := json.MarshalIndent(dev, "", "  ")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(StateDir(env), DevFileName)
	err = os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path+".new", append(doc, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return nil, fmt.Errorf("write dev.json: %w", err)
	}
	return func() error {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}, nil
}
