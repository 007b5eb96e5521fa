package release

import "fmt"

// TaskQueue is the queue of workflows and of activities that use Fly. BuildQueue is
// the queue of checkouts, tests and builds, so that workers with access to production
// need not run the tests of a repository.
const (
	TaskQueue  = "release"
	BuildQueue = "release-build"
	// GitQueue is the queue for reading git histories. The workers of BuildQueue
	// poll it separately, so that tests and builds do not delay it.
	GitQueue = "release-git"
)

// Workflow types, as shown in the Temporal UI.
const (
	ReleaseWorkflow = "Release"
	RolloutWorkflow = "Rollout"
	PinWorkflow     = "Pin"
)

// Queries, updates and signals of the workflows. StatusQuery returns the Status of a
// release or a rollout; EventsQuery takes an EventQuery and returns an EventPage. ApproveUpdate and RejectUpdate take a ReviewInput. ResolveUpdate,
// for held rollouts, takes a Resolution. The signals take the same JSON; the Temporal UI
// can send them, also while no worker runs.
const (
	StatusQuery   = "status"
	EventsQuery   = "events"
	ApproveUpdate = "approve"
	RejectUpdate  = "reject"
	ResolveUpdate = "resolve"
	ApproveSignal = "approve"
	RejectSignal  = "reject"
	ResolveSignal = "resolve"
	AbortSignal   = "abort" // an Abort, sent before the workflow is cancelled
)

// Updates and signals of releases and pins. ExtendUpdate takes an Extension,
// UnpinUpdate an Unpinning; the signals of the same names take the same JSON.
// Releases that wait for one environment send each other EnqueueSignal and TurnSignal.
const (
	ExtendUpdate  = "extend"
	ExtendSignal  = "extend"
	UnpinUpdate   = "unpin"
	UnpinSignal   = "unpin"
	EnqueueSignal = "enqueue"
	TurnSignal    = "turn"
)

// Fly's process groups for machines that run one command and end.
const (
	ReleaseCommandGroup = "fly_app_release_command"
	MachineCheckGroup   = "fly_app_test_machine_command"
)

// MemoRequest is the key of the memo of a release that holds its Request.
const MemoRequest = "request"

// MemoPin is the key of the memo of a Pin workflow that holds the Pin.
const MemoPin = "pin"

// Search attributes, all of type Keyword. AttrOutcome is set when the workflow ends.
const (
	AttrProject     = "ReleaseProject"
	AttrRevision    = "ReleaseRevision"
	AttrEnvironment = "ReleaseEnvironment"
	AttrPhase       = "ReleasePhase"
	AttrOutcome     = "ReleaseOutcome"
)

// Keys of memos of releases.
const (
	MemoRestores   = "restores"   // of a rollback: the RestoredRevision
	MemoRepository = "repository" // the Repository that the project is bound to
)

// Metadata keys that this program sets on the machines that it changes. They identify
// the release and do not affect the machine: Config.IsSame ignores them.
const (
	MetaRelease  = "release_id"       // ID of the release
	MetaRevision = "release_revision" // full commit
	MetaMachine  = "release_machine"  // planned name, only on machines that a plan created
)

// ReleaseID returns the workflow ID of the release of one revision of a project.
// Starting it twice results in one release.
func ReleaseID(project string, r Revision) string {
	return fmt.Sprintf("release/%s/%s", project, r.Short())
}

// RollbackID returns the workflow ID of a rollback that a user requested.
func RollbackID(project, environment string) string {
	return fmt.Sprintf("release/%s/rollback-%s", project, environment)
}

// PinID returns the workflow ID of the pin of one environment of a project. The
// environment is pinned while the workflow is open.
func PinID(project, environment string) string {
	return fmt.Sprintf("pin/%s/%s", project, environment)
}

// RolloutID returns the workflow ID of the rollout in one environment of a project.
// It is the lock of the environment: Temporal refuses a second open workflow with it.
func RolloutID(project, environment string) string {
	return fmt.Sprintf("rollout/%s/%s", project, environment)
}
