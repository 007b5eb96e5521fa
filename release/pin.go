package release

import (
	"fmt"
	"time"
)

// A Pin stops releases from changing an environment that was rolled back, until a
// user removes the pin. It is the input of the Pin workflow.
type Pin struct {
	Project     string    `json:"project"`
	Environment string    `json:"environment"`
	Release     string    `json:"release"`           // workflow ID of the rollback
	Revision    Revision  `json:"revision,omitzero"` // revision that the rollback restored
	By          string    `json:"by"`
	Reason      string    `json:"reason,omitempty"`
	Since       time.Time `json:"since"`
}

// String returns the pin in one sentence.
func (p Pin) String() string {
	s := fmt.Sprintf("%s is pinned since %s: rolled back by %s", p.Environment, p.Since.UTC().Format("2006-01-02 15:04 UTC"), p.By)
	if p.Revision.Commit != "" {
		s = fmt.Sprintf("%s is pinned since %s: rolled back to %s by %s", p.Environment, p.Since.UTC().Format("2006-01-02 15:04 UTC"), p.Revision.Label(), p.By)
	}
	if p.Reason != "" {
		s += " (" + p.Reason + ")"
	}
	return s
}

// An Unpinning is a request to remove a pin.
type Unpinning struct {
	By     string `json:"by"`
	Reason string `json:"reason"`
}
