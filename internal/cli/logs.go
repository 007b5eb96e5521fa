package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/view"
)

type logsCommand struct {
	*World
	asJSON, now, raw bool
}

func newLogs(w *World) *cobra.Command {
	c := logsCommand{World: w}
	cmd := &cobra.Command{
		Use:   "logs ID [test|build|scan] [NAME]",
		Short: "Print the output of tests, builds and scans",
		Long: `Logs prints the output of the tests, builds and scans of a release: of all of them,
of one kind, or of the one with that name. Output that grows is followed until it
ends.

Control characters are escaped, so that none acts on the terminal; --raw prints the
output byte for byte.

If the worker ran on this machine, the whole output is there; else its end, as the
release recorded it. Output of a worker elsewhere is updated every few seconds.`,
		Example: `  release logs 4f2d1c0b9a8e test
  release logs 4f2d1c0b9a8e build web-admin --now`,
		Args: WantArgs(1, 3, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args) },
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write the output so far as JSON")
	cmd.Flags().BoolVar(&c.now, "now", false, "print the output so far, and follow nothing")
	cmd.Flags().BoolVar(&c.raw, "raw", false, "print the output byte for byte, control characters too")
	cmd.ValidArgsFunction = completeReleases(w, outputKinds...)
	return cmd
}

func (c logsCommand) run(ctx context.Context, args []string) error {
	args = append(args, "", "")
	ref, kind, name := args[0], args[1], args[2]
	if kind != "" && !slices.Contains(outputKinds, kind) {
		return Usage("%q must be one of %s", kind, strings.Join(outputKinds, ", "))
	}
	temporal, s, err := getRelease(ctx, c.World, ref)
	if err != nil {
		return err
	}
	sayIfPartial(c.World, s)
	r := outputReader{client: temporal, dir: StateDir(c.Env), kind: kind, name: name}
	p := outputPrinter{World: c.World, raw: c.raw}
	if !c.now && !c.asJSON && r.hasMore(s) {
		return newTail(p, r).followOutputs(ctx, s)
	}
	outputs := append(r.endedOutputs(s), r.runningOutputs(ctx, s)...)
	if len(outputs) == 0 {
		return fmt.Errorf("no output of %s %s in %s yet", strings.TrimSpace("tests or builds "+kind), name, view.Ref(s.ID))
	}
	if c.asJSON {
		return c.PrintJSON(outputs)
	}
	for _, o := range outputs {
		p.sayState(o)
		p.printText(o.Text)
	}
	return nil
}
