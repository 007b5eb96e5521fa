package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/microbima/release/fly"
)

// stranger is somebody who changes a machine by hand, or by flyctl: where a
// lease is in the way, some give up, and some clear it first.
func stranger(name string, do func(*world, Trouble, *fly.Client, fly.Machine) error) kind {
	return kind{name: name, weight: 3,
		draw: func(r *rand.Rand, c Case, t *Trouble) { midway(r, c, t); t.After = r.IntN(2) == 0 },
		begin: func(w *world, t Trouble) {
			w.at(t, func() {
				m, ok := w.machine(t)
				if !ok {
					return
				}
				w.watch.strange(t.App)
				if t.After {
					w.clearLeases(t.App)
				}
				w.tell("%s: %s of %s: %v", name, m.ID, t.App, do(w, t, w.client(w.fly.Transport()), m))
			})
		}}
}

// strange: somebody else has changed something of that app.
func (w *watch) strange(app string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.foreign[app] = time.Now()
}

// strangerLeases takes the lease of every machine of an app that is free, as
// flyctl does, and keeps it.
func (w *world) strangerLeases(t Trouble) {
	f := w.client(w.fly.Transport())
	for _, m := range w.watch.machines(t.App) {
		lease, err := f.TakeLease(context.Background(), t.App, m.ID, "flyctl", time.Duration(t.For))
		if err == nil {
			w.watch.mu.Lock()
			w.watch.leases[lease.Nonce] = true
			w.watch.mu.Unlock()
		}
	}
}

// clearLeases is `fly machine leases clear`.
func (w *world) clearLeases(app string) {
	f := w.client(w.fly.Transport())
	for id, l := range w.fly.Leases(app) {
		if err := f.ReleaseLease(context.Background(), app, id, l.Nonce); err != nil {
			w.tell("lease of %s not cleared: %v", id, err)
		}
	}
}
