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

// Checkout calls fn with a directory that holds exactly what was committed, and
// removes it afterwards whatever happens. Submodules are left out. A symbolic
// link that leads out of the directory is ErrUnsafe, and fn is not called.
//
// A checkout whose worker died is removed by the next one.
func (m *Mirror) Checkout(ctx context.Context, url, commit string, fn func(dir string) error) error {
	var c *checkout
	r, err := m.repository(url)
	if err == nil {
		err = r.locked(ctx, func() error { return r.fetch(ctx, commit) })
	}
	if err == nil {
		err = r.checkoutsLocked(ctx, func() (err error) {
			r.prune(ctx)
			c, err = r.add(ctx, commit)
			return err
		})
	}
	if err != nil {
		return err
	}
	// Even when ctx has ended, the directory has to go.
	after := context.WithoutCancel(ctx)
	defer func() {
		if r := recover(); r != nil {
			c.remove(after)
			panic(r)
		}
	}()
	err = confined(c.dir)
	if err == nil {
		err = fn(c.dir)
	}
	return errors.Join(err, c.remove(after))
}

// A checkout is one directory in use. Its lock is held until it is removed, so
// that others can tell it from one that was left behind.
type checkout struct {
	of   *mirrored
	dir  string
	lock *flock.Flock
}

// add makes the checkout. The checkouts are locked.
func (r *mirrored) add(ctx context.Context, commit string) (*checkout, error) {
	dir, err := os.MkdirTemp(r.checkouts, commit[:12]+"-")
	if err != nil {
		return nil, err
	}
	c := &checkout{of: r, dir: dir, lock: flock.New(dir + ".lock")}
	if err := c.lock.Lock(); err != nil {
		return nil, errors.Join(err, removeAll(dir))
	}
	err = command{dir: r.git, own: true, args: []string{"worktree", "add", "--quiet", "--detach", "--force", dir, commit}}.run(ctx)
	if err == nil {
		err = c.check(ctx, commit)
	}
	if err != nil {
		return nil, errors.Join(err, c.drop(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// check asks git whether what lies there is what was committed.
func (c *checkout) check(ctx context.Context, commit string) error {
	var head, changes strings.Builder
	if err := (command{dir: c.dir, own: true, stdout: &head, args: []string{"rev-parse", "HEAD"}}).run(ctx); err != nil {
		return err
	}
	if got := strings.TrimSpace(head.String()); got != commit {
		return fmt.Errorf("checkout of %s holds %s", commit, got)
	}
	err := command{dir: c.dir, own: true, stdout: &changes, args: []string{"status", "--porcelain", "--ignore-submodules=all"}}.run(ctx)
	if err == nil && changes.Len() > 0 {
		first, _, _ := strings.Cut(changes.String(), "\n")
		err = fmt.Errorf("checkout of %s differs from the commit: %q (two names that this disk takes for one?)", commit, first)
	}
	return err
}

// remove locks the checkouts and removes this one.
func (c *checkout) remove(ctx context.Context) error {
	return c.of.checkoutsLocked(ctx, func() error { return c.drop(ctx) })
}

// drop removes the checkout and what the mirror knows of it. The checkouts are
// locked.
func (c *checkout) drop(ctx context.Context) error {
	return errors.Join(
		removeAll(c.dir),
		command{dir: c.of.git, own: true, args: []string{"worktree", "prune"}}.run(ctx),
		os.Remove(c.lock.Path()),
		c.lock.Unlock(),
	)
}

// prune removes checkouts that nobody holds. What can't be removed now is left
// for the next time: it is in nobody's way.
func (r *mirrored) prune(ctx context.Context) {
	entries, err := os.ReadDir(r.checkouts)
	if err != nil {
		return
	}
	for _, e := range entries {
		dir := filepath.Join(r.checkouts, strings.TrimSuffix(e.Name(), ".lock"))
		c := &checkout{of: r, dir: dir, lock: flock.New(dir + ".lock")}
		if free, err := c.lock.TryLock(); err == nil && free {
			_ = c.drop(ctx)
		}
	}
}

// removeAll removes dir, also where a test left directories that may not be
// written to, as Go's module cache does.
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

// confined refuses symbolic links that lead out of dir, which would let a
// repository read, or have copied into an image, what belongs to the worker.
func confined(dir string) error {
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
