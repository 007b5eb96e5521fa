package release

// A Report is the result of a workflow: its last status and, for rollouts, the states
// before and after. Later rollbacks read those.
type Report struct {
	Status
	// Stale is the reason why the plan did not match the current states. Nothing was
	// changed, and the release makes a new plan.
	Stale string `json:"stale,omitempty"`
	// FullHosts are the IDs of the machines that made the plan stale, because their hosts
	// have no room for a new version.
	FullHosts []string   `json:"full_hosts,omitempty"`
	Before    []Baseline `json:"before,omitempty"`
	After     []Baseline `json:"after,omitempty"`
	// KeptOld is true if an operator kept old machines beside the new ones.
	KeptOld bool `json:"kept_old,omitempty"`
	// BaselineRun is the run ID of an earlier rollout that ended without a report. Before
	// is then the baseline of that rollout.
	BaselineRun string `json:"baseline_run,omitempty"`
	// GateAtRevision is the gate of the environment at the released revision.
	GateAtRevision *Gate `json:"gate_at_revision,omitempty"`
	// Head is the revision of the environment as a whole after the rollout, PreviousHead
	// the one before. Rollbacks have no PreviousHead.
	Head         *Head `json:"head,omitempty"`
	PreviousHead *Head `json:"previous_head,omitempty"`
}
