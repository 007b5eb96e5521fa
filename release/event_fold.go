package release

import "slices"

// environmentOf returns the status of the environment of e, which it adds if needed.
func (s *Status) environmentOf(e Event) *EnvironmentStatus {
	if known := s.EnvironmentStatus(e.Environment); known != nil {
		return known
	}
	s.Environments = append(s.Environments, EnvironmentStatus{Name: e.Environment})
	return &s.Environments[len(s.Environments)-1]
}

func applyBegun(s *Status, e Event) {
	b := e.Begun
	s.ID, s.Run, s.Protocol, s.Project, s.Release = b.ID, b.Run, b.Protocol, b.Project, b.Release
	s.Revision, s.By, s.Restores, s.Started = b.Revision, b.By, b.Restores, e.At
}

// IsInPhase reports whether phase p of an environment has begun and lasts.
func (s *Status) IsInPhase(p Phase, environment string) bool {
	n := len(s.Spans)
	return n > 0 && s.Spans[n-1].To.IsZero() && s.Spans[n-1].Phase == p && s.Spans[n-1].Environment == environment
}

// enterPhase ends the current phase and begins the one of e.
func (s *Status) enterPhase(e Event) {
	s.endPhase(e)
	s.Spans = append(s.Spans, Span{Phase: e.Phase, Environment: e.Environment, From: e.At})
	s.Phase, s.Since, s.Environment = e.Phase, e.At, e.Environment
}

// endPhase ends the span of the current phase.
func (s *Status) endPhase(e Event) {
	if n := len(s.Spans); n > 0 && s.Spans[n-1].To.IsZero() {
		s.Spans[n-1].To = e.At
	}
}

// applyPlanMade shows a plan. A rollout executes it; a release asks for its approval
// first.
func applyPlanMade(s *Status, e Event) {
	s.Plan = e.Plan
	env := s.environmentOf(e)
	env.Lineage = e.Plan.Lineage
	if s.Release != "" {
		env.Plan = e.Plan.Hash
	}
}

func applyOutcomeReached(s *Status, e Event) {
	env := s.environmentOf(e)
	env.Outcome = e.Outcome
	if e.Targets != nil {
		env.Targets = cloneTargets(e.Targets)
	}
	if s.Release == "" { // a rollout shows its plan until its end
		s.Plan = nil
	}
}

func applyEnded(s *Status, e Event) {
	s.endPhase(e)
	s.Outcome, s.Ended, s.Phase, s.Since = e.Outcome, e.At, Done, e.At
}

func applyPathExtended(s *Status, e Event) {
	for _, name := range e.Path {
		s.Environments = append(s.Environments, EnvironmentStatus{Name: name})
	}
}

func applyJobEnded(s *Status, e Event) {
	s.Jobs = slices.DeleteFunc(slices.Clone(s.Jobs), func(j Job) bool { return j.Name == e.Job })
}

func applyGateOpened(s *Status, e Event) {
	g := *e.Gate
	g.Approved = slices.Clone(g.Approved)
	s.Gate = &g
}

func applyReviewReceived(s *Status, e Event) {
	s.Reviews = append(s.Reviews, *e.Review)
	if e.Review.Approve && e.Review.IgnoredReason == "" && s.Gate != nil {
		s.Gate.Approved = append(s.Gate.Approved, e.Review.By)
	}
}

// applyRolloutEnded adds the result of a rollout. Its spans replace the span "rolling
// out".
func applyRolloutEnded(s *Status, e Event) {
	s.Rollout = ""
	if e.Result == nil {
		return
	}
	s.Notes = append(s.Notes, e.Result.Notes...)
	in := e.Result.Environment
	if in == nil {
		return
	}
	env := s.environmentOf(e)
	env.Outcome, env.Plan, env.Rollout, env.Run = in.Outcome, in.Plan, e.Rollout.ID, e.Rollout.Run
	env.Targets, env.Verdicts, env.Commands, env.Warnings = in.Targets, in.Verdicts, in.Commands, in.Warnings
	if s.IsInPhase(RollingOut, e.Environment) {
		s.Spans = s.Spans[:len(s.Spans)-1]
	}
	s.Spans = append(s.Spans, e.Result.Spans...)
	s.Plan = nil
}

// describeAbort returns the cause of an end, with who aborted the release if that is the
// cause.
func describeAbort(c *Cause, a *Abort) *Cause {
	if c == nil || a == nil || !c.Aborted {
		return c
	}
	cause := *c
	cause.Message += " by " + a.By
	if a.Reason != "" {
		cause.Message += ": " + a.Reason
	}
	return &cause
}

func applyTargetsPlanned(s *Status, e Event) {
	env := s.environmentOf(e)
	env.Targets = cloneTargets(e.Targets)
	if e.Warnings != nil {
		env.Warnings = e.Warnings
	}
}

func applyReleasesOpened(s *Status, e Event) {
	targets := s.environmentOf(e).Targets
	for i, t := range targets {
		targets[i].FlyRelease = e.FlyReleases[t.FlyApp]
	}
}

// applyMachineChanged replaces the status of one machine.
func applyMachineChanged(s *Status, e Event) {
	targets := s.environmentOf(e).Targets
	for i := range targets {
		if targets[i].Target != e.Target {
			continue
		}
		if m := targets[i].FindMachine(e.Machine); m != nil {
			*m = *e.MachineState
		} else {
			targets[i].Machines = append(targets[i].Machines, *e.MachineState)
		}
	}
}

// applyMachinesObserved replaces all machines of an environment. The progress of the
// rollout on each of them stays.
func applyMachinesObserved(s *Status, e Event) {
	env := s.environmentOf(e)
	before := env.Targets
	env.Targets = cloneTargets(e.Targets)
	for i := range env.Targets {
		now := &env.Targets[i]
		was := slices.IndexFunc(before, func(t TargetStatus) bool { return t.Target == now.Target })
		if was < 0 {
			continue
		}
		now.FlyRelease = before[was].FlyRelease
		for j := range now.Machines {
			m := &now.Machines[j]
			if had := before[was].FindMachine(m.Name); had != nil && had.Verb != "" {
				m.Verb, m.Progress, m.Since, m.Until = had.Verb, had.Progress, had.Since, had.Until
			}
		}
	}
}

func applyCommandRan(s *Status, e Event) {
	env := s.environmentOf(e)
	env.Commands = append(env.Commands, *e.Command)
}

// applyVerdictReached replaces the verdict of one target.
func applyVerdictReached(s *Status, e Event) {
	env := s.environmentOf(e)
	i := slices.IndexFunc(env.Verdicts, func(v Verdict) bool { return v.Target == e.Target })
	if i < 0 {
		env.Verdicts = append(env.Verdicts, *e.Verdict)
	} else {
		env.Verdicts[i] = *e.Verdict
	}
}

// cloneTargets returns a copy of targets with machines of their own.
func cloneTargets(targets []TargetStatus) []TargetStatus {
	targets = slices.Clone(targets)
	for i := range targets {
		targets[i].Machines = slices.Clone(targets[i].Machines)
	}
	return targets
}

// FindMachine returns the machine of t with that ID or name, or nil.
func (t *TargetStatus) FindMachine(ref string) *MachineStatus {
	for i := range t.Machines {
		if m := &t.Machines[i]; m.ID == ref || m.Name == ref {
			return m
		}
	}
	return nil
}
