package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"

	"github.com/microbima/release/release"
)

// A Repo is a user's worktree. Its methods only read it.
type Repo struct {
	Dir string // its top directory
}

// Open returns the worktree that dir is in. If there is none, the error is
// ErrNotRepository.
func Open(ctx context.Context, dir string) (*Repo, error) {
	top, err := outputLine(ctx, dir, "rev-parse", "--show-toplevel")
	var failed *Error
	switch {
	case err == nil:
		return &Repo{Dir: filepath.FromSlash(top)}, nil
	case errors.As(err, &failed) && isExit(failed) && strings.Contains(failed.Stderr, "dubious ownership"):
		return nil, err // git's message says what to do
	case errors.As(err, &failed) && isExit(failed):
		return nil, fmt.Errorf("%s: %w: go to the clone that holds release.toml, or make one with git clone", dir, ErrNotRepository)
	}
	return nil, err
}

func isExit(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit)
}

// Resolve returns the commit that rev names: a branch, a tag or the start of a
// hash; "" is HEAD. For an unknown name it returns ErrUnknown with the most
// similar names.
func (r *Repo) Resolve(ctx context.Context, rev string) (release.Revision, error) {
	rev = cmp.Or(rev, "HEAD")
	if err := r.checkAmbiguous(ctx, rev); err != nil {
		return release.Revision{}, err
	}
	commit, err := outputLine(ctx, r.Dir, "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if isExit(err) || err == nil && !hashPattern.MatchString(commit) { // ^main means all commits but those of main
		return release.Revision{}, r.unknownRevision(ctx, rev)
	}
	if err != nil {
		return release.Revision{}, err
	}
	revs, err := readHistory(ctx, r.Dir, false, 1, commit)
	if err != nil {
		return release.Revision{}, err
	}
	return revs[0], nil
}

// checkAmbiguous returns ErrAmbiguous if rev names a branch and a tag of different
// commits. git would choose the tag.
func (r *Repo) checkAmbiguous(ctx context.Context, rev string) error {
	if strings.ContainsAny(rev, "*?[\\") || strings.HasPrefix(rev, "-") {
		return nil
	}
	out, err := output(ctx, r.Dir, "for-each-ref", "--format=%(refname) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)", "refs/heads/"+rev, "refs/tags/"+rev)
	if err != nil {
		return err
	}
	commits := map[string]string{}
	for l := range strings.Lines(out) {
		if name, commit, ok := strings.Cut(strings.TrimSpace(l), " "); ok && (name == "refs/heads/"+rev || name == "refs/tags/"+rev) {
			commits[name] = commit
		}
	}
	branch, tag := commits["refs/heads/"+rev], commits["refs/tags/"+rev]
	if branch == "" || tag == "" || branch == tag {
		return nil
	}
	return fmt.Errorf("%w %q: it is the branch refs/heads/%[2]s at %.12[3]s and the tag refs/tags/%[2]s at %.12[4]s: write one of these in full", ErrAmbiguous, rev, branch, tag)
}

// unknownRevision returns ErrUnknown with the three names most similar to rev.
func (r *Repo) unknownRevision(ctx context.Context, rev string) error {
	if rev == "HEAD" {
		return fmt.Errorf("%w HEAD: %s has no commit yet", ErrUnknown, r.Dir)
	}
	out, err := output(ctx, r.Dir, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags", "refs/remotes")
	if err != nil {
		return err
	}
	names := slices.DeleteFunc(strings.Fields(out), func(n string) bool { return strings.HasSuffix(n, "/HEAD") })
	distance := func(name string) int { return levenshtein.Distance(rev, name, nil) }
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(distance(a), distance(b)) })
	if len(names) == 0 {
		return fmt.Errorf("%w %q: there is no such commit, branch or tag here", ErrUnknown, rev)
	}
	return fmt.Errorf("%w %q: there is no such commit, branch or tag here; nearest are: %s (git fetch gets the commits that others pushed)",
		ErrUnknown, rev, strings.Join(names[:min(3, len(names))], ", "))
}

// Dirty reports whether the worktree has uncommitted changes: changed files, or
// new ones that are not ignored.
func (r *Repo) Dirty(ctx context.Context) (bool, error) {
	out, err := output(ctx, r.Dir, "status", "--porcelain", "-z", "--untracked-files=normal")
	return out != "", err
}

// Pushed reports whether a branch of the remote has the commit, by this clone's
// remote-tracking branches. It does not use the network.
func (r *Repo) Pushed(ctx context.Context, commit, remote string) (bool, error) {
	if err := checkCommit(commit); err != nil {
		return false, err
	}
	out, err := output(ctx, r.Dir, "for-each-ref", "--format=%(refname)", "--count=1", "--contains="+commit, "refs/remotes/"+remote+"/")
	return out != "", err
}

// Remote returns the address of the remote called name, or "" if there is none. A
// relative path is made absolute.
func (r *Repo) Remote(ctx context.Context, name string) (string, error) {
	known, err := output(ctx, r.Dir, "remote")
	if err != nil || !slices.Contains(strings.Fields(known), name) {
		return "", err
	}
	url, err := outputLine(ctx, r.Dir, "remote", "get-url", "--", name)
	if err != nil {
		return "", err
	}
	if isPath(url) && !filepath.IsAbs(url) {
		url = filepath.Join(r.Dir, url)
	}
	return url, nil
}

// Files returns the tree of a commit as a read-only file system: release.toml and
// infra in memory, other files read when they are opened. Files of the worktree
// are not read.
func (r *Repo) Files(ctx context.Context, commit string) (fs.FS, error) {
	if err := checkCommit(commit); err != nil {
		return nil, err
	}
	return readTree(ctx, r.Dir, commit)
}

// readHistory returns at most limit commits of the given hashes or ranges of
// hashes, newest first.
func readHistory(ctx context.Context, dir string, isolated bool, limit int, commits ...string) ([]release.Revision, error) {
	args := append([]string{
		"log", "--no-show-signature", fmt.Sprintf("--max-count=%d", limit), "--format=%H%x00%T%x00%an%x00%cI%x00%s", "--end-of-options",
	}, commits...)
	out, err := command{dir: dir, isolated: isolated, args: append(args, "--")}.output(ctx)
	if err != nil {
		return nil, err
	}
	var revs []release.Revision
	for l := range strings.Lines(out) {
		field := strings.SplitN(strings.TrimSuffix(l, "\n"), "\x00", 5)
		if len(field) != 5 {
			return nil, fmt.Errorf("git log: unexpected line %q", l)
		}
		at, err := time.Parse(time.RFC3339, field[3])
		if err != nil {
			return nil, fmt.Errorf("git log: %w", err)
		}
		revs = append(revs, release.Revision{Commit: field[0], Tree: field[1], Author: field[2], Time: at.UTC(), Subject: field[4]})
	}
	return revs, nil
}
