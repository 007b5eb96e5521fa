package cli

import (
	"strings"
	"testing"
)

// A worker on Windows would leave processes of tests and builds running.
func TestCheckWorkerSystem(t *testing.T) {
	if err := checkWorkerSystem("windows"); err == nil || !strings.Contains(err.Error(), "windows") {
		t.Errorf("windows: got %v, want an error that names it", err)
	}
	for _, system := range []string{"linux", "darwin"} {
		if err := checkWorkerSystem(system); err != nil {
			t.Errorf("%s: %v", system, err)
		}
	}
}
