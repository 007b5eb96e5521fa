package git

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// Identity returns what tells the repository at url from others: its address and
// the first commit that commit descends from. A clone on this machine has the
// address of its origin, if it has one. The root is "" where the history is cut
// off in a shallow clone.
func (m *Mirror) Identity(ctx context.Context, url, commit string) (id release.Repository, err error) {
	id.Address = release.Address(url)
	if isPath(url) && filepath.IsAbs(url) {
		id.Address = cloneAddress(ctx, url)
	}
	err = m.with(ctx, url, commit, func(r *mirrored) error {
		shallow, err := outputOf(ctx, command{dir: r.git, own: true, args: []string{"rev-parse", "--is-shallow-repository"}})
		if err != nil || shallow == "true" {
			return err
		}
		roots, err := outputOf(ctx, command{dir: r.git, own: true, args: []string{"rev-list", "--max-parents=0", "--end-of-options", commit, "--"}})
		if fields := strings.Fields(roots); len(fields) > 0 {
			id.Root = slices.Min(fields)
		}
		return err
	})
	return id, err
}

// cloneAddress returns the address of a clone's origin, else the folder that all
// worktrees of the clone share.
func cloneAddress(ctx context.Context, dir string) string {
	if repo, err := Open(ctx, dir); err == nil {
		if origin, err := repo.Remote(ctx, "origin"); err == nil && origin != "" {
			return release.Address(plain(origin))
		}
	}
	common, err := line(ctx, dir, "rev-parse", "--path-format=absolute", "--git-common-dir")
	if err != nil {
		return release.Address(dir)
	}
	return strings.TrimSuffix(filepath.Clean(common), "/.git")
}

func outputOf(ctx context.Context, c command) (string, error) {
	var b strings.Builder
	c.stdout = &b
	err := c.run(ctx)
	return strings.TrimSpace(b.String()), err
}
