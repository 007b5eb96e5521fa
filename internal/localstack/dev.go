package localstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/cli"
	"github.com/microbima/release/internal/devserver"
)

type devCommand struct {
	*cli.World
	ports      options
	reset, yes bool
	printEnv   bool
}

// NewDev returns the command release dev.
func NewDev(w *cli.World) *cobra.Command {
	c := devCommand{World: w}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run Temporal, a simulated Fly and a worker on this machine",
		Long: `Dev runs what releases need, on this machine and for this user alone: Temporal with
its Web UI, a simulated Fly whose machines are processes of this computer, an image
registry and a worker. In another terminal, all other commands use them without any
setting.

State is kept in RELEASE_STATE_DIR, else $XDG_STATE_HOME/release, else
~/.local/state/release. After a restart, even after a crash, dev continues: a release
under way finishes, and one that waits for an approval still waits.

In the worktree of a repository with a release.toml, dev creates the Fly apps and
secrets that its files name. Fly apps of other repositories are created when a release
asks for them.

flyctl works with it, too: release dev --env prints the variables that point flyctl
there, with a settings folder of its own.`,
		Example: `  release dev
  release dev --temporal-port 7300 --ui-port 8300
  (eval "$(release dev --env)" && flyctl status -a shop-staging-api)
  RELEASE_STATE_DIR=/tmp/other release dev`,
		Args: cli.WantArgs(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.IntVar(&c.ports.temporal, "temporal-port", 7233, "`PORT` of Temporal; 0 is any free one")
	f.IntVar(&c.ports.ui, "ui-port", 8233, "`PORT` of its Web UI; 0 is any free one")
	f.IntVar(&c.ports.fly, "fly-port", 4280, "`PORT` of the simulated Fly; 0 is any free one")
	f.IntVar(&c.ports.registry, "registry-port", 5005, "`PORT` of the image registry; 0 is any free one")
	f.BoolVar(&c.reset, "reset", false, "remove all state first, after asking")
	f.BoolVar(&c.yes, "yes", false, "with --reset: do not ask")
	f.BoolVar(&c.printEnv, "env", false, "print the variables that point flyctl at the running dev, for eval, and exit")
	return cmd
}

func (c devCommand) run(ctx context.Context) error {
	if err := cli.CheckStateDir(c.Env); err != nil {
		return err
	}
	if c.printEnv {
		return c.printFlyctlEnv()
	}
	o := c.ports
	o.dir, o.grace = cli.StateDir(c.Env), time.Second
	if running := c.findRunning(ctx); running != nil {
		return fmt.Errorf("release dev runs already with the state in %s: process %d, Temporal at %s, Web UI at %s; use it, stop it, or choose another RELEASE_STATE_DIR", o.dir, running.PID, running.Temporal, running.UI)
	}
	if c.reset {
		if err := c.removeState(ctx, o.dir); err != nil {
			return err
		}
	}
	s, err := startStack(ctx, c.World, o)
	var taken *devserver.PortTakenError
	if errors.As(err, &taken) {
		return fmt.Errorf("%w with --temporal-port, --ui-port, --fly-port or --registry-port", err)
	}
	if err != nil {
		return err
	}
	if err := c.printWelcome(ctx, s, o.dir); err != nil {
		return errors.Join(err, s.close())
	}
	select {
	case <-ctx.Done():
		c.Say("\nstopping")
	case err = <-s.fatal:
		err = fmt.Errorf("the worker cannot continue: %w", err)
	}
	err = errors.Join(err, s.close())
	c.Say("state is kept in %s; release dev continues from it", o.dir)
	return err
}

// findRunning returns the release dev that uses this state, or nil. It waits up to 10
// seconds for one that was killed and no longer responds.
func (c devCommand) findRunning(ctx context.Context) *cli.DevFile {
	for deadline := time.Now().Add(10 * time.Second); ; {
		running := cli.ReadDevFile(c.Env)
		if running == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return running
		}
		if conn, err := net.DialTimeout("tcp", running.Temporal, time.Second); err == nil {
			conn.Close()
			return running
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// printFlyctlEnv prints the variables that point flyctl at the running release dev, with a
// separate settings folder, because flyctl stores versions of secrets there by app name.
func (c devCommand) printFlyctlEnv() error {
	running := cli.ReadDevFile(c.Env)
	if running == nil {
		return errors.New("release dev does not run with the state in " + cli.StateDir(c.Env) + "; start it in another terminal")
	}
	for _, v := range [][2]string{
		{"FLY_API_BASE_URL", running.Fly}, {"FLY_FLAPS_BASE_URL", running.Fly}, {"FLY_UIEX_BASE_URL", running.Fly},
		{"FLY_REGISTRY_HOST", running.Registry}, {"FLY_ACCESS_TOKEN", running.Token}, {"FLY_CONFIG_DIR", filepath.Join(cli.StateDir(c.Env), "flyctl")},
		{"FLY_SEND_METRICS", "0"}, {"FLY_NO_UPDATE_CHECK", "1"},
	} {
		fmt.Fprintf(c.Stdout, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return nil
}

// removeState removes the state of earlier runs. It keeps other files in the directory.
func (c devCommand) removeState(ctx context.Context, dir string) error {
	if !c.yes {
		if !c.Terminal.CanAsk {
			return cli.Usage("there is no terminal to ask at: add --yes to remove the state in %s without being asked", dir)
		}
		yes, err := c.Confirm(ctx, fmt.Sprintf("Remove every release, machine and image in %s?", dir))
		if err != nil || !yes {
			return &cli.ExitError{Code: cli.ExitFailed, Err: errors.Join(err, errors.New("nothing was removed"))}
		}
	}
	for _, name := range []string{"temporal", "machines", "flysim.json", "git", "logs", "flyctl", cli.DevFileName} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove the state: %w", err)
		}
	}
	return nil
}

// printWelcome prints the addresses and the next commands.
func (c devCommand) printWelcome(ctx context.Context, s *localStack, dir string) error {
	c.Say("Temporal   %s", s.Temporal)
	c.Say("Web UI     %s", s.UI)
	c.Say("Fly        %s, simulated: machines are processes of this computer", s.Fly)
	c.Say("registry   %s", s.Registry)
	c.Say("state      %s", dir)
	project := cli.FindProject(c.Dir)
	if project == nil {
		c.Say("\nThere is no valid release.toml here. In a clone of a repository that has one, in\nanother terminal:")
	} else {
		madeUp, err := s.createApps(ctx, project)
		if err != nil {
			return err
		}
		var apps []string
		for _, environment := range project.Environments {
			for _, t := range environment.Targets {
				apps = append(apps, t.FlyApp)
			}
		}
		c.Say("Fly apps   %s", strings.Join(apps, "\n           "))
		c.Say("           others are made when a release asks for them")
		slices.Sort(madeUp)
		for _, secret := range madeUp {
			c.Say("note: the secret %s has a made-up value here", secret)
		}
		c.Say("\nIn another terminal:")
	}
	c.Say("  release start              # releases HEAD")
	c.Say("  release status             # what runs where")
	c.Say("  release list               # what was released")
	c.Say("  eval \"$(release dev --env)\" # and flyctl works with it, too")
	if dir := c.Env.Get("RELEASE_STATE_DIR"); dir != "" {
		c.Say("with RELEASE_STATE_DIR=%s there, too", dir)
	}
	c.Say("\nready; Ctrl-C ends it and keeps the state")
	return nil
}
