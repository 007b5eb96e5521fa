package client

import (
	"github.com/microbima/release/internal/cost"
	"github.com/microbima/release/release"
)

// A Snapshot is what is known of a release or a rollout at one moment.
type Snapshot struct {
	release.Status
	// Failed is how the workflow ended, if it did not end by itself: it was
	// abandoned or terminated. What its environment runs is not certain then.
	Failed string `json:"failed,omitempty"`
	// Partial: no worker answers, so this is only what Temporal itself has.
	Partial bool       `json:"blind,omitempty"`
	Page    string     `json:"page,omitempty"` // in the Temporal UI
	Cost    *cost.Cost `json:"cost,omitempty"`
}

// Stranded stands in for an outcome where a workflow did not end by itself.
const Stranded = release.Outcome("stranded")

// Displayed returns the status with an outcome wherever the workflow has ended.
func (s Snapshot) Displayed() release.Status {
	if s.Failed != "" && s.Outcome == "" {
		s.Outcome = Stranded
	}
	return s.Status
}

// IsOver reports whether the workflow has ended.
func (s Snapshot) IsOver() bool { return s.Outcome != "" || s.Failed != "" }

// HasBegun reports whether the rollout in an environment has found that its plan
// still fits, and has begun.
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
