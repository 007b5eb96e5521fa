package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/version"
)

func newVersion(w *World) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: `Version prints the version of this program, the commit that it was built from,
whether the worktree differed from that, and the Go version and platform.`,
		Example: `  release version
  release version --json`,
		Args: WantArgs(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return w.PrintJSON(version.Read())
			}
			fmt.Fprintln(w.Stdout, "release version "+version.Read().String())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write it as JSON")
	return cmd
}
