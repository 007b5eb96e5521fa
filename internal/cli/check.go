package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/microbima/release/config"
	"github.com/microbima/release/git"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type checkCommand struct {
	*World
	asJSON, worktree bool
}

func newCheck(w *World) *cobra.Command {
	c := checkCommand{World: w}
	cmd := &cobra.Command{
		Use:   "check [REVISION]",
		Short: "Report every mistake in the configuration files",
		Long: `Check reads release.toml and every fly.toml at a revision (default: HEAD), as start
does, and reports all mistakes at once, with file and line. With --worktree it reads
the files in the worktree, committed or not; it also does so if there is no commit
yet.

It connects to neither Fly nor Temporal. It refuses the same files as start.
Warnings go to standard error; a mistake is exit code 1.`,
		Example: `  release check
  release check --worktree
  release check --json`,
		Args: WantArgs(0, 1, "REVISION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), strings.Join(args, ""))
		},
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write mistakes and warnings as JSON")
	cmd.Flags().BoolVar(&c.worktree, "worktree", false, "read the files in the worktree, not those of a commit")
	return cmd
}

// A problem is a mistake or a warning as JSON.
type problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

func (c checkCommand) run(ctx context.Context, revision string) error {
	if c.worktree && revision != "" {
		return Usage("--worktree reads the files in the worktree: leave out the revision")
	}
	files, where, err := c.openFiles(ctx, revision)
	if err != nil {
		return err
	}
	project, warnings, err := loadFiles(files)
	var mistakes config.Errors
	if err != nil && !errors.As(err, &mistakes) {
		return err
	}
	if project != nil {
		if mistakes, err = config.CheckLeftOut(files, project); err != nil {
			return err
		}
	}
	if c.asJSON {
		if err := c.PrintJSON(map[string]any{"mistakes": listProblems(mistakes), "warnings": listProblems(config.Errors(warnings))}); err != nil {
			return err
		}
		if len(mistakes) > 0 {
			return ExitWith(ExitFailed)
		}
		return nil
	}
	for _, warning := range warnings {
		c.Warn("%v", warning)
	}
	if len(mistakes) > 0 {
		for _, m := range mistakes {
			fmt.Fprintln(c.Stdout, view.Escape(fmt.Sprint(m)))
		}
		return &ExitError{Code: ExitFailed, Err: fmt.Errorf("%d wrong", len(mistakes))}
	}
	c.printValid(project, where)
	return nil
}

// openFiles returns the files to check and a phrase that names the commit or the worktree.
func (c checkCommand) openFiles(ctx context.Context, revision string) (files fs.FS, where string, err error) {
	repo, err := git.Open(ctx, c.Dir)
	if err == nil && !c.worktree {
		rev, err := repo.Resolve(ctx, revision)
		if err == nil {
			if dirty, err := repo.Dirty(ctx); err == nil && dirty && revision == "" {
				c.Warn("the worktree has uncommitted changes; checked is %s, which start would release (--worktree checks the files here)", rev.Short())
			}
			files, err = repo.Files(ctx, rev.Commit)
			return files, " at " + rev.Short(), err
		}
		if revision != "" || !errors.Is(err, git.ErrUnknown) {
			return nil, "", err
		}
	}
	if revision != "" {
		return nil, "", err
	}
	dir := worktreeDir(c.Dir)
	if dir == "" {
		return nil, "", errNoWorktree(c.Dir)
	}
	root, err := os.OpenRoot(dir) // refuses links that lead out, as in a commit
	if err != nil {
		return nil, "", err
	}
	return root.FS(), " in the worktree", nil
}

func (c checkCommand) printValid(p *release.Project, where string) {
	targets := 0
	for _, e := range p.Environments {
		targets += len(e.Targets)
	}
	fmt.Fprintf(c.Stdout, "%s: nothing wrong with %s%s; %s; %d fly.toml files\n",
		p.Name, config.File, where, strings.Join(environmentNames(p.Environments), ", then "), targets)
}

func listProblems(errs config.Errors) []problem {
	list := []problem{}
	for _, e := range errs {
		list = append(list, problem{e.File, e.Line, e.Key, e.Msg})
	}
	return list
}
