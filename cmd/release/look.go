package main

import (
	"context"
	"errors"
	"sync"

	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/internal/cost"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// A sight is what can be seen of a release or a rollout now.
type sight struct {
	release.Status
	// Failed says how the workflow ended where it did not end by itself: it was
	// given up, or terminated. Nobody knows then that all is well.
	Failed string `json:"failed,omitempty"`
	// Blind: no worker answers, so only what Temporal itself knows is here.
	Blind bool       `json:"blind,omitempty"`
	Page  string     `json:"page,omitempty"` // in the Temporal UI
	Cost  *cost.Cost `json:"cost,omitempty"`
}

// stranded stands in for an outcome where a workflow did not end by itself.
const stranded = release.Outcome("stranded")

// shown is the status as people should read it.
func (s sight) shown() release.Status {
	if s.Failed != "" && s.Outcome == "" {
		s.Outcome = stranded
	}
	return s.Status
}

// over says whether the workflow has ended.
func (s sight) over() bool { return s.Outcome != "" || s.Failed != "" }

// code is the exit code that s stands for, once it is over or held.
func (s sight) code() int {
	if s.Failed != "" || s.Held != nil {
		return exitPerson
	}
	return code(s.Outcome)
}

// look says where a workflow is. Of one that is over the server knows the
// report; of one that runs, a worker has to be asked.
func (s *server) look(ctx context.Context, id, run string) (sight, error) {
	described, err := s.DescribeWorkflowExecution(ctx, id, run)
	if err != nil {
		return sight{}, s.said(ctx, "look at "+id, err)
	}
	info := described.WorkflowExecutionInfo
	run = info.Execution.RunId
	var seen sight
	switch info.Status {
	case enums.WORKFLOW_EXECUTION_STATUS_RUNNING, enums.WORKFLOW_EXECUTION_STATUS_PAUSED:
		s.addWaits(ctx, &seen, described)
		waits, failed := seen.Waits, seen.TaskFailure
		seen, err = s.ask(ctx, info, failed != nil)
		seen.Waits, seen.TaskFailure = waits, failed
	case enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		var report release.Report
		err = s.GetWorkflow(ctx, id, run).Get(ctx, &report)
		seen.Status = report.Status
		if err != nil {
			err = s.said(ctx, "read the report of "+id, err)
		}
	default:
		seen, err = s.ask(ctx, info, false)
		seen.Failed = failure(s.GetWorkflow(ctx, id, run).Get(ctx, nil), info.Status)
		if seen.Cause == nil {
			seen.Cause = &release.Cause{Message: seen.Failed}
		}
		if isCutOff(info.Status) && info.GetType().GetName() == release.ReleaseWorkflow {
			s.settle(ctx, info, &seen)
		}
	}
	seen.Page = s.page(id, run)
	return seen, err
}

// failure is why a workflow ended that did not complete.
func failure(err error, status enums.WorkflowExecutionStatus) string {
	var said *temporal.ApplicationError
	if errors.As(err, &said) {
		return said.Message()
	}
	switch status {
	case enums.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return "it was terminated: nothing was brought back"
	case enums.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return "it was cancelled before it began"
	}
	if err != nil {
		return err.Error()
	}
	return "it ended as " + status.String()
}

// ask asks the workflow, and the rollout it has under way. Without a worker it
// says what the server knows; so it does of one whose task fails, and which can
// answer nothing.
func (s *server) ask(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, taskFails bool) (sight, error) {
	id, run := info.Execution.WorkflowId, info.Execution.RunId
	status, err := s.query(ctx, id, run)
	if noWorker(ctx, err) || err != nil && taskFails && ctx.Err() == nil {
		e, request := entry(info), requestOf(info)
		if request.Rollback != nil {
			request.Revision = restored(info, request).Revision
		}
		return sight{Blind: true, Status: release.Status{
			ID: id, Run: run, Project: e.Project, Revision: request.Revision, By: request.By,
			Phase: release.Phase(e.Phase), Environment: e.Environment, Started: e.Started, Ended: e.Ended,
		}}, nil
	}
	if err != nil {
		return sight{}, s.said(ctx, "ask "+id, err)
	}
	if status.Rollout == "" || status.Outcome != "" {
		return sight{Status: status}, nil
	}
	rollout, err := s.query(ctx, status.Rollout, "")
	if err != nil { // it has not begun
		return sight{Status: status}, nil
	}
	return sight{Status: view.Merge(status, &rollout)}, nil
}

func (s *server) query(ctx context.Context, id, run string) (status release.Status, err error) {
	call, cancel := context.WithTimeout(ctx, s.env.worker())
	defer cancel()
	answer, err := s.QueryWorkflow(call, id, run, release.StatusQuery)
	if err != nil {
		return status, err
	}
	if err := answer.Get(&status); err != nil {
		return status, err
	}
	if why := release.Mismatch(status.Protocol, "worker"); why != "" {
		s.env.warn("%s", why)
	}
	return status, nil
}

// cost adds up the histories of a release and of its rollouts.
func (s *server) cost(ctx context.Context, seen sight) *cost.Cost {
	parts := make([]cost.Cost, 1+len(seen.Environments))
	var all sync.WaitGroup
	all.Go(func() { parts[0] = cost.Of(s.history(ctx, seen.ID, seen.Run), s.env.now()) })
	for i, e := range seen.Environments {
		if e.Rollout != "" && e.Run != "" {
			all.Go(func() { parts[1+i] = cost.Of(s.history(ctx, e.Rollout, e.Run), s.env.now()) })
		}
	}
	all.Wait()
	total := parts[0]
	for _, part := range parts[1:] {
		total = total.Plus(part)
	}
	return &total
}

// history is all events of a workflow so far. It is for counting: what cannot
// be read is left out.
func (s *server) history(ctx context.Context, id, run string) (events []*historypb.HistoryEvent) {
	it := s.GetWorkflowHistory(ctx, id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		event, err := it.Next()
		if err != nil {
			return events
		}
		events = append(events, event)
	}
	return events
}

// blindly tells people that what they see is not all.
func (e *env) blindly(s sight) {
	switch {
	case s.Blind && s.TaskFailure != nil:
		e.say("it stands still and cannot answer, so only what Temporal itself knows is shown: %s", view.TaskFailure(*s.TaskFailure))
	case s.Blind:
		e.say("no worker answers, so only what Temporal itself knows is shown; nothing is lost, and release %s goes on once there is one (release dev, or release worker)", view.Ref(s.ID))
	}
}
