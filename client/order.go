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

// A Delivery is the way that an order took to its workflow.
type Delivery string

const (
	// ByUpdate: a worker has taken it.
	ByUpdate Delivery = "update"
	// BySignal: no worker answers. The order waits for one, and whether it will
	// count then is not known.
	BySignal Delivery = "signal"
)

// An order is an update of a workflow. Its signal carries the same value while no
// worker answers.
type order struct {
	op             string // for errors
	id, run        string
	update, signal string
	updateID       string // orders with the same one are the same order
	value          any
}

// deliver sends an order as an update, and as a signal if no worker answers. The
// error is a *RefusedError if the workflow refuses it.
func (c *Client) deliver(ctx context.Context, o order) (Delivery, error) {
	call, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	err := c.update(call, o)
	if err == nil {
		return ByUpdate, nil
	}
	if isWithoutWorker(ctx, err) {
		return BySignal, c.signal(ctx, o)
	}
	if refused := asRefused(o.id, err); refused != nil {
		return "", refused
	}
	return "", c.Wrap(ctx, o.op, err)
}

// update sends an order as an update, and waits for the answer.
func (c *Client) update(ctx context.Context, o order) error {
	handle, err := c.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: o.id, RunID: o.run, UpdateName: o.update, UpdateID: o.updateID, Args: []any{o.value},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	return handle.Get(ctx, nil)
}

func (c *Client) signal(ctx context.Context, o order) error {
	return c.Wrap(ctx, o.op, c.temporal.SignalWorkflow(ctx, o.id, o.run, o.signal, o.value))
}

// updateID returns the same ID for the same values: Temporal answers a repeated
// update with its first answer.
func updateID(values ...any) string {
	doc, _ := json.Marshal(values) // text, numbers and booleans always marshal
	return fmt.Sprintf("%x", sha256.Sum256(doc))[:32]
}

// Approve approves the plan that a release waits with. Approving a plan twice counts
// once.
func (c *Client) Approve(ctx context.Context, id, run string, r release.Review) (Delivery, error) {
	return c.deliver(ctx, review(id, run, true, r))
}

// Reject rejects the plan that a release waits with: the release stops.
func (c *Client) Reject(ctx context.Context, id, run string, r release.Review) (Delivery, error) {
	return c.deliver(ctx, review(id, run, false, r))
}

// SignalReview leaves a review for a worker that does not answer yet.
func (c *Client) SignalReview(ctx context.Context, id, run string, approve bool, r release.Review) error {
	return c.signal(ctx, review(id, run, approve, r))
}

func review(id, run string, approve bool, r release.Review) order {
	o := order{
		op: "review the plan of " + id, id: id, run: run, update: release.RejectUpdate, signal: release.RejectSignal,
		updateID: updateID(approve, r.By, r.Plan), value: r,
	}
	if approve {
		o.update, o.signal = release.ApproveUpdate, release.ApproveSignal
	}
	return o
}

// Resolve answers a held rollout, or a release that is held itself.
func (c *Client) Resolve(ctx context.Context, id string, a release.Answer) (Delivery, error) {
	return c.deliver(ctx, order{
		op: "resolve " + id, id: id, update: release.AnswerUpdate, signal: release.AnswerSignal,
		// A rollout may be held more than once: each time is another question.
		updateID: updateID(a.Choice, a.By, a.Hold), value: a,
	})
}

// Unpin removes the pin of an environment. The error is ErrNotPinned if it has none.
func (c *Client) Unpin(ctx context.Context, project, environment string, u release.Unpinning) (Delivery, error) {
	delivery, err := c.deliver(ctx, order{
		op: "unpin " + environment, id: release.PinID(project, environment), update: release.UnpinUpdate, signal: release.UnpinSignal, value: u,
	})
	var failed *Error
	if errors.As(err, &failed) && failed.Kind == NotFound && delivery == "" {
		return "", ErrNotPinned
	}
	return delivery, err
}

// extend makes a release under way continue to a further environment.
func (c *Client) extend(ctx context.Context, id, run string, e release.Extension) (Delivery, error) {
	return c.deliver(ctx, order{op: "extend " + id, id: id, run: run, update: release.ExtendUpdate, signal: release.ExtendSignal, value: e})
}

// Abort orders a release to stop, and returns its run ID. The error is ErrEnded if
// it has ended. Aborting twice is aborting once.
func (c *Client) Abort(ctx context.Context, id string, a release.Abort) (run string, err error) {
	x, err := c.Describe(ctx, id)
	if err != nil {
		return "", err
	}
	if x.Closed {
		return x.Run, ErrEnded
	}
	// A cancellation cannot carry by whom and why.
	if err := c.signal(ctx, order{op: "abort " + id, id: id, run: x.Run, signal: release.AbortSignal, value: a}); err != nil {
		c.warn(fmt.Sprintf("who aborts %s, and why, could not be recorded: %v", id, err))
	}
	err = c.temporal.CancelWorkflow(ctx, id, x.Run)
	if isNotFound(err) {
		return x.Run, ErrEnded
	}
	return x.Run, c.Wrap(ctx, "abort "+id, err)
}
