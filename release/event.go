package release

import (
	"slices"
	"time"
)

// An EventKind says which fact an event records, and so which of its details are set.
type EventKind string

const (
	// Of a release and of a rollout.
	EventBegun          EventKind = "begun"
	EventPhaseEntered   EventKind = "phase entered"
	EventPlanMade       EventKind = "plan made"
	EventCauseFound     EventKind = "cause found"
	EventNote           EventKind = "note" // a remark for users, and nothing else
	EventCleanupFailed  EventKind = "cleanup failed"
	EventOutcomeReached EventKind = "outcome reached" // in one environment
	EventEnded          EventKind = "ended"

	// Of a release.
	EventPathExtended   EventKind = "path extended"
	EventRestoreFound   EventKind = "restore found" // the state that a rollback restores
	EventJobStarted     EventKind = "job started"
	EventJobEnded       EventKind = "job ended"
	EventTestFinished   EventKind = "test finished"
	EventBuildFinished  EventKind = "build finished"
	EventScanFinished   EventKind = "scan finished"
	EventImagesCopied   EventKind = "images copied"
	EventPlanStale      EventKind = "plan stale"
	EventGateOpened     EventKind = "gate opened"
	EventGateClosed     EventKind = "gate closed"
	EventReviewReceived EventKind = "review received"
	EventQueueJoined    EventKind = "queue joined"
	EventQueueLeft      EventKind = "queue left"
	EventRolloutStarted EventKind = "rollout started"
	EventRolloutEnded   EventKind = "rollout ended"
	EventAbortRequested EventKind = "abort requested"

	// Of a rollout.
	EventTargetsPlanned   EventKind = "targets planned"
	EventReleasesOpened   EventKind = "fly releases opened"
	EventMachineChanged   EventKind = "machine changed"
	EventMachinesObserved EventKind = "machines observed"
	EventMachineRecreated EventKind = "machine recreated"
	EventMachineLeftAwake EventKind = "machine left awake" // started for verification and not stopped again
	EventStateUnread      EventKind = "state unread"       // the state after a rollout could not be read
	EventCommandRan       EventKind = "command ran"
	EventVerdictReached   EventKind = "verdict reached"
	EventHeld             EventKind = "held"
	EventHoldEnded        EventKind = "hold ended"
)

// EventKinds returns all kinds, those of releases and rollouts first.
func EventKinds() []EventKind {
	return []EventKind{
		EventBegun, EventPhaseEntered, EventPlanMade, EventCauseFound,
		EventNote, EventCleanupFailed, EventOutcomeReached, EventEnded,
		EventPathExtended, EventRestoreFound, EventJobStarted, EventJobEnded,
		EventTestFinished, EventBuildFinished, EventScanFinished, EventImagesCopied,
		EventPlanStale, EventGateOpened, EventGateClosed, EventReviewReceived,
		EventQueueJoined, EventQueueLeft, EventRolloutStarted, EventRolloutEnded,
		EventAbortRequested, EventTargetsPlanned, EventReleasesOpened, EventMachineChanged,
		EventMachinesObserved, EventMachineRecreated, EventMachineLeftAwake, EventStateUnread,
		EventCommandRan, EventVerdictReached, EventHeld, EventHoldEnded,
	}
}

// An Event is one recorded fact of a release or a rollout. Workflows append events; a
// Status is their fold. Each kind sets only the details that it needs.
type Event struct {
	Number      int       `json:"number"` // 1, 2, … within the workflow run
	At          time.Time `json:"at"`
	Kind        EventKind `json:"kind"`
	Environment string    `json:"environment,omitempty"`
	Target      Target    `json:"target,omitzero"`
	Machine     string    `json:"machine,omitempty"` // ID, or the planned name until the machine is created
	// Note is a remark for users. The status lists the remarks of all events.
	Note string `json:"note,omitempty"`

	Begun        *Begun          `json:"begun,omitempty"`
	Phase        Phase           `json:"phase,omitempty"`
	Outcome      Outcome         `json:"outcome,omitempty"`
	Cause        *Cause          `json:"cause,omitempty"`
	Path         []string        `json:"path,omitempty"` // environments added to the path
	Revision     *Revision       `json:"revision,omitempty"`
	Restores     *StateRef       `json:"restores,omitempty"`
	Job          string          `json:"job,omitempty"`
	Test         *TestResult     `json:"test,omitempty"`
	Build        *BuildResult    `json:"build,omitempty"`
	Scan         *ScanResult     `json:"scan,omitempty"`
	CopiedBytes  int64           `json:"copied_bytes,omitempty"`
	Plan         *Plan           `json:"plan,omitempty"`
	Gate         *GateStatus     `json:"gate,omitempty"`
	Review       *ReceivedReview `json:"review,omitempty"`
	Queue        string          `json:"queue,omitempty"` // who holds the environment
	Ahead        string          `json:"ahead,omitempty"` // workflow ID of the release that holds it
	Rollout      *RolloutRef     `json:"rollout,omitempty"`
	Result       *RolloutResult  `json:"result,omitempty"`
	Abort        *Abort          `json:"abort,omitempty"`
	Targets      []TargetStatus  `json:"targets,omitempty"`
	Warnings     []string        `json:"warnings,omitempty"`
	FlyReleases  map[string]int  `json:"fly_releases,omitempty"` // versions by Fly app
	MachineState *MachineStatus  `json:"machine_state,omitempty"`
	NewMachine   string          `json:"new_machine,omitempty"` // ID of the machine that replaces Machine
	Command      *CommandResult  `json:"command,omitempty"`
	Verdict      *Verdict        `json:"verdict,omitempty"`
	Hold         *Hold           `json:"hold,omitempty"`
	Resolution   *Resolution     `json:"resolution,omitempty"` // nil if an abort ended the hold
}

// A Begun identifies a workflow run: the first event has it.
type Begun struct {
	ID       string    `json:"id"` // workflow ID
	Run      string    `json:"run"`
	Protocol int       `json:"protocol"` // of the worker
	Project  string    `json:"project"`
	Release  string    `json:"release,omitempty"` // in a rollout: workflow ID of its release
	Revision Revision  `json:"revision"`
	By       string    `json:"by,omitempty"`
	Restores *StateRef `json:"restores,omitempty"`
}

// A RolloutRef identifies a run of a rollout.
type RolloutRef struct {
	ID  string `json:"id"` // workflow ID
	Run string `json:"run"`
}

// A RolloutResult is the part of a rollout's report that becomes part of the status of
// its release.
type RolloutResult struct {
	// Environment is nil if the plan was stale.
	Environment *EnvironmentStatus `json:"environment,omitempty"`
	Spans       []Span             `json:"spans,omitempty"`
	Notes       []string           `json:"notes,omitempty"`
}

// Outline returns e without machine configs and without output tails. It is small
// enough to be kept and sent: the status has the rest.
func (e Event) Outline() Event {
	if e.Plan != nil {
		outline := e.Plan.WithoutConfigs()
		e.Plan = &outline
	}
	if e.Test != nil {
		test := *e.Test
		test.Tail, e.Test = "", &test
	}
	if e.Build != nil {
		build := *e.Build
		build.Tail, e.Build = "", &build
	}
	if e.Scan != nil {
		scan := *e.Scan
		scan.Tail, e.Scan = "", &scan
	}
	return e
}

// Outline returns s without machine configs and without output tails: the fold of the
// outlines of its events.
func (s Status) Outline() Status {
	if s.Plan != nil {
		outline := s.Plan.WithoutConfigs()
		s.Plan = &outline
	}
	s.Tests, s.Builds, s.Scans = slices.Clone(s.Tests), slices.Clone(s.Builds), slices.Clone(s.Scans)
	for i := range s.Tests {
		s.Tests[i].Tail = ""
	}
	for i := range s.Builds {
		s.Builds[i].Tail = ""
	}
	for i := range s.Scans {
		s.Scans[i].Tail = ""
	}
	return s
}
