package release

// Apply adds the fact of e to s. It returns false, and changes nothing, if this program
// does not know the kind of e. It never changes what e points to.
func (s *Status) Apply(e Event) bool {
	if !applyCourse(s, e) && !applyWork(s, e) && !applyOrder(s, e) && !applyRollout(s, e) {
		return false
	}
	if e.Note != "" {
		s.Notes = append(s.Notes, e.Note)
	}
	return true
}

// applyCourse applies an event of releases and rollouts. It returns false for another kind.
func applyCourse(s *Status, e Event) bool {
	switch e.Kind {
	case EventBegun:
		applyBegun(s, e)
	case EventPhaseEntered:
		s.enterPhase(e)
	case EventPlanMade:
		applyPlanMade(s, e)
	case EventCauseFound:
		s.Cause = describeAbort(e.Cause, s.Abort)
	case EventOutcomeReached:
		applyOutcomeReached(s, e)
	case EventEnded:
		applyEnded(s, e)
	case EventNote, EventCleanupFailed: // its note is all
	default:
		return false
	}
	return true
}

// applyWork applies an event of the path, a test or a build. It
// returns false for another kind.
func applyWork(s *Status, e Event) bool {
	switch e.Kind {
	case EventPathExtended:
		applyPathExtended(s, e)
	case EventRestoreFound:
		s.Revision, s.Restores = *e.Revision, e.Restores
	case EventJobStarted:
		s.Jobs = append(s.Jobs, Job{Name: e.Job, Since: e.At})
	case EventJobEnded:
		applyJobEnded(s, e)
	case EventTestFinished:
		s.Tests = append(s.Tests, *e.Test)
		s.BoundTails()
	case EventBuildFinished:
		s.Builds = append(s.Builds, *e.Build)
		s.BoundTails()
	case EventScanFinished:
		s.Scans = append(s.Scans, *e.Scan)
		s.BoundTails()
	case EventImagesCopied:
		s.environmentOf(e).CopiedBytes += e.CopiedBytes
	default:
		return false
	}
	return true
}

// applyOrder applies an event of a gate, a queue or the start and end of a rollout. It
// returns false for another kind.
func applyOrder(s *Status, e Event) bool {
	switch e.Kind {
	case EventGateOpened:
		applyGateOpened(s, e)
	case EventGateClosed:
		s.Gate = nil
	case EventReviewReceived:
		applyReviewReceived(s, e)
	case EventQueueJoined:
		s.Queue = e.Queue
	case EventQueueLeft:
		s.Queue = ""
	case EventRolloutStarted:
		s.Rollout = e.Rollout.ID
	case EventRolloutEnded:
		applyRolloutEnded(s, e)
	case EventAbortRequested:
		s.Abort, s.Cause = e.Abort, describeAbort(s.Cause, e.Abort)
	case EventPlanStale: // its note is all
	default:
		return false
	}
	return true
}

// applyRollout applies an event of a rollout. It returns false for another kind.
func applyRollout(s *Status, e Event) bool {
	switch e.Kind {
	case EventTargetsPlanned:
		applyTargetsPlanned(s, e)
	case EventReleasesOpened:
		applyReleasesOpened(s, e)
	case EventMachineChanged:
		applyMachineChanged(s, e)
	case EventMachinesObserved:
		applyMachinesObserved(s, e)
	case EventCommandRan:
		applyCommandRan(s, e)
	case EventVerdictReached:
		applyVerdictReached(s, e)
	case EventHeld:
		s.Held = e.Hold
	case EventHoldEnded:
		s.Held = nil
	case EventMachineRecreated, EventMachineLeftAwake, EventStateUnread: // its note is all
	default:
		return false
	}
	return true
}
