package driver

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/release"
)

// Wake starts the stopped machine of a step for a verification, and waits until it is
// started and its checks pass. A machine that runs already, because Fly's proxy has
// started it, is only waited for. With started, the machine has to be stopped again
// afterwards. Wake is safe to call again: an idle machine that an earlier attempt may
// have started counts as started by it. It fails as Apply does.
func (d *Driver) Wake(ctx context.Context, c Change) (m release.Machine, started bool, err error) {
	r := &stepRun{d, c}
	found, err := r.find(ctx)
	if err != nil {
		return release.Machine{}, false, err
	}
	started = !Describe(found).Running() || c.Step.Idle && attemptOf(ctx).Number > 1
	m, err = r.start(ctx, found)
	return m, started, err
}

// stopMachines stops the machines of these steps. One that does not exist any more is
// skipped.
func (d *Driver) stopMachines(ctx context.Context, steps []Change) error {
	var g errgroup.Group
	g.SetLimit(ConcurrentTargets)
	for _, c := range steps {
		g.Go(func() error {
			r := &stepRun{d, c}
			m, err := r.locate(ctx)
			if isGone(err) {
				return nil
			}
			if err == nil {
				_, err = r.stop(ctx, m)
			}
			return err
		})
	}
	return g.Wait()
}
