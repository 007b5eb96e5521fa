package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A DevFile holds the addresses of a running `release dev`. Commands use them if the
// environment names no others.
type DevFile struct {
	Temporal string `json:"temporal"` // host:port
	UI       string `json:"ui"`       // URL of the Web UI
	Fly      string `json:"fly"`      // URL of flysim
	Registry string `json:"registry"` // host:port
	PID      int    `json:"pid"`
	Token    string `json:"token"` // that flysim takes
}

// DevFileName is the name of the file in the state directory.
const DevFileName = "dev.json"

// StateDir returns the directory of what must survive this program.
func StateDir(env Environ) string {
	if dir := env.Get("RELEASE_STATE_DIR"); dir != "" {
		return dir
	}
	if dir := env.Get("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "release")
	}
	return filepath.Join(env.Get("HOME"), ".local", "state", "release")
}

// CheckStateDir returns an error if no variable names the state directory: it must
// not end up in the current directory.
func CheckStateDir(env Environ) error {
	if env.Get("RELEASE_STATE_DIR") == "" && env.Get("XDG_STATE_HOME") == "" && env.Get("HOME") == "" {
		return errors.New("nothing says where to keep state: HOME is not set; set it, or RELEASE_STATE_DIR to a folder")
	}
	return nil
}

// ReadDevFile returns the file of the running `release dev`, or nil if none runs. A
// file left by a killed one is ignored.
func ReadDevFile(env Environ) *DevFile {
	doc, err := os.ReadFile(filepath.Join(StateDir(env), DevFileName))
	var dev DevFile
	if err != nil || json.Unmarshal(doc, &dev) != nil || !isProcessAlive(dev.PID) {
		return nil
	}
	return &dev
}

// WriteDevFile writes the file of a running `release dev`, atomically and readable
// by this user alone: it holds a token. The returned function removes it.
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
		return nil, fmt.Errorf("announce release dev: %w", err)
	}
	return func() error {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}, nil
}
