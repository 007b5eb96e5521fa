package devserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/server/common/headers"
)

func TestStart_DirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	first := startProcess(t, dir)
	_, err := Start(t.Context(), Options{Dir: dir})
	var owned *OwnedError
	if !errors.As(err, &owned) {
		t.Fatalf("a second server on one file: %v", err)
	}
	if pid := first.cmd.Process.Pid; owned.PID != pid || !strings.Contains(err.Error(), fmt.Sprintf("process %d", pid)) {
		t.Errorf("the error lacks process %d: %v", pid, err)
	}
	if owned.Address != first.address {
		t.Errorf("the error lacks %s, the address of the other server: %v", first.address, err)
	}
	first.kill()
	startServer(t, Options{Dir: dir, UIOff: true}) // the lock ends with its owner
}

func TestStart_FileOfAnotherVersion(t *testing.T) {
	for name, test := range map[string]struct{ record, db, want string }{
		"older":              {`{"server": "1.29.1"}`, "x", "written by Temporal server 1.29.1"},
		"unknown version":    {``, "x", "unknown version"},
		"record is unusable": {`{`, "x", "temporal.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "temporal.db"), test.db)
			if test.record != "" {
				write(t, filepath.Join(dir, "temporal.json"), test.record)
			}
			_, err := Start(t.Context(), Options{Dir: dir})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("want an error with %q, got: %v", test.want, err)
			}
			if content, _ := os.ReadFile(filepath.Join(dir, "temporal.db")); string(content) != test.db {
				t.Error("the file was changed")
			}
		})
	}
}

// A process that is killed while it creates the file leaves a record and an empty file.
// The next start completes them.
func TestStart_UnfinishedFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "temporal.json"), fmt.Sprintf(`{"server": %q}`, headers.ServerVersion))
	write(t, filepath.Join(dir, "temporal.db"), "")
	startServer(t, Options{Dir: dir, UIOff: true})
}

// A file that lost its history is an error: a start without it would silently drop open
// releases and the baselines of environments.
func TestStart_LostHistory(t *testing.T) {
	for name, db := range map[string]bool{"the file is empty": true, "there is no file": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "temporal.json"), fmt.Sprintf(`{"server": %q, "filled": true}`, headers.ServerVersion))
			if db {
				write(t, filepath.Join(dir, "temporal.db"), "")
			}
			_, err := Start(t.Context(), Options{Dir: dir})
			var lost *LostError
			if !errors.As(err, &lost) || !strings.Contains(err.Error(), "release dev --reset") {
				t.Errorf("got %v, want a LostError with `release dev --reset`", err)
			}
		})
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
