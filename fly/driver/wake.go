package driver

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/release"
)

// Wake starts the stopped machine of a step for verification, and waits until it is
// started and its checks pass. If Fly's proxy has started the machine already, it only
// waits. started means that the caller must stop the machine afterwards. Wake is safe
// to call again: an idle machine that an earlier attempt may have started counts as
// started. It fails as Apply does.
func (d *Driver) Wake(ctx context.Context, c Change) (m release.Machine, started bool, err error) {
	r := &stepRun{d, c}
	found, err := r.findMachine(ctx)
	if err != nil {
		return release.Machine{}, false, err
	}
	started = !d.describe(found).IsRunning() || c.Step.SkipLaunch && attemptOf(ctx).Number > 1
	m, err = r.start(ctx, found)
	return m, started, err
}

// stopMachines stops the machines of these steps. It skips machines that no longer
// exist.
func (d *Driver) stopMachines(ctx context.Context, steps []Change) error {
	var g errgroup.Group
	g.SetLimit(ConcurrentTargets)
	for _, c := range steps {
		g.Go(func() error {
			r := &stepRun{d, c}
			m, err := r.locateMachine(ctx)
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
