package workflows

import (
	"errors"
	"fmt"
	"slices"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

// resolvePath returns the path to an environment, without the skipped environments.
func (r *releaseRun) resolvePath(project *release.Project, to string) ([]release.Environment, error) {
	path, err := project.Path(to)
	return slices.DeleteFunc(path, func(e release.Environment) bool {
		return slices.ContainsFunc(r.req.Skip, func(s release.Skipped) bool { return s.Environment == e.Name })
	}), err
}

// addToPath adds environments to the path and to the status. The note says who asked
// for them, if a user did.
func (r *releaseRun) addToPath(ctx workflow.Context, path []release.Environment, note string) {
	var names []string
	for _, env := range path {
		if r.req.Bake != nil && env.Bake > 0 {
			env.Bake = *r.req.Bake
		}
		r.path = append(r.path, env)
		names = append(names, env.Name)
	}
	r.record(ctx, release.PathExtended(names, note))
}

// countCompleted returns how many environments of the path have an outcome.
func (r *releaseRun) countCompleted() (n int) {
	for _, e := range r.status().Environments {
		if e.Outcome != "" {
			n++
		}
	}
	return n
}

// extendPath extends the path to a further environment. An environment that is on the
// path already changes nothing. It fails with KindEnded if the release has ended.
func (r *releaseRun) extendPath(ctx workflow.Context, e release.Extension) error {
	if err := workflow.Await(ctx, func() bool { return r.project != nil || r.hasEnded() }); err != nil {
		return err
	}
	if r.hasEnded() {
		return temporal.NewNonRetryableApplicationError("the release has ended", release.KindEnded, nil)
	}
	if r.req.Rollback != nil {
		return errors.New("a rollback has no path")
	}
	path, err := r.resolvePath(r.project, e.To)
	if err != nil {
		return err
	}
	for i, env := range r.path {
		switch {
		case i == len(path):
			return nil // the path already goes further
		case path[i].Name != env.Name:
			return fmt.Errorf("the path of the release ends at %s, which is not on the path to %s", r.path[len(r.path)-1].Name, e.To)
		}
	}
	if len(path) == len(r.path) {
		return nil
	}
	r.addToPath(ctx, path[len(r.path):], fmt.Sprintf("extended to %s by %s", e.To, e.By))
	r.req.To = e.To
	r.showStatus(ctx)
	return workflow.UpsertMemo(ctx, map[string]any{release.MemoRequest: r.req})
}

// hasEnded reports whether the release has ended. Handlers may still be running then.
func (r *releaseRun) hasEnded() bool { return !r.status().Ended.IsZero() }

// registerExtensionHandlers registers the update and the signal that extend the path.
func (r *releaseRun) registerExtensionHandlers(ctx workflow.Context) error {
	const shape = `{"to": "environment", "by": "…"}`
	r.handleSignals(ctx, workflow.GetSignalChannelWithOptions(ctx, release.ExtendSignal, workflow.SignalChannelOptions{
		Description: shape + ": extend the release to a further environment",
	}), func(ctx workflow.Context, raw []byte) {
		e, err := release.ParseExtension(raw)
		if err == nil {
			err = r.extendPath(ctx, e)
		}
		if err != nil {
			r.addNote(ctx, "the path was not extended: %s", errorMessage(err))
			r.showStatus(ctx)
		}
	})
	return workflow.SetUpdateHandlerWithOptions(ctx, release.ExtendUpdate,
		func(ctx workflow.Context, raw converter.RawValue) error {
			e, err := release.ParseExtension(raw.Payload().GetData())
			if err == nil {
				err = r.extendPath(ctx, e)
			}
			if err != nil && findApplicationError(err) == nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), "Refused", nil)
			}
			return err
		},
		workflow.UpdateHandlerOptions{
			Description: "Extend the release to a further environment: " + shape,
			Validator: func(raw converter.RawValue) error {
				_, err := release.ParseExtension(raw.Payload().GetData())
				return err
			},
		})
}
