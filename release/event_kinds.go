package release

// WorkflowBegun returns the first event of a release or a rollout.
func WorkflowBegun(b Begun) Event { return Event{Kind: EventBegun, Begun: &b} }

// PhaseEntered returns the event of the start of a phase.
func PhaseEntered(p Phase, environment string) Event {
	return Event{Kind: EventPhaseEntered, Phase: p, Environment: environment}
}

// PlanMade returns the event of a plan that is ready for review or execution.
func PlanMade(p Plan) Event {
	return Event{Kind: EventPlanMade, Environment: p.Environment, Plan: &p}
}

// CauseFound returns the event of the reason for an outcome.
func CauseFound(c Cause) Event { return Event{Kind: EventCauseFound, Cause: &c} }

// Noted returns the event of a remark for users.
func Noted(note string) Event { return Event{Kind: EventNote, Note: note} }

// CleanupFailed returns the event of leases, Fly releases or machines that could not be
// removed. The note says which.
func CleanupFailed(note string) Event { return Event{Kind: EventCleanupFailed, Note: note} }

// OutcomeReached returns the event of the outcome in one environment. Targets, if not
// nil, replace the known ones.
func OutcomeReached(environment string, o Outcome, targets []TargetStatus) Event {
	return Event{Kind: EventOutcomeReached, Environment: environment, Outcome: o, Targets: targets}
}

// WorkflowEnded returns the event of the end of a release or a rollout; o is "" if it is
// stranded.
func WorkflowEnded(o Outcome) Event { return Event{Kind: EventEnded, Outcome: o} }

// PathExtended returns the event of environments that are added to the path of a
// release. The note says who asked for them, if a user did.
func PathExtended(path []string, note string) Event {
	return Event{Kind: EventPathExtended, Path: path, Note: note}
}

// RestoreFound returns the event of the state that a rollback restores.
func RestoreFound(environment string, r Revision, of StateRef) Event {
	return Event{Kind: EventRestoreFound, Environment: environment, Revision: &r, Restores: &of}
}

// JobStarted returns the event of a test or a build that runs or waits for a worker.
func JobStarted(name string) Event { return Event{Kind: EventJobStarted, Job: name} }

// JobEnded returns the event of the end of a test or a build.
func JobEnded(name string) Event { return Event{Kind: EventJobEnded, Job: name} }

// TestFinished returns the event of the result of a test.
func TestFinished(r TestResult) Event { return Event{Kind: EventTestFinished, Test: &r} }

// BuildFinished returns the event of the result of a build.
func BuildFinished(r BuildResult) Event { return Event{Kind: EventBuildFinished, Build: &r} }

// ScanFinished returns the event of the result of a scan.
func ScanFinished(r ScanResult) Event { return Event{Kind: EventScanFinished, Scan: &r} }

// ImagesCopied returns the event of a copy of images into the repositories of an
// environment.
func ImagesCopied(environment string, bytes int64) Event {
	return Event{Kind: EventImagesCopied, Environment: environment, CopiedBytes: bytes}
}

// PlanStale returns the event of a plan that no longer matches the machines. The note
// says why.
func PlanStale(environment, note string) Event {
	return Event{Kind: EventPlanStale, Environment: environment, Note: note}
}

// GateOpened returns the event of a release that begins to wait for approval.
func GateOpened(g GateStatus) Event {
	return Event{Kind: EventGateOpened, Environment: g.Environment, Gate: &g}
}

// GateClosed returns the event of a release that no longer waits for approval.
func GateClosed(environment string) Event {
	return Event{Kind: EventGateClosed, Environment: environment}
}

// ReviewReceived returns the event of a review, also of an ignored one.
func ReviewReceived(environment string, r ReceivedReview) Event {
	return Event{Kind: EventReviewReceived, Environment: environment, Review: &r}
}

// QueueJoined returns the event of a release that begins to wait for an environment.
// Queue describes the holder; ahead is the workflow ID of its release, or "".
func QueueJoined(environment, queue, ahead string) Event {
	return Event{Kind: EventQueueJoined, Environment: environment, Queue: queue, Ahead: ahead}
}

// QueueLeft returns the event of a release that no longer waits for an environment.
func QueueLeft(environment string) Event {
	return Event{Kind: EventQueueLeft, Environment: environment}
}

// RolloutStarted returns the event of the start of a rollout. The events of that
// rollout follow in its own list.
func RolloutStarted(environment string, r RolloutRef) Event {
	return Event{Kind: EventRolloutStarted, Environment: environment, Rollout: &r}
}

// RolloutEnded returns the event of the end of a rollout. Its result is nil if the
// rollout ended without a report.
func RolloutEnded(environment string, r RolloutRef, result *RolloutResult) Event {
	return Event{Kind: EventRolloutEnded, Environment: environment, Rollout: &r, Result: result}
}

// AbortRequested returns the event of a user's order to stop.
func AbortRequested(a Abort) Event { return Event{Kind: EventAbortRequested, Abort: &a} }

// TargetsPlanned returns the event of the targets and machines of a plan, before its
// first step.
func TargetsPlanned(environment string, targets []TargetStatus, warnings []string) Event {
	return Event{Kind: EventTargetsPlanned, Environment: environment, Targets: targets, Warnings: warnings}
}

// ReleasesOpened returns the event of new Fly releases: versions by Fly app.
func ReleasesOpened(environment string, versions map[string]int) Event {
	return Event{Kind: EventReleasesOpened, Environment: environment, FlyReleases: versions}
}

// MachineChanged returns the event of a step that began, was done or failed. Machine is
// the ID or the name in the step, m the machine afterwards.
func MachineChanged(t Target, machine string, m MachineStatus) Event {
	return Event{Kind: EventMachineChanged, Environment: t.Environment, Target: t, Machine: machine, MachineState: &m}
}

// MachinesObserved returns the event of a read of all machines of an environment.
func MachinesObserved(environment string, targets []TargetStatus) Event {
	return Event{Kind: EventMachinesObserved, Environment: environment, Targets: targets}
}

// MachineWasRecreated returns the event of a machine of the baseline that a rollback had
// to create again.
func MachineWasRecreated(r Recreated) Event {
	return Event{Kind: EventMachineRecreated, Environment: r.Target.Environment, Target: r.Target, Machine: r.ID, NewMachine: r.NewID}
}

// MachineLeftAwake returns the event of a machine that was started for verification and
// could not be stopped again. The note says why.
func MachineLeftAwake(t Target, machine, note string) Event {
	return Event{Kind: EventMachineLeftAwake, Environment: t.Environment, Target: t, Machine: machine, Note: note}
}

// StateUnread returns the event of a successful rollout after which the machines could
// not be read. The note says why.
func StateUnread(environment, note string) Event {
	return Event{Kind: EventStateUnread, Environment: environment, Note: note}
}

// CommandRan returns the event of the result of a release command.
func CommandRan(c CommandResult) Event {
	return Event{Kind: EventCommandRan, Environment: c.Target.Environment, Target: c.Target, Machine: c.Machine, Command: &c}
}

// VerdictReached returns the event of the verification of one target.
func VerdictReached(v Verdict) Event {
	return Event{Kind: EventVerdictReached, Environment: v.Target.Environment, Target: v.Target, Verdict: &v}
}

// RolloutHeld returns the event of a rollout that begins to wait for a resolution.
func RolloutHeld(environment string, h Hold) Event {
	return Event{Kind: EventHeld, Environment: environment, Hold: &h}
}

// HoldEnded returns the event of the end of a hold. by is nil if an abort ended the hold.
// Otherwise the note names the person and the resolution.
func HoldEnded(environment string, by *Resolution, note string) Event {
	return Event{Kind: EventHoldEnded, Environment: environment, Resolution: by, Note: note}
}
