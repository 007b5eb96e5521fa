package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/microbima/release/internal/sleep"
)

var (
	kills = flag.Int("kills", 15, "how often TestKills kills a process; 200 take a quarter of an hour (-timeout 40m)")
	seed  = flag.Uint64("seed", 1, "of TestKills: whom it kills, and when")
)

// Worker, Temporal and Fly are processes that are killed at random while several projects
// are released concurrently. Every release ends with its expected outcome, and nothing is
// lost, done twice, or left behind.
func TestKills(t *testing.T) {
	t.Logf("seed %d", *seed)
	sums := []*chaosResults{newChaosResults("SQLite"), newChaosResults("PostgreSQL")}
	onFile := (*kills*3 + 4) / 5
	t.Run("on", func(t *testing.T) {
		t.Run("SQLite", func(t *testing.T) {
			t.Parallel()
			newChaosTest(t, beTemporal, *seed, sums[0]).runKills(onFile)
		})
		t.Run("PostgreSQL", func(t *testing.T) {
			t.Parallel()
			if postgresBin() == "" {
				t.Skip("PostgreSQL is not installed: no Temporal on it is killed; Debian has it in the package postgresql")
			}
			newChaosTest(t, bePostgres, *seed+1, sums[1]).runKills(*kills - onFile)
		})
	})
	fmt.Println()
	fmt.Println(formatReport(*seed, sums))
}

// A randomKill is a process to kill, and the time to wait before.
type randomKill struct {
	who   string
	after time.Duration
}

// drawKills returns n kills drawn from the seed. Every process is killed equally often.
func (s *chaosTest) drawKills(n int) (all []randomKill) {
	chance := rand.New(rand.NewPCG(s.seed, 0))
	for i := range n {
		who := []string{theWorker, theServer, theFly}[i%3]
		all = append(all, randomKill{who, time.Second + time.Duration(chance.Int64N(int64(2*time.Second)))})
	}
	chance.Shuffle(n, func(i, j int) { all[i].who, all[j].who = all[j].who, all[i].who })
	return all
}

// runKills kills n processes while releases run, and waits until the releases have ended.
func (s *chaosTest) runKills(n int) {
	ctx := s.t.Context()
	var projects sync.WaitGroup
	for _, k := range listKinds() {
		projects.Go(func() { s.releaseVersions(ctx, k) })
	}
	var resuming sync.WaitGroup
	for i, b := range s.drawKills(n) {
		if i > 0 && i == n-2 { // running releases continue until the end
			s.stopNewReleases()
		}
		if b.who != theFly { // otherwise the cause of a late resumption is unknown
			resuming.Wait()
		}
		if sleep.For(ctx, b.after) != nil {
			break
		}
		s.t.Logf("%s: kill %d of %d: the %s, %.1f s after all were up", s.on, i+1, n, b.who, b.after.Seconds())
		if err := s.killAndRestart(ctx, b.who, &resuming); err != nil {
			s.recordRelease("", err)
			break
		}
	}
	resuming.Wait()
	s.stopNewReleases()
	projects.Wait()
	for _, who := range slices.Sorted(maps.Keys(s.hands)) {
		s.isAlive(who)
	}
	for _, wrong := range s.wrong {
		s.t.Error(wrong)
	}
}

// isAlive reports whether a process runs that was not killed on purpose.
func (s *chaosTest) isAlive(who string) bool {
	select {
	case <-s.hands[who].gone:
		s.recordRelease("", fmt.Errorf("the %s ended by itself: %s\n%s", who, s.hands[who].cmd.ProcessState, &s.hands[who].said))
		return false
	default:
		return true
	}
}

// killAndRestart kills one process and starts it again.
func (s *chaosTest) killAndRestart(ctx context.Context, who string, resuming *sync.WaitGroup) error {
	for _, is := range []string{theWorker, theServer, theFly} {
		if !s.isAlive(is) {
			return errors.New("nothing was killed any more")
		}
	}
	before := s.countEvents(ctx)
	if err := s.hands[who].kill(); err != nil {
		return err
	}
	s.recordKill(who)
	var lost []lostTask
	if who == theWorker {
		lost = s.listLostTasks(ctx)
	}
	begun := time.Now()
	if err := s.startRole(who); err != nil {
		return err
	}
	switch who {
	case theWorker:
		resuming.Go(func() { s.waitForResumption(ctx, begun, lost) })
	case theServer:
		return s.waitForProgress(ctx, begun, before)
	case theFly:
		spoke := s.hands[who].spoke.at
		resuming.Go(func() {
			select {
			case at := <-spoke:
				s.recordProgress(theFly, at.Sub(begun))
			case <-time.After(time.Minute):
			}
		})
	}
	return nil
}
