package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

const (
	// demoBake stands in for the bake times of release.toml.
	demoBake = 8 * time.Second
	// exitInterrupted is what shells say of a program that ended on Ctrl-C.
	exitInterrupted = 130
	demoPattern     = "release-demo-"
)

type demo struct {
	*env
	yes, hold bool
	breakage  string
	dir       string
	state     string // of this demo: removed at its end
	bench     *bench
}

func newDemo(e *env) *cobra.Command {
	c := demo{env: e}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See one whole release, with everything it needs in this process",
		Long: `Demo releases HEAD of this repository to staging and production: its tests, its
images, every machine as a process of this computer, verified, approved, baked.
Temporal with its Web UI, a simulated Fly, an image registry and a worker run in
this one process. Nothing is left of it at the end.

At a terminal it shows the plan for production and asks. Without one, or with
--yes, it approves by itself. --hold leaves the decision to another terminal, or
to the Temporal UI, and says how.

--break then makes a second revision that is bad in production, and releases it:

  check   its health check never passes
  crash   its process ends at start
  sour    it passes its check, and turns bad while it bakes
  test    its tests fail
  build   it does not compile

Production must be as it was then, byte for byte, which the demo looks up at the
end. The exit code is 3 (rolled back) or 1 (stopped before any change).`,
		Example: `  release demo
  release demo --yes
  release demo --break sour
  release demo --hold -C ../shop`,
		Args: args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.BoolVar(&c.yes, "yes", false, "do not ask: the demo approves")
	f.BoolVar(&c.hold, "hold", false, "leave the decision to another terminal or to the Temporal UI")
	f.StringVar(&c.breakage, "break", "", "then release a revision that is bad in this `WAY`: "+strings.Join(ways(), ", "))
	f.StringVarP(&c.dir, "directory", "C", "", "release the repository in this `DIRECTORY`")
	return cmd
}

func ways() []string { return slices.Sorted(maps.Keys(breakages())) }

func (c demo) run(ctx context.Context) (err error) {
	if c.yes && c.hold {
		return usage("--yes approves and --hold leaves it to others: use one")
	}
	if _, ok := breakages()[c.breakage]; !ok && c.breakage != "" {
		return usage("--break %q: there are: %s", c.breakage, strings.Join(ways(), ", "))
	}
	if !filepath.IsAbs(c.dir) {
		c.dir = filepath.Join(c.env.dir, c.dir)
	}
	here := *c.env
	here.dir, here.environ = c.dir, c.benchEnv(devFile{}, "").environ
	src, err := here.source(ctx, "")
	if err != nil {
		return err
	}
	removeLeftovers(os.TempDir())
	if c.state, err = os.MkdirTemp("", demoPattern); err != nil {
		return fmt.Errorf("a folder for the demo: %w", err)
	}
	err = c.in(ctx, src)
	if ctx.Err() != nil && err != nil {
		c.say("interrupted: everything was stopped and removed")
		return &exit{code: exitInterrupted}
	}
	return err
}

// in runs the demo in its folder, and leaves nothing of either.
func (c demo) in(ctx context.Context, src source) (err error) {
	defer func() {
		if gone := os.RemoveAll(c.state); gone != nil {
			err = errors.Join(err, fmt.Errorf("clean up: %w", gone))
		}
	}()
	announcing := *c.env
	announcing.environ = append(slices.Clone(c.environ), "RELEASE_STATE_DIR="+c.state)
	began := time.Now()
	c.bench, err = announcing.openBench(ctx, benchOptions{dir: c.state, inMemory: true, grace: time.Millisecond})
	if err != nil {
		return err
	}
	defer func() {
		if failed := c.bench.close(); failed != nil {
			err = errors.Join(err, fmt.Errorf("stop the demo: %w", failed))
		}
	}()
	c.say("Temporal, its Web UI, a Fly, a registry and a worker: up in %s", view.Duration(time.Since(began)))
	c.say("  %s", c.bench.UI)
	for _, e := range src.project.Environments {
		if e.Bake > 0 {
			c.say("  %s bakes for %s here, not for %s as release.toml says", e.Name, demoBake, e.Bake)
		}
	}
	madeUp, err := c.bench.provide(ctx, src.project)
	if err != nil {
		return err
	}
	for _, s := range madeUp {
		c.say("  the secret %s has a made-up value here", s)
	}
	seen, err := c.both(ctx, src)
	if err != nil {
		return err
	}
	c.linger(ctx)
	return exitWith(seen.code())
}

// both releases HEAD and, if that is asked for, something bad after it.
func (c demo) both(ctx context.Context, src source) (sight, error) {
	seen, err := c.release(ctx, src.repo.Dir)
	if err != nil || c.breakage == "" || seen.Outcome != release.Promoted {
		return seen, err
	}
	last := src.project.Environments[len(src.project.Environments)-1]
	before, err := c.photograph(ctx, last)
	if err != nil {
		return seen, err
	}
	dir := filepath.Join(c.state, "clone")
	if err := c.breakIt(ctx, src, last, dir); err != nil {
		return seen, err
	}
	c.say("\nNow a revision that is bad in %s: %s.", last.Name, breakages()[c.breakage].words)
	if seen, err = c.release(ctx, dir); err != nil {
		return seen, err
	}
	after, err := c.photograph(ctx, last)
	if err != nil {
		return seen, err
	}
	return seen, c.compare(last, before, after)
}

// release starts a release of HEAD of the repository in dir as release start
// does, follows it to its end as release watch does, and reports.
func (c demo) release(ctx context.Context, dir string) (sight, error) {
	inner := c.benchEnv(c.bench.devFile, c.state)
	inner.dir = dir
	bake := release.Duration(demoBake)
	request, path, err := start{env: inner, repo: dir, bake: &bake}.request(ctx, "")
	if err != nil {
		return sight{}, err
	}
	s, err := inner.temporal(ctx)
	if err != nil {
		return sight{}, err
	}
	defer s.Close()
	id := release.ID(request.Project, request.Revision)
	inner.say("")
	run, _, err := inner.launch(ctx, s, id, request, path)
	if err != nil {
		return sight{}, err
	}
	asked := ""
	f := newFollower(inner, s, id, run)
	f.until = func(seen sight) bool { return seen.Gate != nil && seen.Gate.Plan != asked }
	for {
		if err := f.watch(ctx); err != nil {
			return f.last, err
		}
		if f.last.over() || f.last.Held != nil {
			return f.last, inner.report(ctx, s, f.last, false, false)
		}
		asked = f.last.Gate.Plan
		if err := c.gate(ctx, inner, s, f.last); err != nil {
			return f.last, err
		}
	}
}

// gate gets a decision: from the person at this terminal, from somebody
// elsewhere, or from the demo itself.
func (c demo) gate(ctx context.Context, inner *env, s *server, seen sight) error {
	approve := decision{env: inner, approve: true, ref: seen.ID}
	inner.say("")
	switch {
	case c.hold:
		again := fmt.Sprintf("    RELEASE_STATE_DIR=%s %s ", c.state, cmp.Or(c.self, "release"))
		if c.getenv("TEMPORAL_ADDRESS") != "" {
			again = "    TEMPORAL_ADDRESS=" + c.bench.Temporal + strings.Replace(again, "   ", "", 1)
		}
		inner.say("%s", strings.ReplaceAll(view.Gate(seen.Status, s.page(seen.ID, seen.Run)+"/user-metadata"), "    release ", again))
		return nil
	case c.asks && !c.yes:
		err := approve.run(ctx)
		if !errors.Is(err, errNotApproved) || ctx.Err() != nil {
			return err
		}
		return decision{env: inner, yes: true, ref: seen.ID, reason: "not approved at the terminal"}.run(ctx)
	}
	inner.say("Nobody is asked here: the demo approves this plan by itself.\n")
	approve.yes, approve.by, approve.reason = true, "release demo", "nobody is asked in it"
	return approve.run(ctx)
}

// linger leaves a person time to look at what runs.
func (c demo) linger(ctx context.Context) {
	if !c.asks || c.yes || ctx.Err() != nil {
		return
	}
	fmt.Fprint(c.stderr, "\nAll of it still runs: open the addresses above. Enter ends the demo and removes it. ")
	entered := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(c.stdin).ReadString('\n') // its end is an answer too
		close(entered)
	}()
	select {
	case <-entered:
	case <-ctx.Done():
		c.say("")
	}
}

// removeLeftovers removes the folders of demos that were killed.
func removeLeftovers(dir string) {
	folders, _ := filepath.Glob(filepath.Join(dir, demoPattern+"*"))
	for _, folder := range folders {
		of := env{environ: []string{"RELEASE_STATE_DIR=" + folder}}
		if _, err := os.Stat(filepath.Join(folder, devFileName)); err == nil && of.readDevFile() == nil {
			_ = os.RemoveAll(folder) // it is in nobody's way
		}
	}
}
