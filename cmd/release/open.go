package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"
)

type open struct {
	*env
	print bool
}

func newOpen(e *env) *cobra.Command {
	c := open{env: e}
	cmd := &cobra.Command{
		Use:   "open ID",
		Short: "Open a release in the Temporal UI",
		Long: `Open prints where the Temporal UI shows a release, and opens it in a browser.
TEMPORAL_UI_ADDRESS says where the UI is. Without it, it is that of release dev or
of Temporal Cloud; beside a Temporal at port 7233 of this machine, as that of
docker-compose.yml is, port 8233.`,
		Example: `  release open 4f2d1c0b9a8e
  release open 4f2d1c0b9a8e --print`,
		Args: args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().BoolVar(&c.print, "print", false, "print it only")
	cmd.ValidArgsFunction = c.releases()
	return cmd
}

func (c open) run(ctx context.Context, ref string) error {
	s, id, err := c.found(ctx, ref)
	if err != nil {
		return err
	}
	described, err := s.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return s.said(ctx, "look at "+id, err)
	}
	page := s.page(id, described.WorkflowExecutionInfo.Execution.RunId)
	if page == "" {
		return fmt.Errorf("where the Web UI of the Temporal at %s is, nothing says: set TEMPORAL_UI_ADDRESS", s.address)
	}
	fmt.Fprintln(c.stdout, page)
	if c.print || !c.errTerminal {
		return nil
	}
	browser := exec.CommandContext(ctx, opener(), page)
	browser.Env = c.environ
	if err := browser.Run(); err != nil {
		c.say("no browser could be opened (%v): go there yourself", err)
	}
	return nil
}

// opener is the system's program that opens a URL.
func opener() string {
	if runtime.GOOS == "darwin" {
		return "open"
	}
	return "xdg-open"
}
