package cli

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"
)

type openCommand struct {
	*World
	print bool
}

func newOpen(w *World) *cobra.Command {
	c := openCommand{World: w}
	cmd := &cobra.Command{
		Use:   "open ID",
		Short: "Open a release in the Temporal UI",
		Long: `Open prints where the Temporal UI shows a release, and opens it in a browser.
TEMPORAL_UI_ADDRESS says where the UI is. Without it, it is that of release dev or
of Temporal Cloud; beside a Temporal at port 7233 of this machine, as that of
docker-compose.yml is, port 8233.`,
		Example: `  release open 4f2d1c0b9a8e
  release open 4f2d1c0b9a8e --print`,
		Args: WantArgs(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().BoolVar(&c.print, "print", false, "print it only")
	cmd.ValidArgsFunction = completeReleases(w)
	return cmd
}

func (c openCommand) run(ctx context.Context, ref string) error {
	temporal, id, err := connectTo(ctx, c.World, ref)
	if err != nil {
		return err
	}
	x, err := temporal.Describe(ctx, id)
	if err != nil {
		return err
	}
	page := temporal.PageURL(id, x.Run)
	if page == "" {
		return fmt.Errorf("the address of the Web UI of the Temporal at %s is not known: set TEMPORAL_UI_ADDRESS", temporal.Address())
	}
	fmt.Fprintln(c.Stdout, page)
	if c.print || !c.Terminal.Stderr {
		return nil
	}
	if err := c.openBrowser(ctx, page); err != nil {
		c.Say("no browser could be opened (%v): open the address yourself", err)
	}
	return nil
}

// openBrowser opens a page with the system's program for that.
func (c openCommand) openBrowser(ctx context.Context, page string) error {
	var cmd *exec.Cmd
	switch runtime.GOOS {
	case "darwin":
		cmd = exec.CommandContext(ctx, "open", page)
	case "windows":
		cmd = exec.CommandContext(ctx, "rundll32", "url.dll,FileProtocolHandler", page)
	default:
		cmd = exec.CommandContext(ctx, "xdg-open", page)
	}
	cmd.Env = c.Env
	return cmd.Run()
}
