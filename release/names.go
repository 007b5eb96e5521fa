package release

import "fmt"

// TaskQueue is where workflows and everything that touches Fly wait for a
// worker; BuildQueue is where checkouts, tests and builds do. A worker that may
// touch production need not be one that runs a repository's tests.
const (
	TaskQueue  = "release"
	BuildQueue = "release-build"
)

// Names of the two workflow types, as the Temporal UI shows them.
const (
	ReleaseWorkflow = "Release"
	RolloutWorkflow = "Rollout"
)

// Doors of the workflows. StatusQuery answers with a Status on both.
// DecideUpdate takes a Decision, AnswerUpdate (held rollouts) an Answer. The
// signals carry the same JSON, for the Temporal UI and for when no worker is up.
const (
	StatusQuery   = "status"
	DecideUpdate  = "decide"
	AnswerUpdate  = "answer"
	ApproveSignal = "approve"
	RejectSignal  = "reject"
	AnswerSignal  = "answer"
	AbortSignal   = "abort" // an Abort: who cancels the release next, and why
)

// Process groups that Fly keeps for machines that run one command and end.
const (
	ReleaseCommandGroup = "fly_app_release_command"
	MachineCheckGroup   = "fly_app_test_machine_command"
)

// Search attributes, all of type Keyword. ReleaseOutcome is set when the
// workflow ends.
const (
	AttrProject     = "ReleaseProject"
	AttrRevision    = "ReleaseRevision"
	AttrEnvironment = "ReleaseEnvironment"
	AttrPhase       = "ReleasePhase"
	AttrOutcome     = "ReleaseOutcome"
)

// Memos of releases.
const (
	MemoRequest    = "request"    // the Request
	MemoRestores   = "restores"   // of a rollback: the Revision that it goes back to
	MemoRepository = "repository" // the Repository that the project is bound to
)

// Metadata keys this program leaves on the machines it changes. They say by
// which release, and are no part of what a machine should run: SameConfig
// ignores them.
const (
	MetaRelease  = "release_id"       // ID of the release
	MetaRevision = "release_revision" // full commit
	MetaMachine  = "release_machine"  // planned name, on machines that a plan created
)

// ID is the workflow ID of the release of one revision of a project. Starting
// it twice is one release.
func ID(project string, r Revision) string {
	return fmt.Sprintf("release/%s/%s", project, r.Short())
}

// RollbackID is the workflow ID of a rollback that a person asked for.
func RollbackID(project, environment string) string {
	return fmt.Sprintf("release/%s/rollback-%s", project, environment)
}

// RolloutID is the workflow ID of the rollout in one environment of a project.
// It is the environment's lock: Temporal refuses a second open workflow with it.
func RolloutID(project, environment string) string {
	return fmt.Sprintf("rollout/%s/%s", project, environment)
}
