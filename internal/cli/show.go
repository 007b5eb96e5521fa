package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/view"
)

type showCommand struct {
	*World
	asJSON bool
}

func newShow(w *World) *cobra.Command {
	c := showCommand{World: w}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show the commit, tests and images of a release",
		Long: `Show prints the commit of a release, the results of its tests, and for each image the
digest, the sources and the builder (its provenance, as attested in the registry), the
result of the scan, and where it runs.`,
		Example: `  release show 4f2d1c0b9a8e
  release show 4f2d1c0b9a8e --json | jq -r '.builds[].provenance.materials[].uri'`,
		Args: WantArgs(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write the whole status as JSON")
	cmd.ValidArgsFunction = completeReleases(w)
	return cmd
}

func (c showCommand) run(ctx context.Context, ref string) error {
	_, s, err := getRelease(ctx, c.World, ref)
	if err != nil {
		return err
	}
	if c.asJSON {
		return c.PrintJSON(s)
	}
	sayIfPartial(c.World, s)
	_, err = fmt.Fprint(c.Stdout, view.BuildReport(s.Displayed(), c.Now(), c.Style(c.Stdout)))
	return err
}
