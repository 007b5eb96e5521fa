package release

import (
	"fmt"
	"time"
)

// Protocol is the version of the protocol between commands and workers: the meaning
// of Request, Status, updates and signals. It is incremented when commands and workers
// must be updated together. 2: requests with images, which older workers would build.
// 3: the updates approve and reject.
const Protocol = 3

// CheckProtocol returns an error that says what to do if protocol, that of a request or a
// status, differs from Protocol. by names the other side: "worker".
func CheckProtocol(protocol int, by string) error {
	switch {
	case protocol > Protocol:
		return fmt.Errorf("the %s is newer than this program (protocol %d, this program has %d): update this program", by, protocol, Protocol)
	case protocol < Protocol:
		return fmt.Errorf("the %s is older than this program (protocol %d, this program has %d): update the %s", by, protocol, Protocol, by)
	}
	return nil
}

// A Request is the input of the Release workflow.
type Request struct {
	Project    string   `json:"project"`
	Repository string   `json:"repository"` // from which workers fetch: https, ssh, or an absolute path
	Revision   Revision `json:"revision"`
	To         string   `json:"to,omitempty"`   // environment; "" is the last one
	Apps       []string `json:"apps,omitempty"` // only these; none means all
	By         string   `json:"by,omitempty"`
	// Images are references to use instead of a build, by app.
	Images   map[string]string `json:"images,omitempty"`
	Version  string            `json:"version,omitempty"` // of the program that sends the request
	Protocol int               `json:"protocol"`
	// Bake, if set, replaces the bake time of every environment that has one.
	Bake *Duration `json:"bake,omitempty"`
	// Skip are environments on the path to leave out.
	Skip []Skipped `json:"skip,omitempty"`
	// AllowDiverged allows a revision to replace one that it does not descend from
	// without approval, in environments without a gate.
	AllowDiverged bool `json:"allow_diverged,omitempty"`
	// Moved is the reason why the project has another repository than in its
	// earlier releases. Without it another repository is refused.
	Moved string `json:"moved,omitempty"`
	// Rollback, if set, asks for a rollback instead of a release of Revision.
	Rollback *Rollback `json:"rollback,omitempty"`
}

// Priority returns the Temporal priority of the tasks of the release: 1 for an
// emergency rollback, 2 for a rollback, 3 otherwise (Temporal's default). Lower runs
// first when a queue has a backlog.
func (r Request) Priority() int {
	switch {
	case r.Rollback == nil:
		return 3
	case r.Rollback.Emergency:
		return 1
	}
	return 2
}

// A Rollback is a request to restore an environment to its state before the last
// release, or to the state that a release left.
type Rollback struct {
	Environment string `json:"environment"`
	To          string `json:"to,omitempty"` // workflow ID of a release
	// Emergency skips the gate. It needs a Reason.
	Emergency bool   `json:"emergency,omitempty"`
	Reason    string `json:"reason,omitempty"`
	// ExpectedState, if set, is the state that the user was shown. A rollback to any
	// other state is refused.
	ExpectedState *StateRef `json:"expected_state,omitempty"`
	// Revision is the revision that the user was shown.
	Revision Revision `json:"revision,omitzero"`
}

// A StateRef identifies a recorded State: the one before, or after, a rollout.
type StateRef struct {
	Run   string `json:"run"`             // run ID of the rollout
	After bool   `json:"after,omitempty"` // the State after the rollout instead of the one before
}

// A RolloutRequest is the input of the Rollout workflow: one plan to execute in one
// environment.
type RolloutRequest struct {
	Project  string   `json:"project"`
	Release  string   `json:"release"` // workflow ID of the release it belongs to
	Revision Revision `json:"revision"`
	Plan     Plan     `json:"plan"`
	Bake     Duration `json:"bake"`
	By       string   `json:"by,omitempty"`
	// Irreversible is true if a failure after a release command is held.
	Irreversible bool `json:"irreversible,omitempty"`
	// Restores, if set, identifies the State that Plan restores, in a rollback that
	// a user requested.
	Restores *StateRef `json:"restores,omitempty"`
	// PredecessorRun is the run ID of a rollout of the same release that ended without a
	// report. Its baseline is kept.
	PredecessorRun string `json:"predecessor_run,omitempty"`
	// TakeOver is true if Plan, that of PredecessorRun, is not executed: the rollout
	// holds the lock until it receives a resolution. RecoveryResult describes the
	// result of the automatic attempts before that.
	TakeOver       bool   `json:"take_over,omitempty"`
	RecoveryResult string `json:"recovery_result,omitempty"`
	// Aborted is true if the release was aborted, so that TakeOver offers no retry.
	Aborted bool `json:"aborted,omitempty"`
	// UnreadRollout describes an earlier rollout whose report cannot be read. The plan
	// was approved nevertheless.
	UnreadRollout string `json:"unread_rollout,omitempty"`
	// Gate is the gate of the environment at the revision. The next release reads it
	// from the report.
	Gate *Gate `json:"gate,omitempty"`
	// Head is the revision of the environment as a whole when the plan was made, or, in
	// a rollback, at the time of the restored state.
	Head *Head `json:"head,omitempty"`
	// Rollback is true if a user requested a rollback. It is exempt from the queue.
	Rollback bool `json:"rollback,omitempty"`
	// Unchanged is true if the plan has no steps. The rollout only compares the machines
	// with the plan.
	Unchanged bool `json:"unchanged,omitempty"`
	// SetsHead is true if the whole environment is at the revision afterwards: the plan
	// covers every app.
	SetsHead bool `json:"sets_head,omitempty"`
}

// A Skipped environment is one on the path that a user left out.
type Skipped struct {
	Environment string `json:"environment"`
	By          string `json:"by"`
	Reason      string `json:"reason"`
}

// An Extension asks a running release to continue to a further environment.
type Extension struct {
	To string `json:"to"`
	By string `json:"by"`
}

// A Review is a review of one plan, as recorded by a release.
type Review struct {
	Approve bool   `json:"approve"`
	By      string `json:"by"`
	Reason  string `json:"reason,omitempty"`
	Plan    string `json:"plan"` // 8 or more digits of the plan's hash
}

// A ReceivedReview is a review that a workflow received.
type ReceivedReview struct {
	Review
	At            time.Time `json:"at"`
	Via           string    `json:"via"`                      // update or signal
	IgnoredReason string    `json:"ignored_reason,omitempty"` // why it does not count; "" if it does
}

// A Choice is a possible resolution of a held rollout.
type Choice string

const (
	ChoiceRetry    Choice = "retry"    // try the failed part again
	ChoiceRollback Choice = "rollback" // restore the baseline
	ChoiceKeep     Choice = "keep"     // leave every machine as it is
	ChoiceAbandon  Choice = "abandon"  // end the rollout as stranded
	NoChoice       Choice = ""
)

// A Resolution is the resolution of a held rollout.
type Resolution struct {
	Choice Choice `json:"choice"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
	// Hold is the number of the hold to resolve; 0 is the current one.
	Hold int `json:"hold,omitempty"`
}
