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

func TestSecondOwnerIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := spawn(t, dir)
	_, err := Start(t.Context(), Options{Dir: dir})
	var owned *OwnedError
	if !errors.As(err, &owned) {
		t.Fatalf("a second server on one file: %v", err)
	}
	if pid := first.cmd.Process.Pid; owned.PID != pid || !strings.Contains(err.Error(), fmt.Sprintf("process %d", pid)) {
		t.Errorf("it should name process %d: %v", pid, err)
	}
	if owned.Address != first.address {
		t.Errorf("it should name %s, the server to use: %v", first.address, err)
	}
	first.kill()
	start(t, Options{Dir: dir, UIOff: true}) // the lock dies with its owner
}

func TestFileOfAnotherVersionIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ record, db, says string }{
		"older":              {`{"server": "1.29.1"}`, "x", "written by Temporal server 1.29.1"},
		"nobody knows":       {``, "x", "unknown version"},
		"record is unusable": {`{`, "x", "temporal.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "temporal.db"), test.db)
			if test.record != "" {
				write(t, filepath.Join(dir, "temporal.json"), test.record)
			}
			_, err := Start(t.Context(), Options{Dir: dir})
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("want an error with %q, got: %v", test.says, err)
			}
			if content, _ := os.ReadFile(filepath.Join(dir, "temporal.db")); string(content) != test.db {
				t.Error("the file was changed")
			}
		})
	}
}

// A process that dies while it makes the file leaves a record and an empty
// file: that is a beginning, not a mistake.
func TestBeginningThatWasCutShort(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "temporal.json"), fmt.Sprintf(`{"server": %q}`, headers.ServerVersion))
	write(t, filepath.Join(dir, "temporal.db"), "")
	start(t, Options{Dir: dir, UIOff: true})
}

// A file that had a history and has none is not a beginning: releases under way
// and what environments ran before would be gone without a word.
func TestHistoryThatIsGone(t *testing.T) {
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
				t.Errorf("want a LostError that says what to do, got: %v", err)
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
