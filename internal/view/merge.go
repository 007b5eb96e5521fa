package view

import (
	"cmp"
	"slices"

	"github.com/microbima/release/release"
)

// Merge returns a release's status with the newer facts of its open rollout: the
// targets and machines of the environment, the phase and its spans, and why it is
// held. It returns s unchanged if the rollout is nil or belongs to another release, as
// it does while s waits for the lock.
func Merge(s release.Status, rollout *release.Status) release.Status {
	if rollout == nil || rollout.Release != s.ID || s.Outcome != "" {
		return s
	}
	environment := rollout.Environment
	s.Environments = slices.Clone(s.Environments)
	for _, theirs := range rollout.Environments {
		if environment == "" {
			environment = theirs.Name
		}
		i := slices.IndexFunc(s.Environments, func(e release.EnvironmentStatus) bool { return e.Name == theirs.Name })
		if i < 0 {
			s.Environments = append(s.Environments, theirs)
			continue
		}
		ours := s.Environments[i]
		theirs.Outcome = cmp.Or(ours.Outcome, theirs.Outcome)
		theirs.Plan, theirs.Rollout, theirs.Run = cmp.Or(theirs.Plan, ours.Plan), cmp.Or(theirs.Rollout, ours.Rollout), cmp.Or(theirs.Run, ours.Run)
		s.Environments[i] = theirs
	}
	s.Environment = cmp.Or(environment, s.Environment)
	if rollout.Phase != "" && rollout.Phase != release.Done {
		s.Phase, s.Since = rollout.Phase, rollout.Since
	}
	s.Spans = mergeSpans(s.Spans, rollout.Spans, environment)
	if rollout.Held != nil {
		s.Held = rollout.Held
	}
	if s.Cause == nil {
		s.Cause = rollout.Cause
	}
	for _, n := range rollout.Notes {
		if !slices.Contains(s.Notes, n) {
			s.Notes = append(slices.Clip(s.Notes), n)
		}
	}
	return s
}

// mergeSpans replaces the release's single span of a rollout by the rollout's spans.
func mergeSpans(ours, theirs []release.Span, environment string) []release.Span {
	if len(theirs) == 0 {
		return ours
	}
	since := theirs[0].From
	merged := slices.DeleteFunc(slices.Clone(ours), func(s release.Span) bool {
		return s.Environment == environment && s.Phase == release.RollingOut && (s.To.IsZero() || !s.From.Before(since))
	})
	for _, s := range theirs {
		s.Environment = cmp.Or(s.Environment, environment)
		if s.Phase != release.Done {
			merged = append(merged, s)
		}
	}
	slices.SortStableFunc(merged, func(a, b release.Span) int { return a.From.Compare(b.From) })
	return merged
}
