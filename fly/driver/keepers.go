package driver

import (
	"context"
	"errors"
	"sync"
)

// errClosed is why a keeper ends: its rollout is closed, and its leases are released.
var errClosed = errors.New("the rollout is closed")

// keepers are the calls of KeepLeases in this process, by holder. Closing a rollout
// ends its own at once: a heartbeat would end them later, and they might refresh a
// lease that was just released.
type keepers struct {
	mu  sync.Mutex
	all map[string]map[*keeper]bool
}

type keeper struct {
	end  context.CancelCauseFunc
	done chan struct{}
}

// add returns ctx for a keeper of holder, and the function that it calls when it has
// ended.
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

// close ends the keepers of holder and waits until none of them refreshes any more.
func (k *keepers) close(ctx context.Context, holder string) {
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
