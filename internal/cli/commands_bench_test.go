package cli

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkCommands is how long people wait for commands that only look: whole
// processes, from their start to their end, one release having been made.
func BenchmarkCommands(b *testing.B) {
	program := filepath.Join(b.TempDir(), "release")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/release").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	w := newWorld(b)
	w.firstRelease()
	for _, command := range []string{"--help", "list", "status"} {
		b.Run(command, func(b *testing.B) {
			var took []time.Duration
			look := func() {
				cmd := exec.Command(program, strings.Fields(command)...)
				cmd.Dir, cmd.Env = w.dir, w.environ
				begin := time.Now()
				out, err := cmd.CombinedOutput()
				took = append(took, time.Since(begin))
				if err != nil {
					b.Fatalf("release %s: %v\n%s", command, err, out)
				}
			}
			for b.Loop() {
				look()
			}
			for len(took) < 20 {
				look()
			}
			slices.Sort(took)
			fmt.Printf("release %s: %d ms (median of %d, as whole processes)\n", command, took[len(took)/2].Milliseconds(), len(took))
		})
	}
}
