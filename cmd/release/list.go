package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type list struct {
	*env
	all, asJSON bool
	limit       int
}

func newList(e *env) *cobra.Command {
	c := list{env: e}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Releases, newest first",
		Long: `List shows releases, newest first: those of the project here, or with --all
(and outside of any project) those of all projects.`,
		Example: `  release list
  release list --all -n 100
  release list --json | jq -r '.[] | select(.outcome == null) | .id'`,
		Args: args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&c.all, "all", false, "of all projects")
	cmd.Flags().IntVarP(&c.limit, "number", "n", 20, "at most this `NUMBER`")
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write them as JSON")
	return cmd
}

func (c list) run(ctx context.Context) error {
	if c.limit < 1 {
		return usage("-n %d: it must be 1 or more", c.limit)
	}
	s, err := c.temporal(ctx)
	if err != nil {
		return err
	}
	project := c.here()
	if project == nil && c.worktree() != "" && !c.all {
		c.warn("the files here are wrong (release check says how): these are the releases of all projects")
	}
	query := fmt.Sprintf("WorkflowType = '%s'", release.ReleaseWorkflow)
	if project != nil && !c.all {
		query += fmt.Sprintf(" AND %s = '%s'", release.AttrProject, strings.ReplaceAll(project.Name, "'", ""))
	}
	entries, err := s.entries(ctx, query, c.limit)
	if err != nil {
		return err
	}
	for i := range entries {
		if entries[i].CutOff {
			s.settleEntry(ctx, &entries[i])
		}
	}
	if c.asJSON {
		if entries == nil {
			entries = []view.Entry{}
		}
		return c.json(entries)
	}
	fmt.Fprint(c.stdout, view.List(entries, c.now(), c.style(c.stdout)))
	return nil
}
