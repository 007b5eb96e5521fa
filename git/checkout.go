package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// Checkout calls fn with a directory that holds exactly the committed files, and
// removes the directory when fn returns, fails or panics. Submodules are left
// out. A symbolic link that leads out of the directory is ErrUnsafe, and fn is not
// called.
//
// A checkout whose worker died is removed by the next call.
func (m *Mirror) Checkout(ctx context.Context, url, commit string, fn func(dir string) error) error {
	var c *checkout
	r, err := m.repository(url)
	if err == nil {
		err = r.withFetchLock(ctx, func() error { return r.fetch(ctx, commit) })
	}
	if err == nil {
		err = r.withCheckoutsLock(ctx, func() (err error) {
			r.removeAbandoned(ctx)
			c, err = r.addCheckout(ctx, commit)
			return err
		})
	}
	if err != nil {
		return err
	}
	// The directory is removed even when ctx has ended.
	cleanup := context.WithoutCancel(ctx)
	defer func() {
		if r := recover(); r != nil {
			c.remove(cleanup)
			panic(r)
		}
	}()
	err = checkLinks(c.dir)
	if err == nil {
		err = fn(c.dir)
	}
	return errors.Join(err, c.remove(cleanup))
}

// A checkout is one directory in use. Its lock is held until it is removed: a
// checkout without a locked lock file was left behind by a dead worker.
type checkout struct {
	repo *cachedRepo
	dir  string
	lock *flock.Flock
}

// addCheckout writes the files of commit to a new directory and verifies them.
// The caller holds the checkouts lock.
func (r *cachedRepo) addCheckout(ctx context.Context, commit string) (*checkout, error) {
	dir, err := os.MkdirTemp(r.checkouts, commit[:12]+"-")
	if err != nil {
		return nil, err
	}
	c := &checkout{repo: r, dir: dir, lock: flock.New(dir + ".lock")}
	if err := c.lock.Lock(); err != nil {
		return nil, errors.Join(err, removeAll(dir))
	}
	err = r.command("worktree", "add", "--quiet", "--detach", "--force", dir, commit).run(ctx)
	if err == nil {
		err = c.verify(ctx, commit)
	}
	if err != nil {
		return nil, errors.Join(err, c.removeLocked(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// verify returns an error unless git finds the directory equal to the commit.
func (c *checkout) verify(ctx context.Context, commit string) error {
	head, err := command{dir: c.dir, isolated: true, args: []string{"rev-parse", "HEAD"}}.output(ctx)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(head); got != commit {
		return fmt.Errorf("checkout of %s holds %s", commit, got)
	}
	changes, err := command{dir: c.dir, isolated: true, args: []string{"status", "--porcelain", "--ignore-submodules=all"}}.output(ctx)
	if err == nil && changes != "" {
		first, _, _ := strings.Cut(changes, "\n")
		err = fmt.Errorf("checkout of %s differs from the commit: %q (does the file system ignore case, and two names differ in case only?)", commit, first)
	}
	return err
}

// remove removes the checkout under the checkouts lock.
func (c *checkout) remove(ctx context.Context) error {
	return c.repo.withCheckoutsLock(ctx, func() error { return c.removeLocked(ctx) })
}

// removeLocked removes the checkout and the mirror's record of it. The caller
// holds the checkouts lock.
func (c *checkout) removeLocked(ctx context.Context) error {
	return errors.Join(
		removeAll(c.dir),
		c.repo.command("worktree", "prune").run(ctx),
		os.Remove(c.lock.Path()),
		c.lock.Unlock(),
	)
}

// removeAbandoned removes the checkouts whose lock is free. A checkout that can't
// be removed is left for the next call.
func (r *cachedRepo) removeAbandoned(ctx context.Context) {
	entries, err := os.ReadDir(r.checkouts)
	if err != nil {
		return
	}
	for _, e := range entries {
		dir := filepath.Join(r.checkouts, strings.TrimSuffix(e.Name(), ".lock"))
		c := &checkout{repo: r, dir: dir, lock: flock.New(dir + ".lock")}
		if free, err := c.lock.TryLock(); err == nil && free {
			_ = c.removeLocked(ctx)
		}
	}
}

// removeAll removes dir, including read-only directories such as those of Go's
// module cache.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(dir))
}

// checkLinks returns ErrUnsafe for a symbolic link that leads out of dir. Through
// such a link a repository could read files of the worker, or have them copied
// into an image.
func checkLinks(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		if _, err := root.Stat(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			target, _ := os.Readlink(filepath.Join(dir, path))
			return fmt.Errorf("%s is a symbolic link to %s, out of the repository: %w", path, target, ErrUnsafe)
		}
		return nil
	})
}
