package release

import (
	"fmt"
	"time"
)

// implicitGateTimeout is the approval timeout of a plan that needs an approval in an
// environment without a gate.
const implicitGateTimeout = Duration(24 * time.Hour)

// A GateStatus is the state of a gate at which a release waits.
type GateStatus struct {
	Environment string    `json:"environment"`
	Plan        string    `json:"plan"` // hash
	Approvals   int       `json:"approvals"`
	Approved    []string  `json:"approved,omitempty"` // reviewers that approved so far
	Until       time.Time `json:"until"`
	// Reasons has a sentence for each reason why the plan needs more approvals than
	// the gate at this revision requires.
	Reasons []string `json:"reasons,omitempty"`
	// UnreadRollout describes an earlier rollout whose report cannot be read, so that
	// what ran before is not known.
	UnreadRollout string `json:"unread_rollout,omitempty"`
}

// GateInput contains the facts that determine the gate of a plan.
type GateInput struct {
	Gate          *Gate // of the environment at the revision; nil if it has none
	PreviousGate  *Gate // of the last promoted revision
	Lineage       Lineage
	Skipped       []Skipped
	AllowDiverged bool
	// UnreadRollout describes a rollout whose report cannot be read. The machines that
	// it left would become the baseline.
	UnreadRollout string
}

// RequiredGate returns the gate that a plan has to pass, or nil, and one sentence for
// each reason why it is stricter than the gate at the revision. A revision that lowers
// the gate of the last promoted revision has to pass the earlier gate. At least one
// approval is needed for a plan that removes commits, for a revision that was not
// verified in an earlier environment, and for a baseline left by a rollout whose report
// cannot be read.
func RequiredGate(a GateInput) (gate *Gate, because []string) {
	gate = a.Gate
	if a.PreviousGate != nil && (gate == nil || gate.Approvals < a.PreviousGate.Approvals) {
		gate = a.PreviousGate
		because = append(because, fmt.Sprintf("this revision %s; the gate of the last promoted revision requires %s", describeLowering(a.Gate), formatApprovals(a.PreviousGate)))
	}
	var more []string
	if a.Lineage.NeedsApproval() && !a.AllowDiverged {
		more = append(more, "this revision "+a.Lineage.String())
	}
	if a.UnreadRollout != "" {
		more = append(more, fmt.Sprintf("what ran before is not known: a rollout ended without a report that can be read (%s), and a rollback of this one would go back to what runs now", a.UnreadRollout))
	}
	for _, s := range a.Skipped {
		more = append(more, fmt.Sprintf("%s was skipped by %s (%s): this revision is not verified there", s.Environment, s.By, s.Reason))
	}
	if len(more) > 0 && gate == nil {
		gate = &Gate{Approvals: 1, Timeout: implicitGateTimeout}
	}
	return gate, append(because, more...)
}

func describeLowering(gate *Gate) string {
	if gate == nil {
		return "removes the gate"
	}
	return "lowers the gate to " + formatApprovals(gate)
}

func formatApprovals(gate *Gate) string {
	return fmt.Sprintf("%d %s", gate.Approvals, pluralize(gate.Approvals, "approval", "approvals"))
}
