package release

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Phase is a label for people. Workflows write it and never branch on it.
type Phase string

const (
	Loading     Phase = "loading"
	Preflight   Phase = "preflight"
	Building    Phase = "testing and building"
	Planning    Phase = "planning"
	Awaiting    Phase = "awaiting approval"
	Queued      Phase = "waiting for another rollout"
	RollingOut  Phase = "rolling out"
	Verifying   Phase = "verifying"
	Baking      Phase = "baking"
	CleaningUp  Phase = "removing the old"
	RollingBack Phase = "rolling back"
	HeldPhase   Phase = "held"
	Done        Phase = "done"
)

// An Outcome is how a release, or its part in one environment, ended.
type Outcome string

const (
	Promoted   Outcome = "promoted"    // every machine is on the plan, verified
	Unchanged  Outcome = "unchanged"   // it already was
	Superseded Outcome = "superseded"  // a newer revision runs there, or waits to
	Stopped    Outcome = "stopped"     // before the first change
	RolledBack Outcome = "rolled back" // every machine is on the baseline again
	Restored   Outcome = "restored"    // every machine is on the state that `release rollback` names
	Kept       Outcome = "kept"        // a person left it as it is, neither verified nor back
)

// ChangedNothing reports whether a rollout that ended so left its environment as
// it found it, without a step.
func (o Outcome) ChangedNothing() bool { return o == Stopped || o == Superseded || o == Unchanged }

// A Status is where a release or a rollout is. One type feeds the terminal, the
// plain log, --json and the Temporal UI.
type Status struct {
	ID       string    `json:"id"` // workflow ID
	Run      string    `json:"run,omitempty"`
	Protocol int       `json:"protocol"` // of the worker that says it
	Project  string    `json:"project"`
	Release  string    `json:"release,omitempty"` // of a rollout: workflow ID of the release it belongs to
	Revision Revision  `json:"revision"`
	By       string    `json:"by,omitempty"`
	Phase    Phase     `json:"phase"`
	Since    time.Time `json:"since"` // of the phase
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Outcome  Outcome   `json:"outcome,omitempty"` // once done
	Cause    *Cause    `json:"cause,omitempty"`   // why it is not promoted
	// Environment is the one that the phase is about.
	Environment  string              `json:"environment,omitempty"`
	Environments []EnvironmentStatus `json:"environments,omitempty"` // in the order of promotion
	Jobs         []Job               `json:"jobs,omitempty"`         // tests and builds that run
	Tests        []TestResult        `json:"tests,omitempty"`
	Builds       []BuildResult       `json:"builds,omitempty"`
	Scans        []ScanResult        `json:"scans,omitempty"`
	Spans        []Span              `json:"spans,omitempty"`
	Plan         *Plan               `json:"plan,omitempty"` // the one being decided on or carried out
	Gate         *GateStatus         `json:"gate,omitempty"` // while awaiting approval
	Queue        string              `json:"queue,omitempty"`
	Held         *Held               `json:"held,omitempty"`    // while held
	Rollout      string              `json:"rollout,omitempty"` // workflow ID of the rollout under way
	Decisions    []Given             `json:"decisions,omitempty"`
	Abort        *Abort              `json:"abort,omitempty"`
	// Restores, of a rollback that a person asked for, names the State that it
	// goes back to. Revision is the one that runs in it.
	Restores *Origin  `json:"restores,omitempty"`
	Notes    []string `json:"notes,omitempty"` // what a person should know besides
	// Waits and TaskFailure are not the workflow's: who reads the status from
	// Temporal adds them.
	Waits       []Wait       `json:"waits,omitempty"`
	TaskFailure *TaskFailure `json:"task_failure,omitempty"`
}

// An EnvironmentStatus is one environment of a release's path.
type EnvironmentStatus struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome,omitempty"`
	Copied  int64   `json:"copied,omitempty"` // bytes that it took to have its images where it takes them from
	Plan    string  `json:"plan,omitempty"`   // hash of the plan carried out
	// Lineage compares the revision with what the environment ran.
	Lineage  Lineage        `json:"lineage,omitzero"`
	Rollout  string         `json:"rollout,omitempty"`
	Run      string         `json:"run,omitempty"` // run ID of the rollout
	Targets  []TargetStatus `json:"targets,omitempty"`
	Verdicts []Verdict      `json:"verdicts,omitempty"` // the last of each target
	// Warnings are those of the plan: what a person should know after it, too.
	Warnings []string `json:"warnings,omitempty"`
	// Commands are the release commands that ran, in their order.
	Commands []CommandResult `json:"commands,omitempty"`
}

// A CommandResult is how a release command ended.
type CommandResult struct {
	Target   Target   `json:"target"`
	Command  string   `json:"command"`
	Machine  string   `json:"machine,omitempty"` // ID of the machine it ran on
	ExitCode int      `json:"exit_code"`
	Took     Duration `json:"took"`
	Log      []string `json:"log,omitempty"` // its last lines
}

// A TargetStatus is one target of an environment.
type TargetStatus struct {
	Target  Target `json:"target"`
	FlyApp  string `json:"fly_app"`
	URL     string `json:"url,omitempty"`
	Image   Image  `json:"image,omitempty"`
	Changed bool   `json:"changed"` // the plan does something to it
	// FlyRelease is the number of Fly's own record: what flyctl releases shows.
	FlyRelease int             `json:"fly_release,omitempty"`
	Machines   []MachineStatus `json:"machines"`
}

// Progress is how far a machine is.
type Progress string

const (
	Waiting Progress = "waiting" // has steps, none begun
	Doing   Progress = "doing"
	Ready   Progress = "ready" // its last step is done
	Failed  Progress = "failed"
	Still   Progress = "unchanged" // nothing to do
)

// A MachineStatus is one machine of a target.
type MachineStatus struct {
	ID       string    `json:"id,omitempty"` // "" until it is created
	Name     string    `json:"name"`
	Group    string    `json:"group"`
	Region   string    `json:"region,omitempty"`
	Image    Image     `json:"image,omitempty"`
	State    string    `json:"state,omitempty"` // Fly's word
	Verb     Verb      `json:"verb,omitempty"`  // of the step begun last
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

// A Job is a test or a build that runs, or waits for a worker that has room.
type Job struct {
	Name  string    `json:"name"` // "test unit", "build web-admin"
	Since time.Time `json:"since"`
}

// An Output is how far the output of a test or a build is that runs.
type Output struct {
	Log  string `json:"log"`  // names the kept output
	Size int64  `json:"size"` // bytes so far
	Tail string `json:"tail"` // the last of them, at most 16 kB
}

// A TestResult is how a test ended. Log names the kept output; Tail is its end.
type TestResult struct {
	Name     string   `json:"name"`
	Passed   bool     `json:"passed"`
	ExitCode int      `json:"exit_code"`
	Took     Duration `json:"took"`
	Log      string   `json:"log,omitempty"`
	Tail     string   `json:"tail,omitempty"` // at most 16 kB; see Status.BoundTails
}

// A BuildResult is one image: of one app, or of several that are built alike.
type BuildResult struct {
	App   string   `json:"app"`              // name of the build
	From  string   `json:"recipe,omitempty"` // what it was made of, for people
	Image Image    `json:"image,omitempty"`
	Took  Duration `json:"took"`
	Found bool     `json:"found,omitempty"`  // an earlier attempt had pushed it: nothing was built
	Bytes int64    `json:"pushed,omitempty"` // how much the registry did not have yet
	Log   string   `json:"log,omitempty"`
	Tail  string   `json:"tail,omitempty"` // at most 16 kB; see Status.BoundTails
	// Notes are what a person should know of it: a huge context, say.
	Notes      []string    `json:"notes,omitempty"`
	Provenance *Provenance `json:"provenance,omitempty"`
}

// A ScanResult is what the scan of one image said.
type ScanResult struct {
	Name     string   `json:"name"` // of the build
	Image    Image    `json:"image"`
	Passed   bool     `json:"passed"`
	ExitCode int      `json:"exit_code"`
	Took     Duration `json:"took"`
	Log      string   `json:"log,omitempty"`
	Tail     string   `json:"tail,omitempty"` // at most 16 kB; see Status.BoundTails
}

// A GateStatus is what a release waits for.
type GateStatus struct {
	Environment string    `json:"environment"`
	Plan        string    `json:"plan"` // hash
	Approvals   int       `json:"approvals"`
	Approved    []string  `json:"approved,omitempty"` // by whom, so far
	Until       time.Time `json:"until"`
	// Because says why the environment asks more than its gate at this revision
	// does, a sentence each.
	Because []string `json:"because,omitempty"`
}

// Held says why a rollout stands still and what a person may say.
type Held struct {
	Why      string   `json:"why"`
	Machines []string `json:"machines"` // which machine is what, a sentence each
	Choices  []Choice `json:"choices"`
	// Number counts how often the rollout was held: each time is another question.
	Number int `json:"number"`
}

// A Health is a verdict's word. What is not known is unknown: never good and
// never bad. What nothing checks, or of which nothing runs, is unchecked: nothing
// is known to be wrong with it, and nothing to be right.
type Health string

const (
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
	Unknown   Health = "unknown"
	Unchecked Health = "unchecked"
)

// A Verdict is what verifying a target found.
type Verdict struct {
	Target   Target `json:"target"`
	Health   Health `json:"health"`
	Machines int    `json:"machines"`         // how many were looked at
	Probed   string `json:"probed,omitempty"` // GET https://shop.fly.dev/health
	// Notes say why it is unchecked, and what of it nothing checks.
	Notes    []string  `json:"notes,omitempty"`
	Idle     []string  `json:"idle,omitempty"` // groups of which no machine was seen to run
	Failures []Failure `json:"failures,omitempty"`
	At       time.Time `json:"at,omitzero"` // when it was found
}

// A Cause is why something ended as it did.
type Cause struct {
	Message  string    `json:"message"`
	Failures []Failure `json:"failures,omitempty"`
	// Aborted: it ended because a person ordered it to stop.
	Aborted bool `json:"aborted,omitempty"`
}

// An Abort is who ordered a release to stop, and why.
type Abort struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// A Failure is the evidence of what went wrong on one machine, or of a target.
type Failure struct {
	Target   Target   `json:"target"`
	Machine  string   `json:"machine,omitempty"`
	Name     string   `json:"name,omitempty"`
	Group    string   `json:"group,omitempty"`
	Reason   string   `json:"reason"` // what it does or is: "never passed its check"
	Check    string   `json:"check,omitempty"`
	Output   string   `json:"output,omitempty"` // of the check or probe
	ExitCode *int     `json:"exit_code,omitempty"`
	Log      []string `json:"log,omitempty"`     // its last lines
	Version  string   `json:"version,omitempty"` // that the machine was given, where a step on it failed
}

// Error is one sentence: which machine, what it did, what the check said.
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

// A Report is how a workflow ended: its last status and, for rollouts, what ran
// before and after. A later rollback reads those.
type Report struct {
	Status
	// Stale says why the plan did not fit. All is as it was; the release plans
	// again.
	Stale string `json:"stale,omitempty"`
	// NoRoom are the machines, by ID, that made the plan unfit: their hosts have
	// no room for another version of them.
	NoRoom []string   `json:"no_room,omitempty"`
	Before []Baseline `json:"before,omitempty"`
	After  []Baseline `json:"after,omitempty"`
	// Settles is the run ID of an earlier rollout that ended without a report:
	// Before is that one's baseline.
	Settles string `json:"settles,omitempty"`
	// Gate is that of the environment at the revision that a rollout released.
	Gate *Gate `json:"gate_then,omitempty"`
	// Head is what the environment runs as a whole since a rollout, if it does;
	// HeadBefore is what it ran before. A rollback has none: it goes back further.
	Head       *Head `json:"head,omitempty"`
	HeadBefore *Head `json:"head_before,omitempty"`
}

// Took is how long s lasted, or has lasted until now.
func (s Span) Took(now time.Time) time.Duration {
	if s.To.IsZero() {
		return now.Sub(s.From)
	}
	return s.To.Sub(s.From)
}

// EnvironmentStatus returns the part about that environment, or nil.
func (s *Status) EnvironmentStatus(name string) *EnvironmentStatus {
	i := slices.IndexFunc(s.Environments, func(e EnvironmentStatus) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Environments[i]
}
