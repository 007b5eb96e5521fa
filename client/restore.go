package client

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// A RestoreTarget is the state that a rollback of an environment restores.
type RestoreTarget struct {
	Baselines   []release.Baseline
	Revision    release.Revision // of most machines; its commit is "" if their metadata have none
	Origin      release.StateRef // the rollout that recorded it
	Description string           // the time of the state, in a phrase
	Notes       []string
	Closed      time.Time // end of that rollout
	// Busy is true while a rollout is open. The target may change when it closes.
	Busy bool
}

// A NothingToRestoreError means that no state to restore was found.
type NothingToRestoreError struct{ Reason string }

func (e *NothingToRestoreError) Error() string { return e.Reason }

// RestoreTarget returns the state that a rollback restores, from the histories of earlier
// rollouts. It returns a *NothingToRestoreError if there is none or its history is gone.
func (c *Client) RestoreTarget(ctx context.Context, project *release.Project, back release.Rollback) (RestoreTarget, error) {
	env, err := project.Environment(back.Environment)
	if err != nil {
		return RestoreTarget{}, err
	}
	in := activities.BaselineInput{Project: project.Name, Rollback: back}
	for _, t := range env.Targets {
		in.Targets = append(in.Targets, activities.TargetRef{Target: t.Target, FlyApp: t.FlyApp})
	}
	call, cancel := context.WithTimeout(ctx, 4*DialTimeout)
	defer cancel()
	past, err := activities.FindPastState(call, c.temporal, in)
	var nothing *activities.NoPastStateError
	switch {
	case errors.As(err, &nothing):
		err = &NothingToRestoreError{Reason: nothing.Why}
	case err != nil:
		err = c.Wrap(ctx, "read the earlier state of "+back.Environment, err)
	}
	return RestoreTarget{
		Baselines: past.Baselines, Revision: past.Revision, Origin: past.Origin, Description: past.Text,
		Notes: past.Notes, Closed: past.Closed, Busy: past.Busy,
	}, err
}

// Pin returns the pin of an environment, or nil if it is not pinned.
func (c *Client) Pin(ctx context.Context, project, environment string) (*release.Pin, error) {
	call, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	pin, err := activities.FindPin(call, c.temporal, activities.EnvironmentRef{Project: project, Environment: environment})
	return pin, c.Wrap(ctx, "read the pin of "+environment, err)
}

// Retention returns the retention of histories of closed workflows; 0 is unlimited.
func (c *Client) Retention(ctx context.Context) (time.Duration, error) {
	call, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	d, err := c.temporal.WorkflowService().DescribeNamespace(call, &workflowservice.DescribeNamespaceRequest{Namespace: c.namespace})
	if err != nil {
		return 0, c.Wrap(ctx, "read the retention of namespace "+c.namespace, err)
	}
	return d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(), nil
}
