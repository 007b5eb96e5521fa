package client

import (
	"cmp"
	"time"

	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"

	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
)

// newEntry returns the facts of a workflow that the server has without a worker.
func newEntry(info *workflowpb.WorkflowExecutionInfo) release.Entry {
	attr := func(name string) (value string) {
		if p, ok := info.GetSearchAttributes().GetIndexedFields()[name]; ok {
			_ = payload.NewConverter().FromPayload(p, &value) // unknown if it is not text
		}
		return value
	}
	request := decodeRequest(info)
	e := release.Entry{
		ID: info.Execution.WorkflowId, Run: info.Execution.RunId,
		Project: attr(release.AttrProject), Revision: attr(release.AttrRevision), Environment: attr(release.AttrEnvironment),
		Phase: attr(release.AttrPhase), Outcome: attr(release.AttrOutcome),
		Subject: request.Revision.Subject, By: request.By,
		Started: timeOrZero(info.StartTime.AsTime()),
	}
	if request.Rollback != nil {
		e.Subject = "back to " + cmp.Or(restoredRevision(info, request).Summary(), "the earlier state of "+request.Rollback.Environment)
	}
	if info.Status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING && info.CloseTime != nil {
		e.Ended, e.CutOff = timeOrZero(info.CloseTime.AsTime()), isCutOff(info.Status)
	}
	return e
}

// restoredRevision returns the revision that a rollback restores, as far as it is known.
func restoredRevision(info *workflowpb.WorkflowExecutionInfo, request release.Request) (r release.RestoredRevision) {
	if p, ok := info.GetMemo().GetFields()[release.MemoRestores]; ok {
		_ = payload.NewConverter().FromPayload(p, &r) // unknown if another program wrote it
	}
	if r.Commit == "" {
		r.Revision = request.Rollback.Revision
	}
	return r
}

// decodeRequest returns the request of a release from its memo.
func decodeRequest(info *workflowpb.WorkflowExecutionInfo) (r release.Request) {
	if p, ok := info.GetMemo().GetFields()[release.MemoRequest]; ok {
		_ = payload.NewConverter().FromPayload(p, &r) // unknown if another program wrote it
	}
	return r
}

// timeOrZero returns t, or the zero time for the zero of a protobuf timestamp.
func timeOrZero(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// isCutOff reports whether a workflow was ended from outside, without a report.
func isCutOff(status enums.WorkflowExecutionStatus) bool {
	return status == enums.WORKFLOW_EXECUTION_STATUS_TERMINATED || status == enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT
}
