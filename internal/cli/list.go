package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type listCommand struct {
	*World
	all, asJSON bool
	limit       int
}

func newList(w *World) *cobra.Command {
	c := listCommand{World: w}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List releases, newest first",
		Long: `List shows releases, newest first: those of the project in the current directory.
With --all, or outside of a project, it shows those of all projects.`,
		Example: `  release list
  release list --all -n 100
  release list --json | jq -r '.[] | select(.outcome == null) | .id'`,
		Args: WantArgs(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&c.all, "all", false, "list the releases of all projects")
	cmd.Flags().IntVarP(&c.limit, "number", "n", 20, "list at most `NUMBER` releases")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write them as JSON")
	return cmd
}

func (c listCommand) run(ctx context.Context) error {
	if c.limit < 1 {
		return Usage("-n must be 1 or more, got %d", c.limit)
	}
	temporal, err := dialTemporal(ctx, c.World)
	if err != nil {
		return err
	}
	name := ""
	project := FindProject(c.Dir)
	switch {
	case c.all:
	case project != nil:
		name = project.Name
	case worktreeDir(c.Dir) != "":
		c.Warn("the files here are invalid (see release check): these are the releases of all projects")
	}
	entries, err := temporal.List(ctx, name, c.limit)
	if err != nil {
		return err
	}
	if c.asJSON {
		if entries == nil {
			entries = []release.Entry{}
		}
		return c.PrintJSON(entries)
	}
	fmt.Fprint(c.Stdout, view.List(entries, c.Now(), c.Style(c.Stdout)))
	return nil
}
