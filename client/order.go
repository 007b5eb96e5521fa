package client

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"go.temporal.io/sdk/client"

	"github.com/microbima/release/release"
)

// A Delivery is the way in which a message was delivered to its workflow.
type Delivery string

const (
	// ByUpdate means that a worker processed the message.
	ByUpdate Delivery = "update"
	// BySignal means that no worker responds. A worker will process the signal later,
	// and the result is unknown until then.
	BySignal Delivery = "signal"
)

// A message is an update of a workflow, or a signal with the same value if no worker
// responds.
type message struct {
	op             string // for errors
	id, run        string
	update, signal string
	updateID       string // equal for repeated messages
	value          any
}

// deliver sends a message as an update, or as a signal if no worker responds. It
// returns a *RefusedError if the workflow refuses the update.
func (c *Client) deliver(ctx context.Context, o message) (Delivery, error) {
	call, cancel := context.WithTimeout(ctx, c.workerTimeout)
	defer cancel()
	err := c.sendUpdate(call, o)
	if err == nil {
		return ByUpdate, nil
	}
	if isWithoutWorker(ctx, err) {
		return BySignal, c.sendSignal(ctx, o)
	}
	if refused := asRefused(o.id, err); refused != nil {
		return "", refused
	}
	return "", c.Wrap(ctx, o.op, err)
}

// sendUpdate sends a message as an update and waits for its result.
func (c *Client) sendUpdate(ctx context.Context, o message) error {
	handle, err := c.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: o.id, RunID: o.run, UpdateName: o.update, UpdateID: o.updateID, Args: []any{o.value},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	return handle.Get(ctx, nil)
}

func (c *Client) sendSignal(ctx context.Context, o message) error {
	return c.Wrap(ctx, o.op, c.temporal.SignalWorkflow(ctx, o.id, o.run, o.signal, o.value))
}

// newUpdateID returns an ID derived from values. For a repeated update ID, Temporal
// returns the first result again.
func newUpdateID(values ...any) string {
	doc, _ := json.Marshal(values) // text, numbers and booleans always marshal
	return fmt.Sprintf("%x", sha256.Sum256(doc))[:32]
}

// Approve approves the plan of a release. A repeated approval by the same user counts
// once.
func (c *Client) Approve(ctx context.Context, id, run string, r release.ReviewInput) (Delivery, error) {
	return c.deliver(ctx, reviewMessage(id, run, true, r))
}

// Reject rejects the plan of a release, which then stops.
func (c *Client) Reject(ctx context.Context, id, run string, r release.ReviewInput) (Delivery, error) {
	return c.deliver(ctx, reviewMessage(id, run, false, r))
}

// SignalReview sends a review as a signal, for a worker that does not respond yet.
func (c *Client) SignalReview(ctx context.Context, id, run string, approve bool, r release.ReviewInput) error {
	return c.sendSignal(ctx, reviewMessage(id, run, approve, r))
}

func reviewMessage(id, run string, approve bool, r release.ReviewInput) message {
	o := message{
		op: "review the plan of " + id, id: id, run: run, update: release.RejectUpdate, signal: release.RejectSignal,
		updateID: newUpdateID(approve, r.By, r.Plan), value: r,
	}
	if approve {
		o.update, o.signal = release.ApproveUpdate, release.ApproveSignal
	}
	return o
}

// Resolve sends the resolution of a held rollout or a held release.
func (c *Client) Resolve(ctx context.Context, id string, a release.Resolution) (Delivery, error) {
	return c.deliver(ctx, message{
		op: "resolve " + id, id: id, update: release.ResolveUpdate, signal: release.ResolveSignal,
		// A rollout may be held more than once, and each hold needs its own resolution.
		updateID: newUpdateID(a.Choice, a.By, a.Hold), value: a,
	})
}

// Unpin removes the pin of an environment. It returns ErrNotPinned if there is none.
func (c *Client) Unpin(ctx context.Context, project, environment string, u release.Unpinning) (Delivery, error) {
	delivery, err := c.deliver(ctx, message{
		op: "unpin " + environment, id: release.PinID(project, environment), update: release.UnpinUpdate, signal: release.UnpinSignal, value: u,
	})
	var failed *Error
	if errors.As(err, &failed) && failed.Kind == NotFound && delivery == "" {
		return "", ErrNotPinned
	}
	return delivery, err
}

// extend makes a running release continue to a further environment.
func (c *Client) extend(ctx context.Context, id, run string, e release.Extension) (Delivery, error) {
	return c.deliver(ctx, message{op: "extend " + id, id: id, run: run, update: release.ExtendUpdate, signal: release.ExtendSignal, value: e})
}

// Abort cancels a release and returns its run ID. It returns ErrEnded if the release has
// ended. It is safe to call twice.
func (c *Client) Abort(ctx context.Context, id string, a release.Abort) (run string, err error) {
	x, err := c.Describe(ctx, id)
	if err != nil {
		return "", err
	}
	if x.Closed {
		return x.Run, ErrEnded
	}
	// A cancellation has no fields for the user and the reason.
	if err := c.sendSignal(ctx, message{op: "abort " + id, id: id, run: x.Run, signal: release.AbortSignal, value: a}); err != nil {
		c.warn(fmt.Sprintf("abort %s: the user and the reason were not recorded: %v", id, err))
	}
	err = c.temporal.CancelWorkflow(ctx, id, x.Run)
	if isNotFound(err) {
		return x.Run, ErrEnded
	}
	return x.Run, c.Wrap(ctx, "abort "+id, err)
}
