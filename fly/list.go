package fly

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// sharedLists combines list requests that wait for the limiter at the same
// time. A caller after the request was sent starts a new one, so no response is
// older than its call. 20 concurrent lookups by name cost a few lists and a
// second instead of 17 seconds.
type sharedLists struct {
	mu   sync.Mutex
	next map[string]*sharedList // op → not sent yet
}

// A sharedList is one request and its callers.
type sharedList struct {
	callers int
	cancel  context.CancelFunc // cancels the request; called when no caller is left

	done     chan struct{} // closed once there is a result
	machines []Machine
	err      error
}

// listMachines requests a list of machines and sorts it by ID.
func (c *Client) listMachines(ctx context.Context, req call) ([]Machine, error) {
	l := c.lists.join(ctx, req.op, func(ctx context.Context, l *sharedList) {
		req.onSend = func() { c.lists.markSent(req.op, l) }
		if l.err = c.do(ctx, req, &l.machines); l.err != nil {
			l.machines = nil
		}
		for i, m := range l.machines {
			l.machines[i] = normalizeMachine(m)
		}
		slices.SortFunc(l.machines, func(a, b Machine) int { return cmp.Compare(a.ID, b.ID) })
	})
	select {
	case <-l.done:
		return slices.Clone(l.machines), l.err
	case <-ctx.Done():
		fail := &Error{Op: req.op, cause: ctx.Err(), unsent: c.lists.leave(req.op, l)}
		if fail.unsent {
			fail.kind = ErrRateLimited
		}
		return nil, fail
	}
}

// join adds a caller to the request that waits with that op, and starts one if
// there is none.
func (s *sharedLists) join(ctx context.Context, op string, ask func(context.Context, *sharedList)) *sharedList {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.next[op]; l != nil {
		l.callers++
		return l
	}
	l := &sharedList{callers: 1, done: make(chan struct{})}
	// The first caller may cancel before the others.
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if s.next == nil {
		s.next = map[string]*sharedList{}
	}
	s.next[op] = l
	go func() {
		defer l.cancel()
		defer close(l.done)
		defer s.markSent(op, l) // also if it was not sent
		ask(ctx, l)
	}()
	return l
}

// markSent records that l is sent: later callers do not join it.
func (s *sharedLists) markSent(op string, l *sharedList) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next[op] == l {
		delete(s.next, op)
	}
}

// leave removes a caller from l, and returns whether l was not sent yet.
func (s *sharedLists) leave(op string, l *sharedList) (unsent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unsent = s.next[op] == l
	if l.callers--; l.callers == 0 {
		if unsent {
			delete(s.next, op)
		}
		l.cancel()
	}
	return unsent
}
