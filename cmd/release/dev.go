package main

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

	"github.com/microbima/release/internal/devserver"
)

type dev struct {
	*env
	ports       benchOptions
	reset, yes  bool
	environment bool
}

func newDev(e *env) *cobra.Command {
	c := dev{env: e}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run Temporal, a Fly and a worker on this machine, and keep their state",
		Long: `Dev runs what releases need, on this machine and for its user alone: Temporal
with its Web UI, a simulated Fly whose machines are processes of this computer,
an image registry and a worker. In another terminal, release start and all the
others use them without any setting.

State is kept in RELEASE_STATE_DIR, else $XDG_STATE_HOME/release, else
~/.local/state/release. Stopped in whatever way and started again, it goes on
where it was: a release under way finishes, one that waits for an approval still
waits for it.

In the worktree of a repository with a release.toml it makes the Fly apps and
secrets that its files name. Of other repositories the Fly apps are made when a
release asks for them.

flyctl works with it, too: release dev --env prints the variables that point it
there, with a folder of its own for its settings.`,
		Example: `  release dev
  release dev --temporal-port 7300 --ui-port 8300
  (eval "$(release dev --env)" && flyctl status -a shop-staging-api)
  RELEASE_STATE_DIR=/tmp/other release dev`,
		Args: args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.IntVar(&c.ports.temporal, "temporal-port", 7233, "`PORT` of Temporal; 0 is any free one")
	f.IntVar(&c.ports.ui, "ui-port", 8233, "`PORT` of its Web UI; 0 is any free one")
	f.IntVar(&c.ports.fly, "fly-port", 4280, "`PORT` of the simulated Fly; 0 is any free one")
	f.IntVar(&c.ports.registry, "registry-port", 5005, "`PORT` of the image registry; 0 is any free one")
	f.BoolVar(&c.reset, "reset", false, "begin anew: remove all state first, after asking")
	f.BoolVar(&c.yes, "yes", false, "with --reset: do not ask")
	f.BoolVar(&c.environment, "env", false, "print what points flyctl at the one that runs, for a shell to eval, and end")
	return cmd
}

// another is the release dev that has this state already, or nil. One that was
// killed may take a moment to be gone: it no longer answers, and is waited for.
func (c dev) another(ctx context.Context) *devFile {
	for deadline := time.Now().Add(10 * time.Second); ; {
		running := c.readDevFile()
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

func (c dev) run(ctx context.Context) error {
	if err := c.checkStateDir(); err != nil {
		return err
	}
	if c.environment {
		return c.flyctl()
	}
	o := c.ports
	o.dir, o.grace = c.stateDir(), time.Second
	if running := c.another(ctx); running != nil {
		return fmt.Errorf("release dev runs already with the state in %s: process %d, Temporal at %s, Web UI at %s; use it, stop it, or choose another RELEASE_STATE_DIR", o.dir, running.PID, running.Temporal, running.UI)
	}
	if c.reset {
		if err := c.forget(ctx, o.dir); err != nil {
			return err
		}
	}
	b, err := c.openBench(ctx, o)
	var taken *devserver.PortTakenError
	if errors.As(err, &taken) {
		return fmt.Errorf("%w with --temporal-port, --ui-port, --fly-port or --registry-port", err)
	}
	if err != nil {
		return err
	}
	if err := c.welcome(ctx, b, o.dir); err != nil {
		return errors.Join(err, b.close())
	}
	select {
	case <-ctx.Done():
		c.say("\nstopping")
	case err = <-b.broken:
		err = fmt.Errorf("the worker can't go on: %w", err)
	}
	err = errors.Join(err, b.close())
	c.say("state is kept in %s; release dev goes on where it was", o.dir)
	return err
}

// flyctl prints the variables that point flyctl at the running release dev. It
// must not write into a person's own settings: it keeps versions of secrets
// there, by the names of apps.
func (c dev) flyctl() error {
	running := c.readDevFile()
	if running == nil {
		return errors.New("release dev does not run with the state in " + c.stateDir() + "; start it in another terminal")
	}
	for _, v := range [][2]string{
		{"FLY_API_BASE_URL", running.Fly}, {"FLY_FLAPS_BASE_URL", running.Fly}, {"FLY_UIEX_BASE_URL", running.Fly},
		{"FLY_REGISTRY_HOST", running.Registry}, {"FLY_ACCESS_TOKEN", running.Token}, {"FLY_CONFIG_DIR", filepath.Join(c.stateDir(), "flyctl")},
		{"FLY_SEND_METRICS", "0"}, {"FLY_NO_UPDATE_CHECK", "1"},
	} {
		fmt.Fprintf(c.stdout, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return nil
}

// forget removes what earlier ones kept, and nothing else that lies there.
func (c dev) forget(ctx context.Context, dir string) error {
	if !c.yes {
		if !c.asks {
			return usage("there is no terminal to ask at: add --yes to remove the state in %s without being asked", dir)
		}
		yes, err := c.confirm(ctx, fmt.Sprintf("Remove every release, machine and image in %s?", dir))
		if err != nil || !yes {
			return &exit{code: exitFailed, err: errors.Join(err, errors.New("nothing was removed"))}
		}
	}
	for _, name := range []string{"temporal", "machines", "flysim.json", "git", "logs", "flyctl", devFileName} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("begin anew: %w", err)
		}
	}
	return nil
}

// welcome says where everything is, and what to type next.
func (c dev) welcome(ctx context.Context, b *bench, dir string) error {
	c.say("Temporal   %s", b.Temporal)
	c.say("Web UI     %s", b.UI)
	c.say("Fly        %s, simulated: machines are processes of this computer", b.Fly)
	c.say("registry   %s", b.Registry)
	c.say("state      %s", dir)
	project := c.here()
	if project == nil {
		c.say("\nThere is no good release.toml here. In a clone of a repository that has one, in\nanother terminal:")
	} else {
		madeUp, err := b.provide(ctx, project)
		if err != nil {
			return err
		}
		var apps []string
		for _, environment := range project.Environments {
			for _, t := range environment.Targets {
				apps = append(apps, t.FlyApp)
			}
		}
		c.say("Fly apps   %s", strings.Join(apps, "\n           "))
		c.say("           others are made when a release asks for them")
		slices.Sort(madeUp)
		for _, s := range madeUp {
			c.say("note: the secret %s has a made-up value here", s)
		}
		c.say("\nIn another terminal:")
	}
	c.say("  release start              # releases HEAD")
	c.say("  release status             # what runs where")
	c.say("  release list               # what was released")
	c.say("  eval \"$(release dev --env)\" # and flyctl works with it, too")
	if given := c.getenv("RELEASE_STATE_DIR"); given != "" {
		c.say("with RELEASE_STATE_DIR=%s there, too", given)
	}
	c.say("\nready; Ctrl-C ends it and keeps the state")
	return nil
}
