package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/microbima/release/config"
	"github.com/microbima/release/git"
	"github.com/microbima/release/release"
)

// goodWithin is how many commits before HEAD are looked at for files that are right.
const goodWithin = 200

// goodSource returns HEAD, or where its files are wrong the newest commit before it,
// along first parents, whose files are right. A rollback needs no more of them than
// names: a mistake in a newer commit must not be in its way.
func (e *env) goodSource(ctx context.Context) (source, error) {
	repo, err := git.Open(ctx, e.dir)
	if err != nil {
		return source{}, err
	}
	head, err := loadAt(ctx, repo, "HEAD")
	var wrong config.Errors
	if !errors.As(err, &wrong) {
		return head, err
	}
	mistakes := fmt.Errorf("the files at %s are wrong:\n%w", head.revision.Short(), err)
	for n := 1; n <= goodWithin; n++ {
		src, err := loadAt(ctx, repo, fmt.Sprintf("HEAD~%d", n))
		switch {
		case err == nil:
			e.warn("the files at %s are wrong (release check says how); those of %s are used", head.revision.Short(), subject(src.revision))
			return src, nil
		case errors.As(err, &wrong):
			continue
		case errors.Is(err, git.ErrUnknown): // no more commits
			return source{}, mistakes
		}
		return source{}, err
	}
	return source{}, mistakes
}

// loadAt reads the files at a revision. A config.Errors is what is wrong with them.
func loadAt(ctx context.Context, repo *git.Repo, revision string) (source, error) {
	rev, err := repo.Resolve(ctx, revision)
	if err != nil {
		return source{}, err
	}
	src := source{repo: repo, revision: rev}
	if src.files, err = repo.Files(ctx, rev.Commit); err != nil {
		return src, err
	}
	src.project, _, err = config.Load(src.files)
	return src, err
}

// anyProject returns the project of the files in the worktree, or where they are wrong
// that of the newest commit whose files are right.
func (e *env) anyProject(ctx context.Context) (*release.Project, error) {
	project, err := e.mustHere()
	if err == nil {
		return project, nil
	}
	src, other := e.goodSource(ctx)
	if other != nil {
		return nil, err
	}
	return src.project, nil
}
