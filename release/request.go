package release

import (
	"fmt"
	"time"
)

// Protocol is what commands and workers say to each other: the meaning of
// Request, Status and the doors of the workflows. It is raised when one of them
// needs the other to be as new as itself. 2: requests that name images, which a
// worker of before would build instead. 3: the updates approve and reject.
const Protocol = 3

// Mismatch says what to do when a request or a status is of another protocol
// than this program's, or "" when it is not. By is whose it is: "worker".
func Mismatch(protocol int, by string) string {
	switch {
	case protocol > Protocol:
		return fmt.Sprintf("the %s is newer than this program (it speaks protocol %d, this one %d): update this program", by, protocol, Protocol)
	case protocol < Protocol:
		return fmt.Sprintf("the %s is older than this program (it speaks protocol %d, this one %d): update the %s", by, protocol, Protocol, by)
	}
	return ""
}

// A Request asks for a release. It is the input of the Release workflow.
type Request struct {
	Project    string   `json:"project"`
	Repository string   `json:"repository"` // where workers fetch it: https, ssh, or an absolute path
	Revision   Revision `json:"revision"`
	To         string   `json:"to,omitempty"`   // environment; "" is the last one
	Apps       []string `json:"apps,omitempty"` // only these; none means all
	By         string   `json:"by,omitempty"`
	// Images are references to take as they are instead of building, by app.
	Images   map[string]string `json:"images,omitempty"`
	Version  string            `json:"version,omitempty"` // of the program that asks
	Protocol int               `json:"protocol"`
	// Bake, if set, replaces the bake time of every environment that has one.
	Bake *Duration `json:"bake,omitempty"`
	// Skip are environments on the path that are left out.
	Skip []Skipped `json:"skip,omitempty"`
	// AllowDiverged lets a revision replace one that it does not descend from, in
	// environments without a gate, unasked.
	AllowDiverged bool `json:"allow_diverged,omitempty"`
	// Moved says why the project is at another repository than its earlier
	// releases were. Without it another repository is refused.
	Moved string `json:"moved,omitempty"`
	// Rollback asks for what ran before instead of for a revision.
	Rollback *Rollback `json:"rollback,omitempty"`
}

// Priority returns how soon tasks of the release are handed out where a queue
// has more than its workers can take: 1 (an emergency rollback) before 2 (a
// rollback) before 3, which is also Temporal's default.
func (r Request) Priority() int {
	switch {
	case r.Rollback == nil:
		return 3
	case r.Rollback.Emergency:
		return 1
	}
	return 2
}

// A Rollback asks for an environment as it was before its last release, or as
// a release left it.
type Rollback struct {
	Environment string `json:"environment"`
	To          string `json:"to,omitempty"` // workflow ID of a release
	// Emergency passes the gate. It needs a reason.
	Emergency bool   `json:"emergency,omitempty"`
	Reason    string `json:"reason,omitempty"`
	// Shown, if set, is what the person was shown to go back to. Anything else
	// is refused.
	Shown *Origin `json:"shown,omitempty"`
	// Revision is what the person was told that it goes back to.
	Revision Revision `json:"revision,omitzero"`
}

// An Origin names a State in history: the one before, or after, a rollout.
type Origin struct {
	Run   string `json:"run"`             // run ID of the rollout
	After bool   `json:"after,omitempty"` // the State it left, not the one it found
}

// A RolloutRequest is the input of the Rollout workflow: one plan to carry out
// in one environment, or bring its baseline back.
type RolloutRequest struct {
	Project  string   `json:"project"`
	Release  string   `json:"release"` // workflow ID of the release it belongs to
	Revision Revision `json:"revision"`
	Plan     Plan     `json:"plan"`
	Bake     Duration `json:"bake"`
	By       string   `json:"by,omitempty"`
	// Irreversible: once a release command has run, a failure is held.
	Irreversible bool `json:"irreversible,omitempty"`
	// Restores, if set, names the State that Plan goes back to: a person asked
	// for a rollback.
	Restores *Origin `json:"restores,omitempty"`
	// Follows is the run ID of a rollout of the same release that ended without
	// a report. Its baseline stays the baseline.
	Follows string `json:"follows,omitempty"`
	// TakeOver: Plan is that of Follows, and is not carried out: the rollout holds
	// the lock until a person decides what becomes of the environment. Tried says
	// what came of the tries since.
	TakeOver bool   `json:"take_over,omitempty"`
	Tried    string `json:"tried,omitempty"`
	// Aborted: the release was, so that TakeOver offers no retry.
	Aborted bool `json:"aborted,omitempty"`
	// Unread says which rollout before this one ended without a report that can be
	// read: a person has approved the plan all the same.
	Unread string `json:"unread,omitempty"`
	// Gate is that of the environment at the revision. The next release reads it
	// in the report.
	Gate *Gate `json:"gate,omitempty"`
	// Head is what the environment ran as a whole when the plan was made; of a
	// rollback, what it ran at the time that it goes back to.
	Head *Head `json:"head,omitempty"`
	// Rollback: a person asked for what ran before. It is exempt from order.
	Rollback bool `json:"rollback,omitempty"`
	// Unchanged: the plan has no steps. The rollout records that the environment is at
	// the revision as a whole.
	Unchanged bool `json:"unchanged,omitempty"`
	// Whole: the plan is about every app of the environment.
	Whole bool `json:"whole,omitempty"`
}

// A Skipped environment is one on the path that a person left out.
type Skipped struct {
	Environment string `json:"environment"`
	By          string `json:"by"`
	Reason      string `json:"reason"`
}

// An Extension asks a release that runs to go on to a further environment.
type Extension struct {
	To string `json:"to"`
	By string `json:"by"`
}

// A Decision is a review of exactly one plan, as a release records it.
type Decision struct {
	Approve bool   `json:"approve"`
	By      string `json:"by"`
	Reason  string `json:"reason,omitempty"`
	Plan    string `json:"plan"` // 8 or more digits of the plan's hash
}

// A Given decision counts, or says why it does not.
type Given struct {
	Decision
	At      time.Time `json:"at"`
	Door    string    `json:"door"`              // update or signal
	Ignored string    `json:"ignored,omitempty"` // why it does not count; "" if it does
}

// A Choice is what a person may say of a held rollout.
type Choice string

const (
	Retry    Choice = "retry"    // try the same again
	GoBack   Choice = "rollback" // bring the baseline back
	Keep     Choice = "keep"     // leave every machine as it is, on purpose
	Abandon  Choice = "abandon"  // give up: the rollout fails and is stranded
	NoChoice Choice = ""
)

// An Answer is a choice for a held rollout.
type Answer struct {
	Choice Choice `json:"choice"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
	// Hold is the number of the hold that is answered; 0 is the present one.
	Hold int `json:"hold,omitempty"`
}
