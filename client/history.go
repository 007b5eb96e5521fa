package client

import (
	"context"
	"slices"
	"strings"
	"sync"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/microbima/release/internal/cost"
	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
)

// Cost returns the sum of the costs of a release and its rollouts, computed from their
// histories. It leaves out events that cannot be read.
func (c *Client) Cost(ctx context.Context, s Snapshot) cost.Cost {
	parts := make([]cost.Cost, 1+len(s.Environments))
	var all sync.WaitGroup
	all.Go(func() { parts[0] = cost.Of(c.readHistory(ctx, s.ID, s.Run), c.now()) })
	for i, e := range s.Environments {
		if e.Rollout != "" && e.Run != "" {
			all.Go(func() { parts[1+i] = cost.Of(c.readHistory(ctx, e.Rollout, e.Run), c.now()) })
		}
	}
	all.Wait()
	total := parts[0]
	for _, part := range parts[1:] {
		total = total.Plus(part)
	}
	return total
}

// readHistory returns the events of a workflow, up to the first that cannot be read.
func (c *Client) readHistory(ctx context.Context, id, run string) (events []*historypb.HistoryEvent) {
	it := c.temporal.GetWorkflowHistory(ctx, id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		event, err := it.Next()
		if err != nil {
			return events
		}
		events = append(events, event)
	}
	return events
}

// RunningOutputs returns the outputs of the running activities of a workflow from their
// last heartbeats. It returns nil if Temporal does not respond.
func (c *Client) RunningOutputs(ctx context.Context, id, run string) (outputs []release.Output) {
	described, err := c.temporal.DescribeWorkflowExecution(ctx, id, run)
	if err != nil {
		return nil
	}
	for _, a := range described.PendingActivities {
		var o release.Output
		if payload.NewConverter().FromPayloads(a.HeartbeatDetails, &o) == nil && strings.HasPrefix(o.Log, "logs/") {
			outputs = append(outputs, o)
		}
	}
	slices.SortFunc(outputs, func(a, b release.Output) int { return strings.Compare(a.Log, b.Log) })
	return outputs
}
