package main

import (
	"context"
	"time"

	"github.com/microbima/release/release"
)

const (
	// effect is how long a command waits to see what came of what was decided.
	effect = 15 * time.Second
	// soon is how long an answer may take to lead to the next question.
	soon = 3 * time.Second
)

// await returns what is seen of a workflow once done is true of it, or after some
// time what is seen then. A worker that does not answer is waited for.
func (s *server) await(ctx context.Context, id, run string, done func(sight) bool) (sight, error) {
	return s.awaitFor(ctx, effect, id, run, done)
}

func (s *server) awaitFor(ctx context.Context, limit time.Duration, id, run string, done func(sight) bool) (sight, error) {
	end := time.Now().Add(limit)
	for {
		seen, err := s.look(ctx, id, run)
		if err != nil || !seen.Blind && done(seen) || time.Now().After(end) {
			return seen, err
		}
		pause(ctx, glance)
		if ctx.Err() != nil {
			return seen, ctx.Err()
		}
	}
}

// begun reports whether the rollout in an environment has found that its plan
// fits: it knows the machines then.
func (s sight) begun(environment string) bool {
	e := s.EnvironmentStatus(environment)
	return s.Phase != release.Planning && e != nil && len(e.Targets) > 0
}

// phaseOf is where a release is, for people.
func phaseOf(s sight) string {
	if s.Environment == "" {
		return string(s.Phase)
	}
	return string(s.Phase) + " (" + s.Environment + ")"
}
