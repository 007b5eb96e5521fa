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

// isGone reports whether err means that a machine is destroyed or does not exist.
func isGone(err error) bool { return errors.Is(err, errGone) || errors.Is(err, fly.ErrNotFound) }

// findMachine returns the machine of the step. It returns a conflict if the machine is
// gone, unless the step destroys it.
func (r *stepRun) findMachine(ctx context.Context) (fly.Machine, error) {
	m, err := r.locateMachine(ctx)
	if isGone(err) && r.Step.Verb != release.Destroy {
		return m, conflictError(r.Step, "no longer exists")
	}
	return m, err
}

// locateMachine reads the machine of the step by its ID, or by the name in the plan.
// isGone reports true for the error of a destroyed machine.
func (r *stepRun) locateMachine(ctx context.Context) (fly.Machine, error) {
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

// findByName returns the machine with that name, or fly.ErrNotFound.
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
