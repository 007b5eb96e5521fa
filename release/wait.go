package release

import "time"

// A Wait is an activity that is tried again after an error, that no worker has
// taken, or that reports what it waits for. The workflow does not see it: it is
// read from Temporal beside the status.
type Wait struct {
	Workflow string    `json:"workflow"`
	What     string    `json:"what"`            // summary of the activity
	Error    string    `json:"error,omitempty"` // of the last attempt, or what the running one reports
	Attempt  int       `json:"attempt"`
	Next     time.Time `json:"next,omitzero"` // when the next attempt begins; zero: one is under way
}

// A TaskFailure is why a workflow stands still: the workers cannot go on with
// its history. Temporal tries again until one can.
type TaskFailure struct {
	Workflow string `json:"workflow"`
	Attempt  int    `json:"attempt"`
	Message  string `json:"message"`
}
