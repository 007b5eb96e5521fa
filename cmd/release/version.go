package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/version"
)

func newVersion(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: `Version prints the version of this program, the commit that it was built from,
whether the worktree differed from that, and the Go version and platform.`,
		Example: `  release version
  release version --json`,
		Args: args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return e.json(version.Read())
			}
			fmt.Fprintln(e.stdout, "release version "+version.Read().String())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write it as JSON")
	return cmd
}
