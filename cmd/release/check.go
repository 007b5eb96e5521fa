package main

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

type check struct {
	*env
	asJSON, worktree bool
}

func newCheck(e *env) *cobra.Command {
	c := check{env: e}
	cmd := &cobra.Command{
		Use:   "check [REVISION]",
		Short: "Say everything that is wrong with the files",
		Long: `Check reads release.toml and every fly.toml as they are at a revision (HEAD,
unless another is named), as start does, and says everything that is wrong with
them at once, with file and line. With --worktree it reads the files as they lie
in the worktree, committed or not; so it does where there is no commit yet.

It asks neither Fly nor Temporal. What start refuses of the files, check refuses.
What is doubtful is a warning, on standard error; the exit code is 1 where there
is a mistake.`,
		Example: `  release check
  release check --worktree
  release check --json`,
		Args: args(0, 1, "REVISION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), strings.Join(args, ""))
		},
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write mistakes and warnings as JSON")
	cmd.Flags().BoolVar(&c.worktree, "worktree", false, "read the files in the worktree, not those of a commit")
	return cmd
}

// A remark is a mistake or a warning, as --json tells it.
type remark struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

func (c check) run(ctx context.Context, revision string) error {
	if c.worktree && revision != "" {
		return usage("--worktree reads the files as they lie here: leave out the revision")
	}
	files, where, err := c.files(ctx, revision)
	if err != nil {
		return err
	}
	project, warnings, err := load(files)
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
	c.good(project, where)
	return nil
}

// files returns what is checked, and where it is: a commit, or the worktree.
func (c check) files(ctx context.Context, revision string) (files fs.FS, where string, err error) {
	repo, err := git.Open(ctx, c.dir)
	if err == nil && !c.worktree {
		rev, err := repo.Resolve(ctx, revision)
		if err == nil {
			if dirty, err := repo.Dirty(ctx); err == nil && dirty && revision == "" {
				c.warn("the worktree has changes that are in no commit; what is checked is %s, as start would release it (--worktree checks the files here)", rev.Short())
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
	dir := c.env.worktree()
	if dir == "" {
		return nil, "", fmt.Errorf("no %s in %s or above; go to the clone of a repository that has one", config.File, c.dir)
	}
	root, err := os.OpenRoot(dir) // a link that leads out is refused, as in a commit
	if err != nil {
		return nil, "", err
	}
	return root.FS(), " in the worktree", nil
}

func (c check) good(p *release.Project, where string) {
	targets := 0
	for _, e := range p.Environments {
		targets += len(e.Targets)
	}
	fmt.Fprintf(c.stdout, "%s: nothing wrong with %s%s; %s; %d fly.toml files\n",
		p.Name, config.File, where, strings.Join(names(p.Environments), ", then "), targets)
}

func remarks(problems config.Errors) []remark {
	list := []remark{}
	for _, p := range problems {
		list = append(list, remark{p.File, p.Line, p.Key, p.Msg})
	}
	return list
}
