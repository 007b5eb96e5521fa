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

// pathTo returns the way to an environment, without those that are skipped.
func (r *releaser) pathTo(project *release.Project, to string) ([]release.Environment, error) {
	path, err := project.Path(to)
	return slices.DeleteFunc(path, func(e release.Environment) bool {
		return slices.ContainsFunc(r.req.Skip, func(s release.Skipped) bool { return s.Environment == e.Name })
	}), err
}

// lengthen adds environments to the path.
func (r *releaser) lengthen(path []release.Environment) {
	for _, env := range path {
		if r.req.Bake != nil && env.Bake > 0 {
			env.Bake = *r.req.Bake
		}
		r.path = append(r.path, env)
		r.status.Environments = append(r.status.Environments, release.EnvironmentStatus{Name: env.Name})
	}
}

// done counts the environments of the path that the release has been through.
func (r *releaser) done() (n int) {
	for _, e := range r.status.Environments {
		if e.Outcome != "" {
			n++
		}
	}
	return n
}

// extend makes the release go on to a further environment. Asking for one on its
// path changes nothing.
func (r *releaser) extend(ctx workflow.Context, e release.Extension) error {
	if err := workflow.Await(ctx, func() bool { return r.project != nil || r.isOver() }); err != nil {
		return err
	}
	if r.isOver() {
		return temporal.NewNonRetryableApplicationError("the release is over", release.KindOver, nil)
	}
	if r.req.Rollback != nil {
		return errors.New("a rollback has no path")
	}
	path, err := r.pathTo(r.project, e.To)
	if err != nil {
		return err
	}
	for i, env := range r.path {
		switch {
		case i == len(path):
			return nil // it goes further
		case path[i].Name != env.Name:
			return fmt.Errorf("the release goes to %s, which is not on the way to %s", r.path[len(r.path)-1].Name, e.To)
		}
	}
	if len(path) == len(r.path) {
		return nil
	}
	r.lengthen(path[len(r.path):])
	r.req.To = e.To
	r.note("extended to %s by %s", e.To, e.By)
	r.show(ctx)
	return workflow.UpsertMemo(ctx, map[string]any{release.MemoRequest: r.req})
}

// isOver reports whether the release has ended, whatever is still under way in
// its handlers.
func (r *releaser) isOver() bool { return !r.status.Ended.IsZero() }

// registerExtension registers the update and the signal that extend the path.
func (r *releaser) registerExtension(ctx workflow.Context) error {
	const shape = `{"to": "environment", "by": "…"}`
	r.receive(ctx, workflow.GetSignalChannelWithOptions(ctx, release.ExtendSignal, workflow.SignalChannelOptions{
		Description: shape + ": go on to a further environment",
	}), func(ctx workflow.Context, raw []byte) {
		e, err := release.ReadExtension(raw)
		if err == nil {
			err = r.extend(ctx, e)
		}
		if err != nil {
			r.note("the path was not extended: %s", plain(err))
			r.show(ctx)
		}
	})
	return workflow.SetUpdateHandlerWithOptions(ctx, release.ExtendUpdate,
		func(ctx workflow.Context, raw converter.RawValue) error {
			e, err := release.ReadExtension(raw.Payload().GetData())
			if err == nil {
				err = r.extend(ctx, e)
			}
			if err != nil && applicationError(err) == nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), "Refused", nil)
			}
			return err
		},
		workflow.UpdateHandlerOptions{
			Description: "Go on to a further environment: " + shape,
			Validator: func(raw converter.RawValue) error {
				_, err := release.ReadExtension(raw.Payload().GetData())
				return err
			},
		})
}
