package fly

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// lists lets those who wait for the limiter with the same question ask it once.
// Who comes after it was sent asks anew: no answer is older than its question.
// So looking for 20 machines by name at the same moment costs a few lists and a
// second at most, and not 17 seconds.
type sharedLists struct {
	mu   sync.Mutex
	next map[string]*sharedList // not sent yet, by Op
}

// A list is one question, and everybody who asks it.
type sharedList struct {
	callers int
	cancel  context.CancelFunc // of the request; called when nobody asks any more

	done     chan struct{} // closed once there is an answer
	machines []Machine
	err      error
}

// list asks for a list of machines, and sorts it by ID.
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

// join adds one who asks to those who wait with that question, and has it asked
// if there is nobody yet.
func (s *sharedLists) join(ctx context.Context, op string, ask func(context.Context, *sharedList)) *sharedList {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.next[op]; l != nil {
		l.callers++
		return l
	}
	l := &sharedList{callers: 1, done: make(chan struct{})}
	// The one who came first may leave before the others.
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if s.next == nil {
		s.next = map[string]*sharedList{}
	}
	s.next[op] = l
	go func() {
		defer l.cancel()
		defer close(l.done)
		defer s.markSent(op, l) // whatever kept it from being sent
		ask(ctx, l)
	}()
	return l
}

// seal: l is sent, and no question for those who come from now on.
func (s *sharedLists) markSent(op string, l *sharedList) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next[op] == l {
		delete(s.next, op)
	}
}

// leave takes one away from those who ask, and says whether l was not sent yet.
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
