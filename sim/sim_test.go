package sim_test

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/microbima/release/sim"
)

var (
	seeds = flag.Int("seeds", 300, "how many seeds to run")
	base  = flag.Uint64("base", 0, "the first of them; 0 draws one")
)

func TestSeeds(t *testing.T) {
	first := *base
	if first == 0 {
		first = uint64(time.Now().UnixNano()) % 1e12
	}
	fmt.Printf("base=%d\n", first)
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	var next atomic.Uint64
	var mu sync.Mutex
	releases, violations, requests := 0, 0, 0
	begun := time.Now()
	t.Run("all", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				logs := t.TempDir()
				for {
					n := next.Add(1) - 1
					if n >= uint64(*seeds) {
						return
					}
					c := sim.Draw(first + n)
					from := time.Now()
					r := sim.Run(t, c, logs)
					mu.Lock()
					releases += r.Releases
					requests += r.Requests
					violations += len(r.Violations)
					mu.Unlock()
					if d := time.Since(from); d > 2*time.Second {
						fmt.Printf("seed %d took %s: %v requests, %s\n", c.Seed, d, r.Requests, r.Took)
					}
					if len(r.Violations) > 0 {
						t.Errorf("seed %d:\n%s\n%s\n%s", c.Seed, c, strings.Join(r.Story, "\n"), strings.Join(r.Violations, "\n"))
					}
				}
			})
		}
	})
	took := time.Since(begun)
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		fmt.Println("requests:", requests)
		fmt.Printf("per-core-second=%.0f\n", float64(releases)/cpu.Seconds())
	}
	fmt.Printf("seeds=%d releases=%d violations=%d per-second=%.0f\n", *seeds, releases, violations, float64(releases)/took.Seconds())
}
