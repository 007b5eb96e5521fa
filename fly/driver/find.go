package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

var errGone = errors.New("the machine is destroyed")

// isGone reports whether err means that a machine does not exist, or no longer.
func isGone(err error) bool { return errors.Is(err, errGone) || errors.Is(err, fly.ErrNotFound) }

// find returns the machine of the step. It fails with a conflict if the machine is
// gone and the step does not destroy it.
func (r *stepRun) find(ctx context.Context) (fly.Machine, error) {
	m, err := r.locate(ctx)
	if isGone(err) && r.Step.Verb != release.Destroy {
		return m, conflict(r.Step, "does not exist any more")
	}
	return m, err
}

// locate reads the machine of the step by its ID, or by the name that the plan
// chose. The error of a machine that is destroyed satisfies isGone.
func (r *stepRun) locate(ctx context.Context) (fly.Machine, error) {
	s := r.Step
	m, err := readMachine(ctx, r.Fly, s.FlyApp, cmp.Or(r.ID, s.Machine), cmp.Or(r.Written, s.Version))
	if errors.Is(err, fly.ErrNotFound) || errors.Is(err, fly.ErrInvalid) {
		m, err = findByName(ctx, r.Fly, s.FlyApp, s.Machine)
	}
	if err == nil && (m.State == "destroyed" || m.State == "destroying" && s.Verb != release.Destroy) {
		err = errGone
	}
	return m, err
}

// findByName returns the machine of that name, or fly.ErrNotFound.
func findByName(ctx context.Context, l MachineLister, app, name string) (fly.Machine, error) {
	machines, err := RetryRead(ctx, func() ([]fly.Machine, error) { return l.Machines(ctx, app) })
	if err != nil {
		return fly.Machine{}, err
	}
	for _, m := range machines {
		if m.Name == name {
			return m, nil
		}
	}
	return fly.Machine{}, fmt.Errorf("machine %s of %s: %w", name, app, fly.ErrNotFound)
}
