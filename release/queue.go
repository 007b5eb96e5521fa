package release

import "time"

// A Queue decides which of the releases that wait for an environment run.
type Queue string

const (
	QueueNewest Queue = "newest" // a waiting release gives way to a waiting descendant
	QueueEach   Queue = "each"
)

// A Ticket is the place of a waiting release in the queue of an environment.
type Ticket struct {
	Environment string    `json:"environment"`
	Release     string    `json:"release"` // workflow ID
	Revision    Revision  `json:"revision"`
	Since       time.Time `json:"since"`              // start of the release
	Rollback    bool      `json:"rollback,omitempty"` // served before all others
}

// A Turn tells a waiting release that the environment is free, and lists the releases
// behind it in the queue.
type Turn struct {
	Environment string   `json:"environment"`
	Behind      []Ticket `json:"behind,omitempty"`
}
