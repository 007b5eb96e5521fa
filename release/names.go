package release

import "fmt"

// TaskQueue is where workflows and everything that touches Fly wait for a
// worker; BuildQueue is where checkouts, tests and builds do. A worker that may
// touch production need not be one that runs a repository's tests.
const (
	TaskQueue  = "release"
	BuildQueue = "release-build"
	// GitQueue is where histories of repositories are read: by the workers of
	// BuildQueue, but not in turn with tests and builds.
	GitQueue = "release-git"
)

// Names of the workflow types, as the Temporal UI shows them.
const (
	ReleaseWorkflow = "Release"
	RolloutWorkflow = "Rollout"
	PinWorkflow     = "Pin"
)

// Queries, updates and signals of the workflows. StatusQuery answers with a Status
// on both. ApproveUpdate and RejectUpdate take a Review, AnswerUpdate (held
// rollouts) an Answer. The signals carry the same JSON, for the Temporal UI and
// for when no worker is up.
const (
	StatusQuery   = "status"
	ApproveUpdate = "approve"
	RejectUpdate  = "reject"
	AnswerUpdate  = "answer"
	ApproveSignal = "approve"
	RejectSignal  = "reject"
	AnswerSignal  = "answer"
	AbortSignal   = "abort" // an Abort: who cancels the release next, and why
)

// Doors of releases and pins for order. ExtendUpdate takes an Extension,
// UnpinUpdate an Unpinning; the signals of the same names carry the same JSON.
// WaitSignal and NextSignal go between releases that wait for one environment.
const (
	ExtendUpdate = "extend"
	ExtendSignal = "extend"
	UnpinUpdate  = "unpin"
	UnpinSignal  = "unpin"
	WaitSignal   = "wait"
	NextSignal   = "next"
)

// Process groups that Fly keeps for machines that run one command and end.
const (
	ReleaseCommandGroup = "fly_app_release_command"
	MachineCheckGroup   = "fly_app_test_machine_command"
)

// MemoRequest is the memo of a release that holds its Request.
const MemoRequest = "request"

// MemoPin is the memo of a pin's workflow that holds the Pin.
const MemoPin = "pin"

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
	MemoRestores   = "restores"   // of a rollback: what it goes back to, as a RestoredRevision
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

// PinID is the workflow ID of the pin of one environment of a project. The
// environment is pinned while a workflow with it is open.
func PinID(project, environment string) string {
	return fmt.Sprintf("pin/%s/%s", project, environment)
}

// RolloutID is the workflow ID of the rollout in one environment of a project.
// It is the environment's lock: Temporal refuses a second open workflow with it.
func RolloutID(project, environment string) string {
	return fmt.Sprintf("rollout/%s/%s", project, environment)
}
