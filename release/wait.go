package release

import "time"

// A Wait is an activity that is retried after an error, that no worker has started, or
// that reports in its heartbeats that it waits. Workflows do not set it; readers of the
// status add it from Temporal.
type Wait struct {
	Workflow string    `json:"workflow"`
	Activity string    `json:"activity"`        // summary of the activity
	Error    string    `json:"error,omitempty"` // of the last attempt, or the reason in the last heartbeat
	Attempt  int       `json:"attempt"`
	Next     time.Time `json:"next,omitzero"` // start of the next attempt; zero if one runs
}

// A TaskFailure describes a workflow that workers cannot continue with its history.
// Temporal retries the workflow task.
type TaskFailure struct {
	Workflow string `json:"workflow"`
	Attempt  int    `json:"attempt"`
	Message  string `json:"message"`
}
