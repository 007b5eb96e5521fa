package activities

import (
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/microbima/release/release"
)

// An Unreported rollout is one that ended without a report: terminated, timed
// out or failed. What is here was read from its history.
type Unreported struct {
	Run     string `json:"run"`     // its run ID
	Release string `json:"release"` // workflow ID of the release it belonged to
	Why     string `json:"why"`     // how it ended, in a sentence
	// Begun: a step on a machine was scheduled. Otherwise it changed nothing.
	Begun bool `json:"begun"`
	// Plan is the plan that it carried out; States is what it started from, and
	// Baselines what a rollback of it restores. Both are empty if the history does not
	// have them.
	Plan       release.Plan       `json:"plan"`
	States     []release.State    `json:"states,omitempty"`
	Baselines  []release.Baseline `json:"baselines,omitempty"`
	Opened     Opened             `json:"opened,omitzero"`
	RanCommand bool               `json:"ran_command,omitempty"`
	// Stopped are the IDs of machines that it stopped, or was about to stop, and did
	// not start or update afterwards.
	Stopped []string `json:"stopped,omitempty"`
	// Restores is what it restored, if it was a rollback.
	Restores *release.Origin `json:"restores,omitempty"`
	// Head is what the environment ran as a whole before it, if it did.
	Head *release.Head `json:"head,omitempty"`
	// Follows is the run ID of the rollout without a report that it followed.
	Follows string `json:"follows,omitempty"`
	// Close is what CloseRollout has to clean up of it.
	Close CloseInput `json:"close"`
}

// DescribeEnd returns in a sentence how e ended a workflow from outside or as failed,
// or "".
func DescribeEnd(id string, e *historypb.HistoryEvent) string {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
		a := e.GetWorkflowExecutionTerminatedEventAttributes()
		said := id + " was terminated"
		if a.GetIdentity() != "" {
			said += " by " + a.GetIdentity()
		}
		if a.GetReason() != "" {
			said += ": " + a.GetReason()
		}
		return said
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		return id + " timed out"
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		return id + " was canceled"
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		return id + " failed: " + e.GetWorkflowExecutionFailedEventAttributes().GetFailure().GetMessage()
	}
	return ""
}
