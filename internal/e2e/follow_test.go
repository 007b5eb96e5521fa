package e2e_test

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"

	"github.com/microbima/release/release"
)

// approvePlan approves the plan of the release by signal, which needs no worker.
func approvePlan(ctx context.Context, c client.Client, run client.WorkflowRun) error {
	plan, err := waitForGate(ctx, c, run)
	if err != nil {
		return err
	}
	return c.SignalWorkflow(ctx, run.GetID(), run.GetRunID(), release.ApproveSignal, release.ReviewInput{By: "ben", Plan: plan})
}

// waitForGate waits until the release waits for approval, and returns the hash of the
// plan. The timer of the gate is the only timer of a release.
func waitForGate(ctx context.Context, c client.Client, run client.WorkflowRun) (string, error) {
	for {
		asks, err := waitForTimer(ctx, c, run)
		switch {
		case asks:
			return queryPlan(ctx, c, run)
		case err == nil:
			return "", errors.New("it never asked")
		case ctx.Err() != nil:
			return "", fmt.Errorf("wait until it asks: %w", err)
		}
		// When a worker dies, the server may lose a long poll.
	}
}

// waitForTimer waits until the release starts its timer, or has ended.
func waitForTimer(ctx context.Context, c client.Client, run client.WorkflowRun) (bool, error) {
	events := c.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), true, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return false, err
		}
		if e.EventType == enums.EVENT_TYPE_TIMER_STARTED {
			return true, nil
		}
	}
	return false, nil
}

// queryPlan queries the release until a worker responds.
func queryPlan(ctx context.Context, c client.Client, run client.WorkflowRun) (string, error) {
	for {
		var s release.Status
		v, err := c.QueryWorkflow(ctx, run.GetID(), run.GetRunID(), release.StatusQuery)
		if err == nil {
			err = v.Get(&s)
		}
		if err == nil && s.Gate != nil {
			return s.Gate.Plan, nil
		}
		if ctx.Err() != nil {
			return "", fmt.Errorf("ask for the plan: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// An eventHistory is the history of a workflow.
type eventHistory struct {
	id     string
	events []*historypb.HistoryEvent
}

// historiesOf returns the histories of a release and its rollouts, in order of start.
func historiesOf(ctx context.Context, c client.Client, run client.WorkflowRun) ([]eventHistory, error) {
	all, err := historyOf(ctx, c, run.GetID(), run.GetRunID())
	histories := []eventHistory{all}
	for _, e := range all.events {
		child := e.GetChildWorkflowExecutionStartedEventAttributes().GetWorkflowExecution()
		if child == nil || err != nil {
			continue
		}
		all, err = historyOf(ctx, c, child.WorkflowId, child.RunId)
		histories = append(histories, all)
	}
	return histories, err
}

func historyOf(ctx context.Context, c client.Client, id, run string) (eventHistory, error) {
	h := eventHistory{id: id}
	for it := c.GetWorkflowHistory(ctx, id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			return h, fmt.Errorf("history of %s: %w", id, err)
		}
		h.events = append(h.events, e)
	}
	return h, nil
}
