package activities

import (
	"context"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/microbima/release/release"
)

// BaselineInput asks what an environment ran.
type BaselineInput struct {
	Project  string           `json:"project"`
	Rollback release.Rollback `json:"rollback"`
}

// A Past is what an environment ran at some time.
type Past struct {
	Baselines []release.Baseline `json:"baselines"`
	Said      string             `json:"said"` // which time that was, for people
}

// FindBaseline reads, from the histories of earlier rollouts, what the
// environment ran before its last release, or after the one that is named. It
// fails with KindRefused when no history tells.
func (a *Activities) FindBaseline(ctx context.Context, in BaselineInput) (Past, error) {
	defer beat(ctx)()
	c, id := a.temporal(ctx), release.RolloutID(in.Project, in.Rollback.Environment)
	list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowId = '%s' AND ExecutionStatus = 'Completed'", id), PageSize: 200,
	})
	if err != nil {
		return Past{}, classify(ctx, err)
	}
	for _, e := range list.GetExecutions() {
		report, err := reportOf(ctx, c, e.GetExecution())
		if err != nil {
			return Past{}, classify(ctx, err)
		}
		if past, ok := in.past(report, e.GetCloseTime().AsTime()); ok {
			return past, nil
		}
	}
	if in.Rollback.To != "" {
		return Past{}, refused(release.KindRefused, fmt.Errorf("no history tells what %s left in %s; `release list` shows what there is", in.Rollback.To, in.Rollback.Environment))
	}
	return Past{}, refused(release.KindRefused, fmt.Errorf("no release has changed %s yet, as far as histories go back: there is nothing to go back to", in.Rollback.Environment))
}

func (in BaselineInput) past(r release.Report, at time.Time) (Past, bool) {
	when := at.UTC().Format("2006-01-02 15:04 UTC")
	switch {
	case in.Rollback.To != "" && r.Release == in.Rollback.To && len(r.After) > 0 && r.Outcome == release.Promoted:
		return Past{Baselines: r.After, Said: fmt.Sprintf("as %s left it on %s", r.Release, when)}, true
	case in.Rollback.To == "" && len(r.Before) > 0 && (r.Outcome == release.Promoted || r.Outcome == release.Kept):
		return Past{Baselines: r.Before, Said: fmt.Sprintf("as it was before %s, on %s", r.Release, when)}, true
	}
	return Past{}, false
}

func reportOf(ctx context.Context, c Temporal, run *commonpb.WorkflowExecution) (report release.Report, err error) {
	err = c.GetWorkflow(ctx, run.GetWorkflowId(), run.GetRunId()).Get(ctx, &report)
	return report, err
}
