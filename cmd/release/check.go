package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/microbima/release/config"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type check struct {
	*env
	asJSON bool
}

func newCheck(e *env) *cobra.Command {
	c := check{env: e}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say everything that is wrong with the files",
		Long: `Check reads release.toml and every fly.toml as they are in the worktree, and
says everything that is wrong with them at once, with file and line. It asks
nobody: neither Fly nor Temporal nor git.`,
		Example: `  release check
  release check --json`,
		Args: args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error { return c.run() },
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write mistakes and warnings as JSON")
	return cmd
}

// A remark is a mistake or a warning, as --json tells it.
type remark struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

func (c check) run() error {
	dir := c.worktree()
	if dir == "" {
		return fmt.Errorf("no %s in %s or above; go to the clone of a repository that has one", config.File, c.dir)
	}
	project, warnings, err := load(os.DirFS(dir))
	var mistakes config.Errors
	if err != nil && !errors.As(err, &mistakes) {
		return err
	}
	if c.asJSON {
		if err := c.json(map[string]any{"mistakes": remarks(mistakes), "warnings": remarks(config.Errors(warnings))}); err != nil {
			return err
		}
		if len(mistakes) > 0 {
			return &exit{code: exitFailed}
		}
		return nil
	}
	for _, w := range warnings {
		c.warn("%v", w)
	}
	if len(mistakes) > 0 {
		for _, m := range mistakes {
			fmt.Fprintln(c.stdout, view.Escape(fmt.Sprint(m)))
		}
		return &exit{code: exitFailed, err: fmt.Errorf("%d wrong", len(mistakes))}
	}
	c.good(project)
	return nil
}

func (c check) good(p *release.Project) {
	targets := 0
	for _, e := range p.Environments {
		targets += len(e.Targets)
	}
	fmt.Fprintf(c.stdout, "%s: nothing wrong with %s; %s; %d fly.toml files\n",
		p.Name, config.File, strings.Join(names(p.Environments), ", then "), targets)
}

func remarks(problems config.Errors) []remark {
	list := []remark{}
	for _, p := range problems {
		list = append(list, remark{p.File, p.Line, p.Key, p.Msg})
	}
	return list
}
