package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type status struct {
	*env
	asJSON, details bool
}

func newStatus(e *env) *cobra.Command {
	c := status{env: e}
	cmd := &cobra.Command{
		Use:   "status [ENVIRONMENT | ID]",
		Short: "What runs where; or where a release is",
		Long: `Status without an ID says what runs where, as Fly itself says it: for each app
and environment the revision, since when, by which release, and in what machines
differ from each other; and which environments are pinned after a rollback.

With the name of an environment it also says what release rollback would bring
back there, whether the images of that still exist by their digests, and until
when history tells of it.

With an ID it says where that release is: phase, targets, machines, the time
each phase took, decisions, what it waits for, and what it cost.`,
		Example: `  release status
  release status production
  release status 4f2d1c0b9a8e
  release status 4f2d1c0b9a8e --json | jq -r .phase`,
		Args: args(0, 1, "environment or ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.everywhere(cmd.Context())
			}
			if project := c.here(); project != nil {
				if environment, err := project.Environment(args[0]); err == nil {
					return c.ofEnvironment(cmd.Context(), project, environment)
				}
			}
			return c.of(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write it as JSON")
	cmd.Flags().BoolVar(&c.details, "details", false, "with an ID: show each target and machine by itself")
	cmd.ValidArgsFunction = c.releases()
	return cmd
}

func (c status) everywhere(ctx context.Context) error {
	project, err := c.mustHere()
	if err != nil {
		return err
	}
	var targets []release.TargetFile
	for _, e := range project.Environments {
		targets = append(targets, e.Targets...)
	}
	places := c.fly().observe(ctx, targets)
	c.addPins(ctx, project, places)
	if c.asJSON {
		err = c.json(places)
	} else {
		_, err = fmt.Fprint(c.stdout, view.TargetStates(places, c.now(), c.style(c.stdout)))
	}
	for _, p := range places {
		if p.Unknown != "" {
			return &exit{code: exitFailed} // it is said where it is shown
		}
	}
	return err
}

func (c status) of(ctx context.Context, ref string) error {
	s, seen, err := c.see(ctx, ref)
	if err != nil {
		return err
	}
	return c.report(ctx, s, seen, c.asJSON, c.details)
}
