package simulation_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/microbima/release/internal/simulation"
)

var (
	seeds    = flag.Int("seeds", 400, "number of seeds that Seeds runs")
	base     = flag.Uint64("base", 1, "first seed; the default is fixed, so that the result is the same everywhere")
	stop     = flag.Bool("stop", false, "stop Seeds at the first violation")
	maxTries = flag.Int("shrink", 400, "number of attempts to shrink a failed case of Seeds")
	file     = flag.String("case", "", "JSON file of a case that Cases runs, with its timeline")
)

// totals are the sums over all seeds.
type totals struct {
	mu                     sync.Mutex
	seeds, releases, helds int
	requests, virtual      int64
	outcomes               map[string]int
	kinds                  map[string]map[string]int // first outcomes by kind of trouble
	violations             int
	failures               []string // one line for each violation, with its seed
}

func (sums *totals) add(c simulation.Case, r simulation.Result) {
	sums.mu.Lock()
	defer sums.mu.Unlock()
	sums.seeds++
	sums.releases += r.Releases
	sums.helds += r.Holds
	sums.requests += int64(r.Requests)
	sums.virtual += int64(r.Elapsed)
	sums.violations += len(r.Violations)
	for _, v := range r.Violations {
		sums.failures = append(sums.failures, fmt.Sprintf("seed %d: %s", c.Seed, v))
	}
	for outcome, n := range r.Outcomes {
		sums.outcomes[outcome] += n
	}
	named := map[string]bool{}
	for _, t := range c.Troubles {
		named[t.Kind] = true
	}
	if len(named) == 0 {
		named["none"] = true
	}
	for k := range named {
		if sums.kinds[k] == nil {
			sums.kinds[k] = map[string]int{}
		}
		sums.kinds[k][r.FirstOutcome]++
		sums.kinds[k][""]++
		if r.Holds > 0 {
			sums.kinds[k]["held"]++
		}
	}
}

// print prints the seeds by kind of trouble, and the releases by outcome.
func (sums *totals) print() {
	outcomes := []string{"promoted", "unchanged", "superseded", "stopped", "rolled back", "restored", "kept", "stranded", "terminated"}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "trouble\tschedules\t%s\twas held\t\n", strings.Join(outcomes, "\t"))
	for _, k := range slices.Sorted(maps.Keys(sums.kinds)) {
		fmt.Fprintf(w, "%s\t%d\t", k, sums.kinds[k][""])
		for _, o := range append(slices.Clone(outcomes), "held") {
			fmt.Fprintf(w, "%d\t", sums.kinds[k][o])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "all releases\t%d\t", sums.releases)
	for _, o := range outcomes {
		fmt.Fprintf(w, "%d\t", sums.outcomes[o])
	}
	fmt.Fprintf(w, "%d\t\n", sums.helds)
	if err := w.Flush(); err != nil {
		panic(err) // stdout
	}
	fmt.Printf("requests=%d virtual-hours=%.0f\n", sums.requests, time.Duration(sums.virtual).Hours())
}

// TestSeeds checks that drawn cases break no guarantee.
func TestSeeds(t *testing.T) {
	first := *base
	fmt.Printf("base=%d\n", first)
	// Less frequent garbage collections save a fifth of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(1600))
	all := &totals{outcomes: map[string]int{}, kinds: map[string]map[string]int{}}
	var next atomic.Uint64
	var reported atomic.Int32
	var stopped atomic.Bool
	started, cpu := time.Now(), cpuTime()
	t.Run("all", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1) - 1; n < uint64(*seeds) && !stopped.Load(); n = next.Add(1) - 1 {
					c := simulation.Draw(first + n)
					r := simulation.Run(t, c)
					all.add(c, r)
					if r.Invalid != nil {
						t.Errorf("seed %d draws invalid files: %v\n%s", c.Seed, r.Invalid, c)
					}
					if len(r.Violations) == 0 {
						continue
					}
					t.Errorf("seed %d: %s\nagain: go test ./internal/simulation -run Seeds -v -seeds 1 -base %d", c.Seed, strings.Join(r.Violations, "\n"), c.Seed)
					stopped.Store(*stop)
					if *maxTries > 0 && reported.Add(1) <= 3 {
						reportFailure(t, c, r)
					}
				}
			})
		}
	})
	took, cpu := time.Since(started), cpuTime()-cpu
	all.print()
	// The end of a long log names the failed seeds too.
	for _, w := range all.failures {
		fmt.Println(w)
	}
	fmt.Printf("per-core-second=%.0f (of processor time: %s)\n", float64(all.releases)/cpu.Seconds(), cpu.Round(time.Second))
	fmt.Printf("base=%d seeds=%d releases=%d violations=%d per-second=%.0f\n", first, all.seeds, all.releases, all.violations, float64(all.releases)/took.Seconds())
}

func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// reportFailure shrinks a failed case, prints its timeline, and writes it to a file.
func reportFailure(t *testing.T, c simulation.Case, r simulation.Result) {
	t.Helper()
	kinds := map[string]bool{}
	for _, v := range r.Violations {
		kinds[simulation.ViolationKind(v)] = true
	}
	shrunk := simulation.Shrink(c, func(c simulation.Case) bool {
		return slices.ContainsFunc(simulation.Run(t, c).Violations, func(v string) bool { return kinds[simulation.ViolationKind(v)] })
	}, *maxTries)
	r = simulation.Run(t, shrunk)
	doc, err := json.MarshalIndent(shrunk, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp("", "case-*.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(append(doc, '\n')); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	t.Errorf("shrunk:\n%s\n%s\n%s\nagain: go test ./internal/simulation -run Cases -v -case %s\nto keep it, copy that file to internal/simulation/testdata/cases and add the reason as \"why\"",
		shrunk, strings.Join(r.Timeline, "\n"), strings.Join(r.Violations, "\n"), f.Name())
}

// TestCases checks that the cases in testdata break no guarantee.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/cases/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases found (%v)", err)
	}
	if *file != "" {
		files = []string{*file}
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".json"), func(t *testing.T) {
			t.Parallel()
			doc, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var c simulation.Case
			if err := json.Unmarshal(doc, &c); err != nil {
				t.Fatal(err)
			}
			r := simulation.Run(t, c)
			if *file != "" {
				fmt.Printf("%s\n%s\n", c, strings.Join(r.Timeline, "\n"))
			}
			if r.Invalid != nil || len(r.Violations) > 0 {
				t.Errorf("%s\n%s\n%s\ninvalid: %v\n%s", c.Why, c, strings.Join(r.Timeline, "\n"), r.Invalid, strings.Join(r.Violations, "\n"))
			}
		})
	}
}

// TestRun_SameSeed checks that the same seed always takes the same course. Otherwise a
// failure could not be reproduced.
func TestRun_SameSeed(t *testing.T) {
	for seed := range uint64(40) {
		c := simulation.Draw(seed)
		a, b := simulation.Run(t, c), simulation.Run(t, c)
		// Events of the same nanosecond have no fixed order.
		one, other := slices.Sorted(slices.Values(a.Timeline)), slices.Sorted(slices.Values(b.Timeline))
		if !slices.Equal(one, other) || a.Requests != b.Requests {
			t.Errorf("seed %d, %d and %d requests:\n%s\n\n%s", seed, a.Requests, b.Requests, strings.Join(a.Timeline, "\n"), strings.Join(b.Timeline, "\n"))
		}
	}
}
