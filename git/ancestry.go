package git

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/microbima/release/release"
)

// lineageLimit is how many added and taken away commits a Lineage names. It
// counts all of them.
const lineageLimit = 30

// Lineage returns how commit relates to the running commits, in the repository
// at url. A running commit that the repository does not have, or whose history
// is cut off in a shallow clone, makes the relation unknown. An error means that
// the repository could not be read.
func (m *Mirror) Lineage(ctx context.Context, url, commit string, running []string) (release.Lineage, error) {
	lineage := release.Lineage{}
	err := m.with(ctx, url, commit, func(r *mirrored) (err error) {
		for _, c := range running {
			if err := r.fetch(ctx, c); err != nil && !errors.Is(err, ErrUnknown) {
				return err
			}
		}
		lineage, err = compare(ctx, r.git, true, commit, running)
		return err
	})
	return lineage, err
}

// Lineage returns how commit relates to the running commits, as far as this
// clone has them.
func (r *Repo) Lineage(ctx context.Context, commit string, running []string) (release.Lineage, error) {
	if err := checkCommit(commit); err != nil {
		return release.Lineage{}, err
	}
	return compare(ctx, r.Dir, false, commit, running)
}

// compare returns how commit relates to the running commits in the repository
// at dir.
func compare(ctx context.Context, dir string, own bool, commit string, running []string) (release.Lineage, error) {
	repo := ancestry{dir: dir, own: own}
	lineage := release.Lineage{Running: slices.Compact(slices.Sorted(slices.Values(running)))}
	var relations []release.Relation
	var known []string
	for _, c := range lineage.Running {
		relation, why, err := repo.relate(ctx, commit, c)
		if err != nil {
			return lineage, err
		}
		if relation != release.UnknownRelation {
			known = append(known, c)
		} else if lineage.Why == "" {
			lineage.Why = why
		}
		if relation == release.Backward && lineage.Newer == nil {
			revs, err := history(ctx, dir, own, 1, c)
			if err != nil {
				return lineage, err
			}
			lineage.Newer = &revs[0]
		}
		relations = append(relations, relation)
	}
	lineage.Relation = release.Joined(relations)
	if lineage.Relation != release.UnknownRelation {
		lineage.Why = ""
	}
	if len(known) == 0 {
		return lineage, nil
	}
	var err error
	if lineage.Added, lineage.Adds, err = repo.between(ctx, known, []string{commit}); err != nil {
		return lineage, err
	}
	lineage.Taken, lineage.Takes, err = repo.between(ctx, []string{commit}, known)
	return lineage, err
}

// An ancestry reads the history of one repository.
type ancestry struct {
	dir string
	own bool
}

// relate returns how commit relates to one running commit. For an unknown
// relation it also returns the reason.
func (a ancestry) relate(ctx context.Context, commit, running string) (release.Relation, string, error) {
	if commit == running {
		return release.Same, "", nil
	}
	has := hash.MatchString(running) && command{dir: a.dir, own: a.own, args: []string{"cat-file", "-e", running + "^{commit}"}}.run(ctx) == nil
	if !has {
		if ctx.Err() != nil {
			return "", "", context.Cause(ctx)
		}
		return release.UnknownRelation, fmt.Sprintf("the repository does not have %s", release.Revision{Commit: running}.Short()), nil
	}
	for _, try := range []struct {
		ancestor, of string
		relation     release.Relation
	}{{running, commit, release.Forward}, {commit, running, release.Backward}} {
		is, err := a.isAncestor(ctx, try.ancestor, try.of)
		if err != nil {
			return "", "", err
		}
		if is {
			return try.relation, "", nil
		}
	}
	shallow, err := a.output(ctx, "rev-parse", "--is-shallow-repository")
	if err != nil {
		return "", "", err
	}
	if shallow != "false" {
		return release.UnknownRelation, "the clone is shallow: it does not have the whole history (git fetch --unshallow)", nil
	}
	return release.Diverged, "", nil
}

func (a ancestry) isAncestor(ctx context.Context, ancestor, of string) (bool, error) {
	err := command{dir: a.dir, own: a.own, args: []string{"merge-base", "--is-ancestor", ancestor, of}}.run(ctx)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// between returns the newest commits that the commits to have and the commits
// from have not, and how many there are.
func (a ancestry) between(ctx context.Context, from, to []string) ([]release.Revision, int, error) {
	commits := slices.Clone(to)
	for _, c := range from {
		commits = append(commits, "^"+c)
	}
	n, err := a.output(ctx, append([]string{"rev-list", "--count", "--end-of-options"}, commits...)...)
	if err != nil {
		return nil, 0, err
	}
	total, err := strconv.Atoi(n)
	if err != nil {
		return nil, 0, fmt.Errorf("git rev-list: %w", err)
	}
	if total == 0 {
		return nil, 0, nil
	}
	revs, err := history(ctx, a.dir, a.own, lineageLimit, commits...)
	return revs, total, err
}

func (a ancestry) output(ctx context.Context, args ...string) (string, error) {
	var b strings.Builder
	err := command{dir: a.dir, own: a.own, stdout: &b, args: args}.run(ctx)
	return strings.TrimSpace(b.String()), err
}
