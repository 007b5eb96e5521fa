package release

import "time"

// An Entry describes one release in a list.
type Entry struct {
	ID          string    `json:"id"` // workflow ID
	Run         string    `json:"run"`
	Project     string    `json:"project"`
	Revision    string    `json:"revision,omitempty"` // first 12 digits of the commit
	Subject     string    `json:"subject,omitempty"`
	By          string    `json:"by,omitempty"`
	Environment string    `json:"environment,omitempty"`
	Phase       string    `json:"phase,omitempty"`
	Outcome     string    `json:"outcome,omitempty"`
	Started     time.Time `json:"started"`
	Ended       time.Time `json:"ended,omitzero"`
	// CutOff is true for a workflow that was ended from outside, without a report.
	CutOff bool `json:"cut_off,omitempty"`
}
