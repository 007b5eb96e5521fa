package cli

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkCommands measures read-only commands as whole processes after one release.
func BenchmarkCommands(b *testing.B) {
	program := buildProgram(b)
	w := newFixture(b)
	w.promoteFirst()
	for _, command := range []string{"--help", "list", "status"} {
		b.Run(command, func(b *testing.B) {
			var took []time.Duration
			measure := func() {
				cmd := exec.Command(program, strings.Fields(command)...)
				cmd.Dir, cmd.Env = w.Dir, w.environ
				begin := time.Now()
				out, err := cmd.CombinedOutput()
				took = append(took, time.Since(begin))
				if err != nil {
					b.Fatalf("release %s: %v\n%s", command, err, out)
				}
			}
			for b.Loop() {
				measure()
			}
			for len(took) < 20 {
				measure()
			}
			slices.Sort(took)
			fmt.Printf("release %s: %d ms (median of %d, as whole processes)\n", command, took[len(took)/2].Milliseconds(), len(took))
		})
	}
}
