package git

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// Identity returns the identity of the repository at url: its address and the
// first commit that commit descends from. A clone on this machine has the address
// of its origin, if it has one. The root is "" if the history is cut off in a
// shallow clone.
func (m *Mirror) Identity(ctx context.Context, url, commit string) (id release.Repository, err error) {
	id.Address = release.NormalizeAddress(url)
	if isPath(url) && filepath.IsAbs(url) {
		id.Address = cloneAddress(ctx, url)
	}
	err = m.withCommit(ctx, url, commit, func(r *cachedRepo) error {
		shallow, err := r.command("rev-parse", "--is-shallow-repository").output(ctx)
		if err != nil || strings.TrimSpace(shallow) == "true" {
			return err
		}
		roots, err := r.command("rev-list", "--max-parents=0", "--end-of-options", commit, "--").output(ctx)
		if fields := strings.Fields(roots); len(fields) > 0 {
			id.Root = slices.Min(fields)
		}
		return err
	})
	return id, err
}

// cloneAddress returns the address of a clone's origin. For a clone without one it
// returns the folder that all its worktrees share.
func cloneAddress(ctx context.Context, dir string) string {
	if repo, err := Open(ctx, dir); err == nil {
		if origin, err := repo.Remote(ctx, "origin"); err == nil && origin != "" {
			return release.NormalizeAddress(cleanText(origin))
		}
	}
	common, err := outputLine(ctx, dir, "rev-parse", "--path-format=absolute", "--git-common-dir")
	if err != nil {
		return release.NormalizeAddress(dir)
	}
	return strings.TrimSuffix(filepath.ToSlash(filepath.Clean(common)), "/.git")
}
