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
		Long: `Open prints the address of a release in the Temporal UI, and opens it in a browser.
TEMPORAL_UI_ADDRESS is the address of the UI. Without it, release uses the UI of
release dev or of Temporal Cloud, or port 8233 of this machine if Temporal is at port
7233 of it, as with docker-compose.yml.`,
		Example: `  release open 4f2d1c0b9a8e
  release open 4f2d1c0b9a8e --print`,
		Args: WantArgs(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().BoolVar(&c.print, "print", false, "print the address only")
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

// openBrowser opens a page with the default browser of the system.
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
