package localstack

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/cli"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

const (
	// demoBake replaces the bake times of release.toml.
	demoBake = 8 * time.Second
	// exitInterrupted is the exit code of shells for a program that ended on Ctrl-C.
	exitInterrupted = 130
	demoPattern     = "release-demo-"
)

type demoCommand struct {
	*cli.World
	yes, hold bool
	breakage  string
	dir       string
}

// NewDemo returns the command release demo.
func NewDemo(w *cli.World) *cobra.Command {
	c := demoCommand{World: w}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show one whole release, everything in one process",
		Long: `Demo releases HEAD of this repository to staging and production: its tests, its
images, every machine as a process of this computer, verified, approved, baked.
Temporal with its Web UI, a simulated Fly, an image registry and a worker run in this
one process. At the end everything is removed.

At a terminal it shows the plan for production and asks. Without one, or with --yes,
it approves the plan itself. --hold leaves the review to another terminal or to the
Temporal UI, and prints how.

With --break it then commits a second revision that is bad in production, and releases
that:

  check   its health check never passes
  crash   its process ends at start
  bake    it passes its check, and turns bad while it bakes
  test    its tests fail
  build   it does not compile

At the end the demo reads every machine of production, and compares it with its state
before, byte for byte. The exit code is 3 (rolled back) or 1 (stopped before any
change).`,
		Example: `  release demo
  release demo --yes
  release demo --break bake
  release demo --hold -C ../shop`,
		Args: cli.WantArgs(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.BoolVar(&c.yes, "yes", false, "do not ask: the demo approves")
	f.BoolVar(&c.hold, "hold", false, "leave the review to another terminal or to the Temporal UI")
	f.StringVar(&c.breakage, "break", "", "also release a revision that is bad in this `WAY`: "+strings.Join(breakageNames(), ", "))
	f.StringVarP(&c.dir, "directory", "C", "", "release the repository in this `DIRECTORY`")
	return cmd
}

func (c demoCommand) run(ctx context.Context) (err error) {
	if c.yes && c.hold {
		return cli.Usage("--yes approves and --hold leaves it to others: use one")
	}
	if _, ok := breakages[c.breakage]; !ok && c.breakage != "" {
		return cli.Usage("--break %q must be one of %s", c.breakage, strings.Join(breakageNames(), ", "))
	}
	if !filepath.IsAbs(c.dir) {
		c.dir = filepath.Join(c.World.Dir, c.dir)
	}
	here := *c.World
	here.Dir, here.Env = c.dir, withoutSettings(c.Env)
	src, err := cli.LoadSource(ctx, &here, "")
	if err != nil {
		return err
	}
	removeLeftovers(os.TempDir())
	state, err := os.MkdirTemp("", demoPattern)
	if err != nil {
		return fmt.Errorf("a folder for the demo: %w", err)
	}
	d := demo{demoCommand: c, src: src, state: state}
	err = d.run(ctx)
	if ctx.Err() != nil && err != nil {
		c.Say("interrupted: everything was stopped and removed")
		return cli.ExitWith(exitInterrupted)
	}
	return err
}

// removeLeftovers removes the folders of demos that were killed.
func removeLeftovers(dir string) {
	folders, _ := filepath.Glob(filepath.Join(dir, demoPattern+"*"))
	for _, folder := range folders {
		env := cli.Environ{"RELEASE_STATE_DIR=" + folder}
		if _, err := os.Stat(filepath.Join(folder, cli.DevFileName)); err == nil && cli.ReadDevFile(env) == nil {
			_ = os.RemoveAll(folder) // a failure does not affect this demo
		}
	}
}

// A demo is one execution of the command.
type demo struct {
	demoCommand
	src   cli.Source
	state string // directory, removed at the end
	stack *localStack
}

// run runs the demo and removes its state at the end.
func (d *demo) run(ctx context.Context) (err error) {
	defer func() {
		if failed := os.RemoveAll(d.state); failed != nil {
			err = errors.Join(err, fmt.Errorf("clean up: %w", failed))
		}
	}()
	world := *d.World
	world.Env = append(world.Env[:len(world.Env):len(world.Env)], "RELEASE_STATE_DIR="+d.state)
	begin := time.Now()
	d.stack, err = startStack(ctx, &world, options{dir: d.state, inMemory: true, grace: time.Millisecond})
	if err != nil {
		return err
	}
	defer func() {
		if failed := d.stack.close(); failed != nil {
			err = errors.Join(err, fmt.Errorf("stop the demo: %w", failed))
		}
	}()
	d.Say("Temporal, its Web UI, a Fly, a registry and a worker: up in %s", view.Duration(time.Since(begin)))
	d.Say("  %s", d.stack.UI)
	for _, e := range d.src.Project.Environments {
		if e.Bake > 0 {
			d.Say("  %s bakes for %s here, not for %s as release.toml says", e.Name, demoBake, e.Bake)
		}
	}
	madeUp, err := d.stack.createApps(ctx, d.src.Project)
	if err != nil {
		return err
	}
	for _, secret := range madeUp {
		d.Say("  the secret %s has a made-up value here", secret)
	}
	s, err := d.releaseBoth(ctx)
	if err != nil {
		return err
	}
	d.waitForEnter(ctx)
	return cli.ExitWith(cli.CodeOf(s))
}

// releaseBoth releases HEAD and, with --break, a broken revision after it.
func (d *demo) releaseBoth(ctx context.Context) (client.Snapshot, error) {
	s, err := d.releaseHead(ctx, d.src.Repo.Dir)
	if err != nil || d.breakage == "" || s.Outcome != release.Promoted {
		return s, err
	}
	environments := d.src.Project.Environments
	last := environments[len(environments)-1]
	before, err := readMachines(ctx, d.stack.fly, last)
	if err != nil {
		return s, err
	}
	dir := filepath.Join(d.state, "clone")
	b := breakages[d.breakage]
	if err := b.commitTo(ctx, d.Env, d.src, last, dir); err != nil {
		return s, err
	}
	d.Say("\nNow a revision that is bad in %s: %s.", last.Name, b.description)
	if s, err = d.releaseHead(ctx, dir); err != nil {
		return s, err
	}
	after, err := readMachines(ctx, d.stack.fly, last)
	if err != nil {
		return s, err
	}
	if err := compareMachines(last, before, after); err != nil {
		return s, err
	}
	d.Say("\n%s is as it was before the bad revision: %d machines of %d apps, looked up on Fly; each one's config is the same, byte for byte.", last.Name, len(after), len(last.Targets))
	return s, nil
}

// releaseHead releases HEAD of the repository in dir, and returns the last snapshot.
func (d *demo) releaseHead(ctx context.Context, dir string) (client.Snapshot, error) {
	w := stackWorld(d.World, d.stack.DevFile, d.state)
	w.Dir = dir
	return cli.Drive{
		Repository: dir, Bake: release.Duration(demoBake),
		Review: func(ctx context.Context, c *client.Client, s client.Snapshot) error {
			return d.reviewPlan(ctx, w, c, s)
		},
	}.Run(ctx, w)
}

// reviewPlan reviews a plan: it asks the user at this terminal, prints how to review with
// --hold, or approves.
func (d *demo) reviewPlan(ctx context.Context, w *cli.World, c *client.Client, s client.Snapshot) error {
	w.Say("")
	switch {
	case d.hold:
		w.Say("%s", d.instructions(s, c.PageURL(s.ID, s.Run)))
		return nil
	case d.Terminal.CanAsk && !d.yes:
		err := cli.ReviewByCommand{ID: s.ID, Approve: true, Ask: true}.Run(ctx, w)
		if !errors.Is(err, cli.ErrNotApproved) || ctx.Err() != nil {
			return err
		}
		return cli.ReviewByCommand{ID: s.ID, Reason: "not approved at the terminal"}.Run(ctx, w)
	}
	w.Say("Nobody is asked here: the demo approves this plan by itself.\n")
	return cli.ReviewByCommand{ID: s.ID, Approve: true, By: "release demo", Reason: "nobody is asked in it"}.Run(ctx, w)
}

// instructions returns the text on how to review the plan from another terminal.
func (d *demo) instructions(s client.Snapshot, page string) string {
	command := fmt.Sprintf("RELEASE_STATE_DIR=%s %s ", d.state, cmp.Or(d.Self, "release"))
	if d.Env.Get("TEMPORAL_ADDRESS") != "" {
		command = "TEMPORAL_ADDRESS=" + d.stack.Temporal + " " + command
	}
	return strings.ReplaceAll(view.Gate(s.Status, page+"/user-metadata"), "    release ", "    "+command)
}

// waitForEnter waits at a terminal until the user presses Enter, so that the user can
// inspect the demo.
func (d *demo) waitForEnter(ctx context.Context) {
	if !d.Terminal.CanAsk || d.yes || ctx.Err() != nil {
		return
	}
	fmt.Fprint(d.Stderr, "\nAll of it still runs: open the addresses above. Enter ends the demo and removes it. ")
	entered := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(d.Stdin).ReadString('\n') // EOF counts as Enter
		close(entered)
	}()
	select {
	case <-entered:
	case <-ctx.Done():
		d.Say("")
	}
}
