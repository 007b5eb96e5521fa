package client

import (
	"github.com/microbima/release/internal/cost"
	"github.com/microbima/release/release"
)

// A Snapshot is the state of a release or a rollout at one moment.
type Snapshot struct {
	release.Status
	// Failed is the reason if the workflow was abandoned or terminated. The state of
	// its environment is then uncertain.
	Failed string `json:"failed,omitempty"`
	// Partial is true if no worker responded, so that only facts of the server are set.
	Partial bool       `json:"blind,omitempty"`
	Page    string     `json:"page,omitempty"` // in the Temporal UI
	Cost    *cost.Cost `json:"cost,omitempty"`
}

// Stranded is the displayed outcome of a workflow that failed.
const Stranded = release.Outcome("stranded")

// Displayed returns the status, with Stranded as the outcome of a failed workflow.
func (s Snapshot) Displayed() release.Status {
	if s.Failed != "" && s.Outcome == "" {
		s.Outcome = Stranded
	}
	return s.Status
}

// IsOver reports whether the workflow has ended.
func (s Snapshot) IsOver() bool { return s.Outcome != "" || s.Failed != "" }

// HasBegun reports whether the rollout in an environment has verified that its plan is not
// stale, and has begun.
func (s Snapshot) HasBegun(environment string) bool {
	e := s.EnvironmentStatus(environment)
	return s.Phase != release.Planning && e != nil && len(e.Targets) > 0
}

// An Execution is one run of a workflow.
type Execution struct {
	ID     string
	Run    string
	Closed bool
}
