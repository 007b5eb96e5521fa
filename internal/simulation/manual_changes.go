package simulation

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/microbima/release/fly"
)

// manualChange returns a kind of trouble in which an operator changes a machine with
// other tools than release. With Trouble.After the operator clears the leases of the
// app first; without it a lease can prevent the change.
func manualChange(name string, do func(*simulation, Trouble, *fly.Client, fly.Machine) error) troubleKind {
	return troubleKind{name: name, weight: 3,
		draw: func(r *rand.Rand, c Case, t *Trouble) { drawRolloutTiming(r, c, t); t.After = r.IntN(2) == 0 },
		begin: func(s *simulation, t Trouble) {
			s.scheduleTrouble(t, func() {
				m, ok := s.findMachine(t)
				if !ok {
					return
				}
				s.checker.recordForeignChange(t.App)
				if t.After {
					s.clearLeases(t.App)
				}
				s.logEvent("%s: %s of %s: %v", name, m.ID, t.App, do(s, t, s.newFlyClient(s.fly.Transport()), m))
			})
		}}
}

// recordForeignChange records that someone else changes an app now.
func (c *checker) recordForeignChange(app string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changedByOthers[app] = time.Now()
}

// isChangedSince reports whether someone else has changed the app since that time.
func (c *checker) isChangedSince(app string, then time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.changedByOthers[app].Before(then)
}

// takeForeignLeases takes each free lease of an app for t.For, as flyctl does.
func (s *simulation) takeForeignLeases(t Trouble) {
	f := s.newFlyClient(s.fly.Transport())
	for _, m := range s.checker.listMachines(t.App) {
		lease, err := f.TakeLease(context.Background(), t.App, m.ID, "flyctl", time.Duration(t.For))
		if err == nil {
			s.checker.mu.Lock()
			s.checker.foreignLeases[lease.Nonce] = true
			s.checker.mu.Unlock()
		}
	}
}

// clearLeases releases all leases of an app, as `fly machine leases clear` does.
func (s *simulation) clearLeases(app string) {
	f := s.newFlyClient(s.fly.Transport())
	for id, l := range s.fly.Leases(app) {
		if err := f.ReleaseLease(context.Background(), app, id, l.Nonce); err != nil {
			s.logEvent("lease of %s not released: %v", id, err)
		}
	}
}
