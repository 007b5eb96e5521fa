package git

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/microbima/release/release"
)

// A Mirror is a worker's cache of repositories: a bare repository for each
// address, and exact checkouts of single commits. Several workers may share one
// directory.
type Mirror struct {
	Dir string // created if it is missing

	pruned atomic.Int64 // Unix seconds of the last call of removeUnused that ran
}

// Revision returns a commit of the repository at url. It fetches the commit if the
// cache does not have it. A commit that url does not have is ErrUnknown.
func (m *Mirror) Revision(ctx context.Context, url, commit string) (release.Revision, error) {
	var rev release.Revision
	err := m.withCommit(ctx, url, commit, func(r *cachedRepo) error {
		revs, err := readHistory(ctx, r.git, true, 1, commit)
		if err == nil {
			rev = revs[0]
		}
		return err
	})
	return rev, err
}

// Files returns the tree of a commit, as Repo.Files does. It takes no lock if the
// cache has the commit: a rollback reads its project while builds write their
// checkouts.
func (m *Mirror) Files(ctx context.Context, url, commit string) (fs.FS, error) {
	r, err := m.repository(url)
	if err != nil {
		return nil, err
	}
	if err := checkCommit(commit); err != nil {
		return nil, err
	}
	if !r.hasReleaseRef(ctx, commit) {
		if err := r.withFetchLock(ctx, func() error { return r.fetch(ctx, commit) }); err != nil {
			return nil, err
		}
	}
	return readTree(ctx, r.git, commit)
}

// withCommit fetches the commit and calls fn under the fetch lock.
func (m *Mirror) withCommit(ctx context.Context, url, commit string, fn func(*cachedRepo) error) error {
	r, err := m.repository(url)
	if err != nil {
		return err
	}
	m.removeUnused(ctx, time.Now())
	return r.withFetchLock(ctx, func() error {
		if err := r.fetch(ctx, commit); err != nil {
			return err
		}
		return fn(r)
	})
}

// A cachedRepo has the paths of one repository in the cache.
type cachedRepo struct {
	url       string
	dir       string // has the other two
	git       string // the bare repository
	checkouts string // one directory and one lock file for each checkout in use
}

// command returns a git command in the bare repository that ignores the machine's
// git settings.
func (r *cachedRepo) command(args ...string) command {
	return command{dir: r.git, isolated: true, args: args}
}

// repository returns the cached repository for url, which need not exist yet. It
// checks the address before any command is run with it.
func (m *Mirror) repository(url string) (*cachedRepo, error) {
	if err := checkURL(url); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(m.Dir)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(url))
	dir = filepath.Join(dir, hex.EncodeToString(sum[:8]))
	return &cachedRepo{url: url, dir: dir, git: filepath.Join(dir, "mirror.git"), checkouts: filepath.Join(dir, "checkouts")}, nil
}

// hasReleaseRef reports whether a fetch of the commit alone has completed. git
// writes the ref last, when it has the whole commit.
func (r *cachedRepo) hasReleaseRef(ctx context.Context, commit string) bool {
	return r.command("show-ref", "--verify", "--quiet", "refs/release/"+commit).run(ctx) == nil
}

// withFetchLock calls fn while no other process or goroutine fetches into this
// repository.
func (r *cachedRepo) withFetchLock(ctx context.Context, fn func() error) error {
	return r.withLock(ctx, "lock", fn)
}

// withCheckoutsLock calls fn while no other process or goroutine adds or removes
// checkouts. It is not the fetch lock, because writing a large checkout takes long.
func (r *cachedRepo) withCheckoutsLock(ctx context.Context, fn func() error) error {
	return r.withLock(ctx, "checkouts.lock", fn)
}

func (r *cachedRepo) withLock(ctx context.Context, name string, fn func() error) error {
	if err := os.MkdirAll(r.checkouts, 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(r.dir, name))
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return fmt.Errorf("wait for the mirror of %s: %w", cleanText(r.url), err)
	}
	now := time.Now()
	_ = os.Chtimes(lock.Path(), now, now) // removeUnused reads when it was used last
	return errors.Join(fn(), lock.Unlock())
}

// fetch fetches the commit if the cache does not have it. It fetches the commit
// alone first, which also works for a commit on no branch, and then all branches
// and tags, for servers that refuse to send a single commit.
func (r *cachedRepo) fetch(ctx context.Context, commit string) error {
	if err := checkCommit(commit); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(r.git, "HEAD")); errors.Is(err, fs.ErrNotExist) {
		if err := (command{dir: r.dir, isolated: true, args: []string{"init", "--quiet", "--bare", r.git}}).run(ctx); err != nil {
			return err
		}
	}
	if r.hasCommit(ctx, commit) {
		return nil
	}
	if err := checkFolder(r.url); err != nil {
		return err
	}
	// The ref keeps git's garbage collection from removing the commit.
	err := r.fetchRefs(ctx, "+"+commit+":refs/release/"+commit)
	if r.hasCommit(ctx, commit) {
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	if err := r.fetchRefs(ctx, "+refs/heads/*:refs/origin/heads/*", "+refs/tags/*:refs/origin/tags/*"); err != nil {
		return fmt.Errorf("fetch %s: %w", cleanText(r.url), err)
	}
	if r.hasCommit(ctx, commit) {
		return nil
	}
	return fmt.Errorf("%w %s: %s does not have it: push it there first", ErrUnknown, commit, cleanText(r.url))
}

func (r *cachedRepo) fetchRefs(ctx context.Context, refs ...string) error {
	args := append([]string{"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--prune", "--update-shallow", "--end-of-options", r.url}, refs...)
	return command{dir: r.git, args: args}.run(ctx)
}

func (r *cachedRepo) hasCommit(ctx context.Context, commit string) bool {
	return r.command("cat-file", "-e", commit+"^{commit}").run(ctx) == nil
}

var (
	hashPattern = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	scpPattern  = regexp.MustCompile(`^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^:]`)
)

// checkCommit returns ErrUnknown unless commit is a full hash. A branch may name
// another commit tomorrow.
func checkCommit(commit string) error {
	if !hashPattern.MatchString(commit) {
		return fmt.Errorf("%w %q: a commit must be 40 hex digits", ErrUnknown, commit)
	}
	return nil
}

// checkURL returns ErrUnsafe for an address that git must not fetch from.
func checkURL(address string) error {
	if filepath.IsAbs(address) || scpPattern.MatchString(address) {
		return nil
	}
	u, err := url.Parse(address)
	if err == nil && (u.Scheme == "https" || u.Scheme == "ssh") && u.Host != "" && !strings.HasPrefix(u.Host, "-") {
		return nil
	}
	if err == nil && u.Scheme == "file" && filepath.IsAbs(u.Path) {
		return nil
	}
	return fmt.Errorf("repository %q: %w: must be https://…, ssh://…, user@host:path or an absolute path", cleanText(cmp.Or(address, "(none)")), ErrUnsafe)
}

// checkFolder returns ErrNotRepository if the address is a folder that this
// machine does not have, or that has no repository in it. The error is permanent:
// such an address is of another machine.
func checkFolder(address string) error {
	folder := address
	if u, err := url.Parse(address); err == nil && u.Scheme == "file" {
		folder = u.Path
	}
	if !filepath.IsAbs(folder) {
		return nil
	}
	advice := "a folder can be released only by workers that have it; write repository = \"https://…\" in release.toml, or use --repo URL, and start the release again"
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("fetch %s: this worker has no such folder: %w: %s", folder, ErrNotRepository, advice)
	}
	for _, entry := range []string{".git", "HEAD"} { // in a worktree, in a bare repository
		if _, err := os.Stat(filepath.Join(folder, entry)); !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return fmt.Errorf("fetch %s: %w: %s", folder, ErrNotRepository, advice)
}

// isPath reports whether git reads the address as a path.
func isPath(address string) bool {
	return !strings.Contains(address, "://") && !scpPattern.MatchString(address)
}
