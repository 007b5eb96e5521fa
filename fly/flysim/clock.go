package flysim

import (
	"context"
	"time"
)

// realClock is the time of the process or, inside a testing/synctest bubble, of
// the bubble.
type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

func (s *Sim) clock() Clock {
	if s.Clock != nil {
		return s.Clock
	}
	return realClock{}
}

func (s *Sim) now() time.Time { return s.clock().Now().UTC() }

// sleep waits for d. It returns false if the request or the Sim ended first.
func (s *Sim) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	over := make(chan struct{})
	t := s.clock().AfterFunc(d, func() { close(over) })
	defer t.Stop()
	select {
	case <-over:
		return true
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return false
}

// schedule calls f after d, with the lock held, unless m gets another order
// first. Without a delay, f is called before the lock is released, so that
// without latencies the state is final when the response is sent.
func (s *Sim) schedule(m *machine, d time.Duration, f func()) {
	life := m.generation
	if d <= 0 {
		s.beforeUnlock = append(s.beforeUnlock, func() {
			if m.generation == life {
				f()
			}
		})
		return
	}
	timers, key := s.timers, new(int)
	timers[key] = s.clock().AfterFunc(d, func() {
		s.withLock(func() {
			delete(timers, key)
			if m.generation == life && !s.closed {
				f()
			}
		})
	})
}
