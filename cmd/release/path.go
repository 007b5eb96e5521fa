package main

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// errOver: the release to attach to has ended meanwhile.
var errOver = errors.New("the release is over")

// extend makes a release that runs go on to a further environment.
func (s *server) extend(ctx context.Context, id, run string, e release.Extension) error {
	call, cancel := context.WithTimeout(ctx, s.env.worker())
	defer cancel()
	err := s.update(call, client.UpdateWorkflowOptions{WorkflowID: id, RunID: run, UpdateName: release.ExtendUpdate, Args: []any{e}})
	switch {
	case err == nil:
		s.env.say("it is under way already, and goes on to %s now", e.To)
		return nil
	case noWorker(ctx, err):
		if err := s.SignalWorkflow(ctx, id, run, release.ExtendSignal, e); err != nil {
			return s.said(ctx, "extend "+id, err)
		}
		s.env.say("no worker answers: the signal %s was sent, and %s goes on to %s once there is one", release.ExtendSignal, view.Ref(id), e.To)
		return nil
	case isGone(err), isOver(err):
		return errOver
	case refusal(err) != "":
		return fmt.Errorf("%s is under way, and was not extended to %s: %s; wait for it (release watch %[1]s) or stop it (release abort %[1]s) first", view.Ref(id), e.To, refusal(err))
	}
	return s.said(ctx, "extend "+id, err)
}

// followTo is follow until an environment of the release's path is done, if the
// release goes further. The exit code is then about that environment.
func (e *env) followTo(ctx context.Context, s *server, id, run, environment string, asJSON bool) error {
	f := newFollower(e, s, id, run)
	done := func(seen sight) bool {
		in := seen.EnvironmentStatus(environment)
		return in != nil && in.Outcome != "" && in != &seen.Environments[len(seen.Environments)-1]
	}
	f.until = done
	return e.followed(ctx, s, f, asJSON, func(seen sight) int {
		if !seen.over() && done(seen) {
			e.say("%s is done; the release goes on to %s", environment, seen.Environments[len(seen.Environments)-1].Name)
			return code(seen.EnvironmentStatus(environment).Outcome)
		}
		return seen.code()
	})
}

// isOver reports whether a release refused an update because it has ended.
func isOver(err error) bool {
	var refused *temporal.ApplicationError
	return errors.As(err, &refused) && refused.Type() == release.KindOver
}
