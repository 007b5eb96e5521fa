//go:build unix

package procgroup_test

import (
	"bufio"
	"context"
	"os/exec"
	"testing"

	"github.com/microbima/release/internal/procgroup"
)

// A cancelled command takes its children with it: their output ends.
func TestSet_CancelKillsChildren(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "sh", "-c", "sleep 600 & echo started; wait")
	procgroup.Set(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal(lines.Err())
	}
	cancel()
	for lines.Scan() { // until the child has closed its output
	}
	if cmd.Wait() == nil {
		t.Error("the command succeeded")
	}
}
