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

// lineageLimit is how many added and removed commits a Lineage lists. It counts
// all of them.
const lineageLimit = 30

// Lineage returns how commit relates to the running commits, in the repository
// at url. A running commit that the repository does not have, or whose history
// is cut off in a shallow clone, makes the relation unknown. An error means that
// the repository could not be read.
func (m *Mirror) Lineage(ctx context.Context, url, commit string, running []string) (release.Lineage, error) {
	lineage := release.Lineage{}
	err := m.withCommit(ctx, url, commit, func(r *cachedRepo) (err error) {
		for _, c := range running {
			if err := r.fetch(ctx, c); err != nil && !errors.Is(err, ErrUnknown) {
				return err
			}
		}
		lineage, err = commitGraph{dir: r.git, isolated: true}.lineage(ctx, commit, running)
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
	return commitGraph{dir: r.Dir}.lineage(ctx, commit, running)
}

// A commitGraph reads the history of the repository at dir.
type commitGraph struct {
	dir      string
	isolated bool
}

// lineage returns how commit relates to the running commits.
func (g commitGraph) lineage(ctx context.Context, commit string, running []string) (release.Lineage, error) {
	lineage := release.Lineage{Running: slices.Compact(slices.Sorted(slices.Values(running)))}
	var relations []release.Relation
	var known []string
	for _, c := range lineage.Running {
		relation, why, err := g.relate(ctx, commit, c)
		if err != nil {
			return lineage, err
		}
		if relation != release.UnknownRelation {
			known = append(known, c)
		} else if lineage.Why == "" {
			lineage.Why = why
		}
		if relation == release.Backward && lineage.Newer == nil {
			revs, err := readHistory(ctx, g.dir, g.isolated, 1, c)
			if err != nil {
				return lineage, err
			}
			lineage.Newer = &revs[0]
		}
		relations = append(relations, relation)
	}
	lineage.Relation = release.JoinRelations(relations)
	if lineage.Relation != release.UnknownRelation {
		lineage.Why = ""
	}
	if len(known) == 0 {
		return lineage, nil
	}
	var err error
	if lineage.Added, lineage.AddedCount, err = g.listMissing(ctx, known, []string{commit}); err != nil {
		return lineage, err
	}
	lineage.Removed, lineage.RemovedCount, err = g.listMissing(ctx, []string{commit}, known)
	return lineage, err
}

// relate returns how commit relates to one running commit. For an unknown
// relation it also returns the reason.
func (g commitGraph) relate(ctx context.Context, commit, running string) (release.Relation, string, error) {
	if commit == running {
		return release.Same, "", nil
	}
	if !g.hasCommit(ctx, running) {
		if ctx.Err() != nil {
			return "", "", context.Cause(ctx)
		}
		return release.UnknownRelation, fmt.Sprintf("the repository does not have %s", release.Revision{Commit: running}.Short()), nil
	}
	for _, candidate := range []struct {
		ancestor, descendant string
		relation             release.Relation
	}{{running, commit, release.Forward}, {commit, running, release.Backward}} {
		is, err := g.isAncestor(ctx, candidate.ancestor, candidate.descendant)
		if err != nil {
			return "", "", err
		}
		if is {
			return candidate.relation, "", nil
		}
	}
	shallow, err := g.outputLine(ctx, "rev-parse", "--is-shallow-repository")
	if err != nil {
		return "", "", err
	}
	if shallow != "false" {
		return release.UnknownRelation, "the clone is shallow: it does not have the whole history (git fetch --unshallow)", nil
	}
	return release.Diverged, "", nil
}

// hasCommit reports whether the repository has the commit. A machine may report
// anything as its commit, so only hashes reach git.
func (g commitGraph) hasCommit(ctx context.Context, commit string) bool {
	return hashPattern.MatchString(commit) && g.command("cat-file", "-e", commit+"^{commit}").run(ctx) == nil
}

func (g commitGraph) isAncestor(ctx context.Context, ancestor, descendant string) (bool, error) {
	err := g.command("merge-base", "--is-ancestor", ancestor, descendant).run(ctx)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// listMissing returns the newest commits that are reachable from the commits to
// and not from the commits from, at most lineageLimit, and how many there are.
func (g commitGraph) listMissing(ctx context.Context, from, to []string) ([]release.Revision, int, error) {
	commits := slices.Clone(to)
	for _, c := range from {
		commits = append(commits, "^"+c)
	}
	count, err := g.outputLine(ctx, append([]string{"rev-list", "--count", "--end-of-options"}, commits...)...)
	if err != nil {
		return nil, 0, err
	}
	total, err := strconv.Atoi(count)
	if err != nil {
		return nil, 0, fmt.Errorf("git rev-list: %w", err)
	}
	if total == 0 {
		return nil, 0, nil
	}
	revs, err := readHistory(ctx, g.dir, g.isolated, lineageLimit, commits...)
	return revs, total, err
}

func (g commitGraph) command(args ...string) command {
	return command{dir: g.dir, isolated: g.isolated, args: args}
}

func (g commitGraph) outputLine(ctx context.Context, args ...string) (string, error) {
	out, err := g.command(args...).output(ctx)
	return strings.TrimSpace(out), err
}
