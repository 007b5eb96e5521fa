package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/microbima/release/client"
	"github.com/microbima/release/git"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// connectTo connects to Temporal and returns the ID of the workflow that ref matches.
func connectTo(ctx context.Context, w *World, ref string) (*client.Client, string, error) {
	c, err := dialTemporal(ctx, w)
	if err != nil {
		return nil, "", err
	}
	id, err := findID(ctx, w, c, ref)
	return c, id, err
}

// getRelease connects to Temporal and returns a snapshot of the release that ref matches.
func getRelease(ctx context.Context, w *World, ref string) (*client.Client, client.Snapshot, error) {
	c, id, err := connectTo(ctx, w, ref)
	if err != nil {
		return nil, client.Snapshot{}, err
	}
	s, err := c.Get(ctx, id, "")
	return c, s, err
}

// findID returns the ID of the workflow that ref matches in the current directory.
func findID(ctx context.Context, w *World, c *client.Client, ref string) (string, error) {
	o := client.FindOptions{Resolve: func(ctx context.Context, ref string) (release.Revision, error) {
		repo, err := git.Open(ctx, w.Dir)
		if err != nil {
			return release.Revision{}, err
		}
		return repo.Resolve(ctx, ref)
	}}
	if p := FindProject(w.Dir); p != nil {
		o.Project = p.Name
	}
	return c.Find(ctx, ref, o)
}

// completions returns the completions of a word for the shell.
type completions = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeEnvironments completes the environments of the project in the worktree.
func completeEnvironments(w *World) completions {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		if p := FindProject(w.Dir); p != nil {
			return environmentNames(p.Environments), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeApps completes the apps of the project in the worktree.
func completeApps(w *World) completions {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		if p := FindProject(w.Dir); p != nil {
			return appNames(p), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeReleases completes the newest releases, and next for the next argument.
func completeReleases(w *World, next ...string) completions {
	return func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(given) == 1 {
			return next, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), client.DialTimeout)
		defer cancel()
		c, err := dialTemporal(ctx, w)
		if err != nil || len(given) > 1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		entries, err := c.List(ctx, "", 20)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var words []string
		for _, entry := range entries {
			words = append(words, view.Ref(entry.ID)+"\t"+entry.Subject)
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag sets the completions of a flag's value.
func completeFlag(cmd *cobra.Command, flag string, words completions) {
	if err := cmd.RegisterFlagCompletionFunc(flag, words); err != nil {
		panic(err) // unknown flag
	}
}
