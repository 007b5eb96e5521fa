package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/microbima/release/release"
)

// chaosResults has the results of a chaos test.
type chaosResults struct {
	on       string // database
	mu       sync.Mutex
	kills    map[string]int
	releases map[release.Outcome]int
	wrong    []error
	resumed  map[release.Phase][]time.Duration // after kills of a worker
	went     map[string][]time.Duration        // after kills of other processes
}

func newChaosResults(on string) *chaosResults {
	return &chaosResults{on: on, kills: map[string]int{}, releases: map[release.Outcome]int{}, resumed: map[release.Phase][]time.Duration{}, went: map[string][]time.Duration{}}
}

func (s *chaosResults) recordKill(who string) { s.mu.Lock(); defer s.mu.Unlock(); s.kills[who]++ }

func (s *chaosResults) recordProgress(who string, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.went[who] = append(s.went[who], after)
}

func (s *chaosResults) recordResumption(in release.Phase, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumed[in] = append(s.resumed[in], after)
}

// recordRelease records the outcome and violations of a release.
func (s *chaosResults) recordRelease(outcome release.Outcome, wrong error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if outcome != "" {
		s.releases[outcome]++
	}
	if wrong != nil {
		s.wrong = append(s.wrong, wrong)
	}
}

// formatReport returns the results as tables, with the figures in the last line.
func formatReport(seed uint64, sums []*chaosResults) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\n\n", seed)
	figures := writeKillTable(&b, sums)
	longest := writeResumptionTable(&b, sums)
	writeHeading(&b, "going on: seconds from the start of the new process until something happened", "process")
	for _, s := range sums {
		writeRow(&b, s.on, theServer, s.went[theServer])
		writeRow(&b, s.on, theFly, s.went[theFly])
	}
	fmt.Fprintf(&b, "\n%s resumption-max=%.1fs", figures, longest.Seconds())
	return b.String()
}

// writeKillTable writes the kills per process and the outcomes of releases.
func writeKillTable(b *strings.Builder, sums []*chaosResults) (figures string) {
	const line = "%-11s  %6v %6v %6v   %8v %11v %7v %9v   %10v\n"
	fmt.Fprintf(b, line, "kills", theWorker, theServer, theFly, release.Promoted, release.RolledBack, release.Stopped, release.Unchanged, "violations")
	kills, releases, wrong := map[string]int{}, 0, 0
	for _, s := range sums {
		fmt.Fprintf(b, line, s.on, s.kills[theWorker], s.kills[theServer], s.kills[theFly],
			s.releases[release.Promoted], s.releases[release.RolledBack], s.releases[release.Stopped], s.releases[release.Unchanged], len(s.wrong))
		for who, n := range s.kills {
			kills[who] += n
		}
		for _, n := range s.releases {
			releases += n
		}
		wrong += len(s.wrong)
	}
	return fmt.Sprintf("kills=%d worker=%d server=%d fly=%d releases=%d violations=%d",
		kills[theWorker]+kills[theServer]+kills[theFly], kills[theWorker], kills[theServer], kills[theFly], releases, wrong)
}

// writeResumptionTable writes the time to resumption after kills of a worker by phase,
// and returns the longest.
func writeResumptionTable(b *strings.Builder, sums []*chaosResults) (longest time.Duration) {
	writeHeading(b, "resumption: seconds from the start of the new worker until what the killed one had in hand began again", "phase")
	var all []time.Duration
	for _, s := range sums {
		var here []time.Duration
		for _, p := range []release.Phase{release.Loading, release.Preflight, release.Building, release.Planning, release.AwaitingApproval, release.Queued,
			release.RollingOut, release.Verifying, release.Baking, release.CleaningUp, release.RollingBack, release.HeldPhase, release.Done} {
			writeRow(b, s.on, string(p), s.resumed[p])
			here = append(here, s.resumed[p]...)
		}
		writeRow(b, s.on, "all phases", here)
		all = append(all, here...)
	}
	writeRow(b, "both", "all phases", all)
	if len(all) == 0 {
		return 0
	}
	return slices.Max(all)
}

func writeHeading(b *strings.Builder, what, of string) {
	fmt.Fprintf(b, "\n%s\n%-11s  %-24s %5s %6s %6s %6s %6s\n", what, "", of, "n", "min", "median", "p95", "max")
}

// writeRow writes a distribution, or nothing if there are no values.
func writeRow(b *strings.Builder, on, what string, took []time.Duration) {
	if slices.Sort(took); len(took) > 0 {
		at := func(part float64) float64 { return took[int(part*float64(len(took)-1)+0.5)].Seconds() }
		fmt.Fprintf(b, "%-11s  %-24s %5d %6.1f %6.1f %6.1f %6.1f\n", on, what, len(took), at(0), at(0.5), at(0.95), at(1))
	}
}
