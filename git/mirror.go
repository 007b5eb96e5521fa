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

// A Mirror is a worker's cache of repositories: a bare one for each address,
// and exact checkouts of single commits made from it. Several workers may share
// one directory.
type Mirror struct {
	Dir string // made when it is missing

	pruned atomic.Int64 // when unused ones were removed last, in Unix seconds
}

// Revision is what is known of a commit of the repository at url, fetched if it
// is not here yet. A commit that url does not have is ErrUnknown.
func (m *Mirror) Revision(ctx context.Context, url, commit string) (release.Revision, error) {
	var rev release.Revision
	err := m.with(ctx, url, commit, func(r *mirrored) error {
		revs, err := history(ctx, r.git, true, 1, commit)
		if err == nil {
			rev = revs[0]
		}
		return err
	})
	return rev, err
}

// Files is the tree of a commit, as Repo.Files gives it. It waits for nobody
// where the commit is kept already: a rollback reads its project while builds
// make their checkouts.
func (m *Mirror) Files(ctx context.Context, url, commit string) (fs.FS, error) {
	r, err := m.repository(url)
	if err != nil {
		return nil, err
	}
	if err := checkCommit(commit); err != nil {
		return nil, err
	}
	if !r.isKept(ctx, commit) {
		if err := r.locked(ctx, func() error { return r.fetch(ctx, commit) }); err != nil {
			return nil, err
		}
	}
	return files(ctx, r.git, commit)
}

// with fetches the commit and calls fn while nobody else changes the mirror.
func (m *Mirror) with(ctx context.Context, url, commit string, fn func(*mirrored) error) error {
	r, err := m.repository(url)
	if err != nil {
		return err
	}
	m.prune(ctx, time.Now())
	return r.locked(ctx, func() error {
		if err := r.fetch(ctx, commit); err != nil {
			return err
		}
		return fn(r)
	})
}

// A mirrored is the place of one repository in the cache.
type mirrored struct {
	url       string
	dir       string // everything below
	git       string // the bare repository
	checkouts string // one directory and one lock file for each checkout in use
}

// repository is where url's mirror is, or will be. The address is checked here,
// before anything is run with it.
func (m *Mirror) repository(url string) (*mirrored, error) {
	if err := checkURL(url); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(m.Dir)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(url))
	dir = filepath.Join(dir, hex.EncodeToString(sum[:8]))
	return &mirrored{url: url, dir: dir, git: filepath.Join(dir, "mirror.git"), checkouts: filepath.Join(dir, "checkouts")}, nil
}

// isKept reports whether a fetch of the commit alone has ended here. Its ref is
// written last, when the whole commit is there.
func (r *mirrored) isKept(ctx context.Context, commit string) bool {
	return command{dir: r.git, own: true, args: []string{"show-ref", "--verify", "--quiet", "refs/release/" + commit}}.run(ctx) == nil
}

// locked calls fn while no other process or goroutine fetches into this mirror.
func (r *mirrored) locked(ctx context.Context, fn func() error) error {
	return r.lockedBy(ctx, "lock", fn)
}

// checkoutsLocked calls fn while nobody else adds or removes checkouts. It is
// another lock than that of fetches, because writing a large checkout takes long.
func (r *mirrored) checkoutsLocked(ctx context.Context, fn func() error) error {
	return r.lockedBy(ctx, "checkouts.lock", fn)
}

func (r *mirrored) lockedBy(ctx context.Context, name string, fn func() error) error {
	if err := os.MkdirAll(r.checkouts, 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(r.dir, name))
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return fmt.Errorf("wait for the mirror of %s: %w", plain(r.url), err)
	}
	now := time.Now()
	_ = os.Chtimes(lock.Path(), now, now) // it is in use; prune reads that
	return errors.Join(fn(), lock.Unlock())
}

// fetch brings the commit here unless it is. It asks for the commit alone
// first, which also works for one that no branch holds; servers that hand out
// branches only are asked for those.
func (r *mirrored) fetch(ctx context.Context, commit string) error {
	if err := checkCommit(commit); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(r.git, "HEAD")); errors.Is(err, fs.ErrNotExist) {
		if err := (command{dir: r.dir, own: true, args: []string{"init", "--quiet", "--bare", r.git}}).run(ctx); err != nil {
			return err
		}
	}
	if r.has(ctx, commit) {
		return nil
	}
	if err := checkFolder(r.url); err != nil {
		return err
	}
	// The ref keeps the commit from being collected as garbage.
	alone := r.ask(ctx, "+"+commit+":refs/release/"+commit)
	if r.has(ctx, commit) {
		return nil
	}
	if ctx.Err() != nil {
		return alone
	}
	if err := r.ask(ctx, "+refs/heads/*:refs/origin/heads/*", "+refs/tags/*:refs/origin/tags/*"); err != nil {
		return fmt.Errorf("fetch %s: %w", plain(r.url), err)
	}
	if r.has(ctx, commit) {
		return nil
	}
	return fmt.Errorf("%w %s: %s does not have it: push it there first", ErrUnknown, commit, plain(r.url))
}

func (r *mirrored) ask(ctx context.Context, refs ...string) error {
	args := append([]string{"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--prune", "--update-shallow", "--end-of-options", r.url}, refs...)
	return command{dir: r.git, args: args}.run(ctx)
}

func (r *mirrored) has(ctx context.Context, commit string) bool {
	return command{dir: r.git, own: true, args: []string{"cat-file", "-e", commit + "^{commit}"}}.run(ctx) == nil
}

var (
	hash = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	scp  = regexp.MustCompile(`^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^:]`)
)

// checkCommit lets full hashes pass: a branch would be something else tomorrow.
func checkCommit(commit string) error {
	if !hash.MatchString(commit) {
		return fmt.Errorf("%w %q: a commit is 40 hex digits here", ErrUnknown, commit)
	}
	return nil
}

// checkURL lets pass what git may be told to fetch from.
func checkURL(address string) error {
	if filepath.IsAbs(address) || scp.MatchString(address) {
		return nil
	}
	u, err := url.Parse(address)
	if err == nil && (u.Scheme == "https" || u.Scheme == "ssh") && u.Host != "" && !strings.HasPrefix(u.Host, "-") {
		return nil
	}
	if err == nil && u.Scheme == "file" && filepath.IsAbs(u.Path) {
		return nil
	}
	return fmt.Errorf("repository %q: %w: it should be https://…, ssh://…, user@host:path or an absolute path", plain(cmp.Or(address, "(none)")), ErrUnsafe)
}

// checkFolder returns ErrNotRepository when the address is a folder that is not
// here, or that no repository is in. Trying again would not help: such an
// address is of another machine.
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
	for _, sign := range []string{".git", "HEAD"} { // of a worktree, of a bare repository
		if _, err := os.Stat(filepath.Join(folder, sign)); !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return fmt.Errorf("fetch %s: %w: %s", folder, ErrNotRepository, advice)
}

// isPath says whether git would take the address for a path.
func isPath(address string) bool {
	return !strings.Contains(address, "://") && !scp.MatchString(address)
}
