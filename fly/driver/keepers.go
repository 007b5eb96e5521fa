package driver

import (
	"context"
	"errors"
	"sync"
)

// errClosed ends a keeper whose rollout is closed and whose leases are released.
var errClosed = errors.New("the rollout is closed")

// keepers has the running calls of KeepLeases in this process, by holder. Closing a
// rollout ends its calls at once: otherwise they would run until a heartbeat, and might
// refresh a released lease.
type keepers struct {
	mu  sync.Mutex
	all map[string]map[*keeper]bool
}

type keeper struct {
	end  context.CancelCauseFunc
	done chan struct{}
}

// add returns ctx for a call of KeepLeases, and the function to call at its end.
func (k *keepers) add(ctx context.Context, holder string) (context.Context, func()) {
	ctx, end := context.WithCancelCause(ctx)
	added := &keeper{end: end, done: make(chan struct{})}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil {
		k.all = map[string]map[*keeper]bool{}
	}
	if k.all[holder] == nil {
		k.all[holder] = map[*keeper]bool{}
	}
	k.all[holder][added] = true
	return ctx, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.all[holder], added)
		if len(k.all[holder]) == 0 {
			delete(k.all, holder)
		}
		end(nil)
		close(added.done)
	}
}

// endAll ends the calls of holder and waits for their end, or for the end of ctx.
func (k *keepers) endAll(ctx context.Context, holder string) {
	k.mu.Lock()
	var all []*keeper
	for one := range k.all[holder] {
		all = append(all, one)
	}
	k.mu.Unlock()
	for _, one := range all {
		one.end(errClosed)
	}
	for _, one := range all {
		select {
		case <-one.done:
		case <-ctx.Done():
		}
	}
}
