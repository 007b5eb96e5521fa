package activities

import (
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/microbima/release/release"
)

// An Unreported rollout ended without a report: terminated, timed out or failed. Its
// fields are read from its history.
type Unreported struct {
	Run     string `json:"run"`     // its run ID
	Release string `json:"release"` // workflow ID of the release it belonged to
	Why     string `json:"why"`     // how it ended, in a sentence
	// Begun: a step on a machine was scheduled. Otherwise nothing was changed.
	Begun bool `json:"begun"`
	// Plan is its plan, States are the states before its first change, and Baselines
	// are the states that its rollback restores. States and Baselines are empty if the
	// history does not have them.
	Plan      release.Plan       `json:"plan"`
	States    []release.State    `json:"states,omitempty"`
	Baselines []release.Baseline `json:"baselines,omitempty"`
	// Written has the versions that it gave machines, as far as their steps completed.
	Written    Written `json:"written,omitempty"`
	Opened     Opened  `json:"opened,omitzero"`
	RanCommand bool    `json:"ran_command,omitempty"`
	// Stopped are the IDs of machines that it stopped, or was about to stop, and did
	// not start or update after that.
	Stopped []string `json:"stopped,omitempty"`
	// Restores is the origin of the restored state, for a rollback.
	Restores *release.StateRef `json:"restores,omitempty"`
	// Head is the head of the environment before it, or nil.
	Head *release.Head `json:"head,omitempty"`
	// PredecessorRun is the run ID of the unreported rollout that it followed.
	PredecessorRun string `json:"predecessor_run,omitempty"`
	// Close is the input of CloseRollout that cleans up after it.
	Close CloseInput `json:"close"`
}

// DescribeEnd returns a sentence on how e closed a workflow without a result, or "".
func DescribeEnd(id string, e *historypb.HistoryEvent) string {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
		a := e.GetWorkflowExecutionTerminatedEventAttributes()
		text := id + " was terminated"
		if a.GetIdentity() != "" {
			text += " by " + a.GetIdentity()
		}
		if a.GetReason() != "" {
			text += ": " + a.GetReason()
		}
		return text
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		return id + " timed out"
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		return id + " was canceled"
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		return id + " failed: " + e.GetWorkflowExecutionFailedEventAttributes().GetFailure().GetMessage()
	}
	return ""
}
