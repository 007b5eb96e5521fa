package release

import "time"

// A Queue says which of the releases that wait for an environment are carried
// out.
type Queue string

const (
	QueueNewest Queue = "newest" // one that has not begun gives way to a descendant of it that waits, too
	QueueEach   Queue = "each"
)

// A Ticket is the place of a release that waits for an environment.
type Ticket struct {
	Environment string    `json:"environment"`
	Release     string    `json:"release"` // workflow ID
	Revision    Revision  `json:"revision"`
	Since       time.Time `json:"since"`              // start of the release
	Rollback    bool      `json:"rollback,omitempty"` // served before all others
}

// A Turn tells a waiting release that the environment is free, and which
// releases wait behind it.
type Turn struct {
	Environment string   `json:"environment"`
	Behind      []Ticket `json:"behind,omitempty"`
}
