package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
)

// A pastRun is one closed run of a rollout.
type pastRun struct {
	id              string // run ID
	reported        bool   // it completed, so it has a report
	outcome         release.Outcome
	started, closed time.Time
}

// readOutcome returns the outcome of a run from its search attribute, or else from its
// report.
func (r pastRun) readOutcome(ctx context.Context, c Temporal, rollout string) (release.Outcome, error) {
	if r.outcome != "" {
		return r.outcome, nil
	}
	report, err := readReport(ctx, c, rollout, r.id)
	return report.Outcome, err
}

// readReport returns the report of a run that completed.
func readReport(ctx context.Context, c Temporal, rollout, run string) (report release.Report, err error) {
	err = c.GetWorkflow(ctx, rollout, run).Get(ctx, &report)
	return report, err
}

// stored decodes the values that clients of this program write into histories.
var stored = payload.NewConverter()

// decodePayloads decodes the first payload into value.
func decodePayloads(p *commonpb.Payloads, value any) error { return stored.FromPayloads(p, value) }

// closedRuns returns the closed runs of a workflow ID, newest first. It reads the
// newest run itself, because the server's list may lag.
func closedRuns(ctx context.Context, c Temporal, id string) ([]pastRun, error) {
	runs, err := listClosedRuns(ctx, c, id)
	if err != nil {
		return nil, err
	}
	newest, err := newestRun(ctx, c, id)
	if err != nil {
		return nil, err
	}
	if newest != nil && newest.WorkflowCloseTime != nil {
		run := pastRun{
			id: newest.WorkflowExecution.RunID, reported: newest.Status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
			started: newest.WorkflowStartTime, closed: *newest.WorkflowCloseTime,
		}
		if !slices.ContainsFunc(runs, func(r pastRun) bool { return r.id == run.id }) {
			runs = append(runs, run)
		}
	}
	slices.SortStableFunc(runs, func(a, b pastRun) int { return b.started.Compare(a.started) })
	return runs, nil
}

// listClosedRuns returns the closed runs in the server's list.
func listClosedRuns(ctx context.Context, c Temporal, id string) (runs []pastRun, err error) {
	in := &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = '%s' AND ExecutionStatus != 'Running'", id), PageSize: 200}
	for {
		page, err := c.ListWorkflow(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, e := range page.GetExecutions() {
			runs = append(runs, newPastRun(e))
		}
		if in.NextPageToken = page.GetNextPageToken(); len(in.NextPageToken) == 0 {
			return runs, nil
		}
	}
}

// newPastRun returns the run that an entry of the server's list describes.
func newPastRun(e *workflowpb.WorkflowExecutionInfo) pastRun {
	run := pastRun{
		id: e.GetExecution().GetRunId(), reported: e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
		started: e.GetStartTime().AsTime(), closed: e.GetCloseTime().AsTime(),
	}
	if p, ok := e.GetSearchAttributes().GetIndexedFields()[release.AttrOutcome]; ok && stored.FromPayload(p, &run.outcome) != nil {
		run.outcome = ""
	}
	return run
}

// newestRun returns the newest run of a workflow ID, or nil if there is none.
func newestRun(ctx context.Context, c Temporal, id string) (*client.WorkflowExecutionDescription, error) {
	d, err := c.DescribeWorkflow(ctx, id, "")
	if missing := new(serviceerror.NotFound); errors.As(err, &missing) {
		return nil, nil
	}
	return d, err
}

// lastReport returns the report of the newest promoted, restored or unchanged rollout
// of an environment, or nil.
func lastReport(ctx context.Context, c Temporal, in EnvironmentRef) (*release.Report, error) {
	id := release.RolloutID(in.Project, in.Environment)
	runs, err := closedRuns(ctx, c, id)
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		if !run.reported {
			continue
		}
		outcome, err := run.readOutcome(ctx, c, id)
		if err == nil && !determinesHead(outcome) {
			continue
		}
		var report release.Report
		if err == nil {
			report, err = readReport(ctx, c, id, run.id)
		}
		if err != nil {
			return nil, err
		}
		return &report, nil
	}
	return nil, nil
}

// determinesHead reports whether the report of a rollout with that outcome has the head
// of its environment.
func determinesHead(o release.Outcome) bool {
	return o == release.Promoted || o == release.Restored || o == release.Unchanged
}
