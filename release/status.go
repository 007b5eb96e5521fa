package release

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Phase is a label for users. Workflows set it and never branch on it.
type Phase string

const (
	Loading          Phase = "loading"
	Preflight        Phase = "preflight"
	Building         Phase = "testing and building"
	Planning         Phase = "planning"
	AwaitingApproval Phase = "awaiting approval"
	Queued           Phase = "waiting for another rollout"
	RollingOut       Phase = "rolling out"
	Verifying        Phase = "verifying"
	Baking           Phase = "baking"
	CleaningUp       Phase = "removing the old"
	RollingBack      Phase = "rolling back"
	HeldPhase        Phase = "held"
	Done             Phase = "done"
)

// An Outcome is the result of a release, or of its part in one environment.
type Outcome string

const (
	Promoted   Outcome = "promoted"    // every machine is on the plan and verified
	Unchanged  Outcome = "unchanged"   // every machine already was
	Superseded Outcome = "superseded"  // a newer revision runs there or waits for it
	Stopped    Outcome = "stopped"     // ended before the first change
	RolledBack Outcome = "rolled back" // every machine is on the baseline
	Restored   Outcome = "restored"    // every machine is on the state that `release rollback` names
	Kept       Outcome = "kept"        // an operator kept the machines as they are, without verification
)

// ChangedNothing reports whether a rollout with this outcome executed no step.
func (o Outcome) ChangedNothing() bool { return o == Stopped || o == Superseded || o == Unchanged }

// A Status is the progress of a release or a rollout: the fold of its events. The live
// view of a terminal, reports and the Temporal UI derive from it.
type Status struct {
	ID       string    `json:"id"` // workflow ID
	Run      string    `json:"run,omitempty"`
	Protocol int       `json:"protocol"` // of the worker
	Project  string    `json:"project"`
	Release  string    `json:"release,omitempty"` // in a rollout: workflow ID of its release
	Revision Revision  `json:"revision"`
	By       string    `json:"by,omitempty"`
	Phase    Phase     `json:"phase"`
	Since    time.Time `json:"since"` // start of the phase
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Outcome  Outcome   `json:"outcome,omitempty"` // set at the end
	Cause    *Cause    `json:"cause,omitempty"`   // why it is not promoted
	// Environment is the environment of the phase.
	Environment  string              `json:"environment,omitempty"`
	Environments []EnvironmentStatus `json:"environments,omitempty"` // in the order of promotion
	Jobs         []Job               `json:"jobs,omitempty"`         // running tests and builds
	Tests        []TestResult        `json:"tests,omitempty"`
	Builds       []BuildResult       `json:"builds,omitempty"`
	Scans        []ScanResult        `json:"scans,omitempty"`
	Spans        []Span              `json:"spans,omitempty"`
	Plan         *Plan               `json:"plan,omitempty"` // in review or being executed
	Gate         *GateStatus         `json:"gate,omitempty"` // while awaiting approval
	Queue        string              `json:"queue,omitempty"`
	HeldAhead    string              `json:"held_ahead,omitempty"` // the release whose held rollout it waits for; set by clients
	Held         *Hold               `json:"held,omitempty"`       // while held
	Rollout      string              `json:"rollout,omitempty"`    // workflow ID of the running rollout
	Reviews      []ReceivedReview    `json:"reviews,omitempty"`
	Abort        *Abort              `json:"abort,omitempty"`
	// Restores, in a rollback that a user requested, identifies the State to restore.
	// Revision is then the revision of that State.
	Restores *StateRef `json:"restores,omitempty"`
	Notes    []string  `json:"notes,omitempty"` // other remarks for users
	// Waits and TaskFailure are not set by the workflow. Readers of the status add
	// them from Temporal.
	Waits       []Wait       `json:"waits,omitempty"`
	TaskFailure *TaskFailure `json:"task_failure,omitempty"`
}

// An EnvironmentStatus is the part of a status about one environment.
type EnvironmentStatus struct {
	Name        string  `json:"name"`
	Outcome     Outcome `json:"outcome,omitempty"`
	CopiedBytes int64   `json:"copied_bytes,omitempty"` // bytes copied between registries for its images
	Plan        string  `json:"plan,omitempty"`         // hash of the executed plan
	// Lineage compares the revision with the revisions that ran before.
	Lineage  Lineage        `json:"lineage,omitzero"`
	Rollout  string         `json:"rollout,omitempty"`
	Run      string         `json:"run,omitempty"` // run ID of the rollout
	Targets  []TargetStatus `json:"targets,omitempty"`
	Verdicts []Verdict      `json:"verdicts,omitempty"` // the last of each target
	// Warnings are the warnings of the plan.
	Warnings []string `json:"warnings,omitempty"`
	// Commands are the release commands that ran, in order.
	Commands []CommandResult `json:"commands,omitempty"`
}

// A CommandResult is the result of a release command.
type CommandResult struct {
	Target   Target   `json:"target"`
	Command  string   `json:"command"`
	Machine  string   `json:"machine,omitempty"` // ID of the machine it ran on
	ExitCode int      `json:"exit_code"`
	Took     Duration `json:"took"`
	Log      []string `json:"log,omitempty"` // its last lines
}

// A TargetStatus is the part of a status about one target.
type TargetStatus struct {
	Target  Target `json:"target"`
	FlyApp  string `json:"fly_app"`
	URL     string `json:"url,omitempty"`
	Image   Image  `json:"image,omitempty"`
	Changed bool   `json:"changed"` // the plan has steps on it
	// NewGroups are groups that get their first machines while others have some already.
	NewGroups []string `json:"new_groups,omitempty"`
	// FlyRelease is the version that `flyctl releases` shows.
	FlyRelease int             `json:"fly_release,omitempty"`
	Machines   []MachineStatus `json:"machines"`
}

// Progress is the progress of the steps on one machine.
type Progress string

const (
	ProgressWaiting   Progress = "waiting" // no step has begun
	ProgressRunning   Progress = "doing"
	ProgressDone      Progress = "ready" // all steps are done
	ProgressFailed    Progress = "failed"
	ProgressUnchanged Progress = "unchanged" // no steps
)

// A MachineStatus is the part of a status about one machine.
type MachineStatus struct {
	ID       string    `json:"id,omitempty"` // "" until it is created
	Name     string    `json:"name"`
	Group    string    `json:"group"`
	Region   string    `json:"region,omitempty"`
	Image    Image     `json:"image,omitempty"`
	State    string    `json:"state,omitempty"` // as reported by Fly
	Verb     Verb      `json:"verb,omitempty"`  // of the step that began last
	Progress Progress  `json:"progress"`
	Since    time.Time `json:"since,omitzero"`
	Until    time.Time `json:"until,omitzero"`
}

// A Span is the time spent in one phase.
type Span struct {
	Phase       Phase     `json:"phase"`
	Environment string    `json:"environment,omitempty"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to,omitzero"` // zero while it lasts
}

// A Job is a test or a build that runs or waits for a worker.
type Job struct {
	Name  string    `json:"name"` // "test unit", "build web-admin"
	Since time.Time `json:"since"`
}

// An Output is the output so far of a running test or build.
type Output struct {
	Log  string `json:"log"`  // name of the stored output
	Size int64  `json:"size"` // bytes so far
	Tail string `json:"tail"` // its end, at most 16 kB
}

// A TestResult is the result of a test. Log names the stored output; Tail is its end.
type TestResult struct {
	Name     string   `json:"name"`
	Passed   bool     `json:"passed"`
	ExitCode int      `json:"exit_code"`
	Took     Duration `json:"took"`
	Log      string   `json:"log,omitempty"`
	Tail     string   `json:"tail,omitempty"` // at most 16 kB; see Status.BoundTails
}

// A BuildResult is the result of one build, for one app or several with equal recipes.
type BuildResult struct {
	App         string   `json:"app"`              // name of the build
	RecipeText  string   `json:"recipe,omitempty"` // the recipe in words
	Image       Image    `json:"image,omitempty"`
	Took        Duration `json:"took"`
	Reused      bool     `json:"reused,omitempty"` // an earlier attempt had pushed it, so that nothing was built
	PushedBytes int64    `json:"pushed,omitempty"` // bytes pushed to the registry
	Log         string   `json:"log,omitempty"`
	Tail        string   `json:"tail,omitempty"` // at most 16 kB; see Status.BoundTails
	// Notes are remarks for users, for example on a huge build context.
	Notes      []string    `json:"notes,omitempty"`
	Provenance *Provenance `json:"provenance,omitempty"`
}

// A ScanResult is the result of the scan of one image.
type ScanResult struct {
	Name     string   `json:"name"` // of the build
	Image    Image    `json:"image"`
	Passed   bool     `json:"passed"`
	ExitCode int      `json:"exit_code"`
	Took     Duration `json:"took"`
	Log      string   `json:"log,omitempty"`
	Tail     string   `json:"tail,omitempty"` // at most 16 kB; see Status.BoundTails
}

// A Health is the result of a verification. Unknown means that the state could not be
// read. Unchecked means that no check or probe exists or no machine runs.
type Health string

const (
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
	Unknown   Health = "unknown"
	Unchecked Health = "unchecked"
)

// A Verdict is the result of verifying one target.
type Verdict struct {
	Target   Target `json:"target"`
	Health   Health `json:"health"`
	Machines int    `json:"machines"`         // number of machines
	Probed   string `json:"probed,omitempty"` // GET https://shop.fly.dev/health
	// Notes explain Unchecked, and list the groups without checks.
	Notes    []string  `json:"notes,omitempty"`
	Idle     []string  `json:"idle,omitempty"` // groups of which no machine ran
	Failures []Failure `json:"failures,omitempty"`
	At       time.Time `json:"at,omitzero"` // time of the verification
}

// A Cause is the reason for an outcome.
type Cause struct {
	Message  string    `json:"message"`
	Failures []Failure `json:"failures,omitempty"`
	// Aborted is true if a user aborted it.
	Aborted bool `json:"aborted,omitempty"`
}

// An Abort is a user's order to stop a release.
type Abort struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// A Failure describes the failure of one machine or target.
type Failure struct {
	Target   Target   `json:"target"`
	Machine  string   `json:"machine,omitempty"`
	Name     string   `json:"name,omitempty"`
	Group    string   `json:"group,omitempty"`
	Reason   string   `json:"reason"` // "never passed its check"
	Check    string   `json:"check,omitempty"`
	Output   string   `json:"output,omitempty"` // of the check or probe
	ExitCode *int     `json:"exit_code,omitempty"`
	Log      []string `json:"log,omitempty"`     // its last lines
	Version  string   `json:"version,omitempty"` // version that the failed step gave the machine
}

// Error returns one sentence: the machine, the reason, the output of the check.
func (f Failure) Error() string {
	var b strings.Builder
	if f.Machine != "" {
		fmt.Fprintf(&b, "machine %s of ", f.Machine)
	}
	fmt.Fprintf(&b, "%s: %s", f.Target, f.Reason)
	if f.ExitCode != nil {
		fmt.Fprintf(&b, " (exit code %d)", *f.ExitCode)
	}
	if f.Output != "" {
		fmt.Fprintf(&b, ": %s", strings.TrimSpace(f.Output))
	}
	return b.String()
}

// Duration returns the duration of s, until now if s has not ended.
func (s Span) Duration(now time.Time) time.Duration {
	if s.To.IsZero() {
		return now.Sub(s.From)
	}
	return s.To.Sub(s.From)
}

// EnvironmentStatus returns the status of that environment, or nil.
func (s *Status) EnvironmentStatus(name string) *EnvironmentStatus {
	i := slices.IndexFunc(s.Environments, func(e EnvironmentStatus) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Environments[i]
}
