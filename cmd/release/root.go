package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/version"
	"github.com/microbima/release/release"
)

// Exit codes are part of what scripts may rely on.
const (
	exitOK         = 0 // also: promoted, unchanged, restored
	exitFailed     = 1 // also: stopped before the first change
	exitUsage      = 2
	exitRolledBack = 3
	exitDetached   = 4 // no longer watching; the release goes on
	exitPerson     = 5 // held, kept or stranded: a person is needed
	exitSuperseded = 6 // a newer revision runs there, or waits to
)

const manual = `release takes one git revision of a repository with several apps through its
environments on Fly.io: test, build, staging, verification, a person's
approval, production. When a step fails it brings the environment back exactly
as it was.

The process is a Temporal workflow. It survives the death of this program, of
its workers and of Temporal itself; a terminal that watches is only a window.

FILES
  release.toml                               apps, environments, gates, tests
  infra/fly/<app>/<environment>/fly.toml     what Fly runs, as flyctl knows it
  "release check" says everything that is wrong with them.

NAMES OF RELEASES
  Where a command takes ID: the first digits of the revision; HEAD, a branch or
  a tag; rollback-ENVIRONMENT for a rollback; the start of anything that
  "release list" shows; or a full workflow ID.

CONNECTIONS
  Temporal   TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY and the
             others, or a profile in Temporal's own configuration file. Without
             them it is the Temporal that "release dev" runs.
             TEMPORAL_UI_ADDRESS: its Web UI, for links to it.
  Fly        FLY_API_TOKEN or FLY_ACCESS_TOKEN, as flyctl reads them. Without
             them it is the Fly that "release dev" runs.
  State      RELEASE_STATE_DIR, else $XDG_STATE_HOME/release, else
             ~/.local/state/release.

EXIT CODES
  0  promoted, unchanged, restored         3  rolled back
  1  stopped before the first change,      4  detached; the release goes on
     or another error                      5  a person is needed: held, kept
  2  wrong usage; also an option that         as it is, or stranded
     is given and empty                    6  superseded by a newer revision

Results go to standard output, words for people to standard error.`

const examples = `  release check                            # are the files right?
  release start --to staging --wait        # release HEAD to staging
  release start                            # all the way to the last environment
  release approve 4f2d1c0b9a8e             # look at the plan, then let it go on
  release status                           # what runs where
  release rollback production              # as it was before the last release`

// run is the program with the world as an argument. It returns the exit code.
func run(ctx context.Context, e *env) int {
	err := e.root().ExecuteContext(ctx)
	var x *exit
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &x):
		if x.err != nil {
			e.say("release: %v", x.err)
		}
		return x.code
	case ctx.Err() != nil:
		e.say("release: interrupted")
		return exitDetached
	}
	e.say("release: %v", err)
	return exitFailed
}

// root joins the commands.
func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "release",
		Short:         "Durable releases to Fly.io",
		Long:          manual,
		Example:       examples,
		Version:       version.Read().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("no command %q%s; release help lists them", args[0], suggestions(cmd, args[0]))
			}
			return cmd.Help()
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetArgs(e.args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%v; see %s --help", err, cmd.CommandPath())
	})
	root.PersistentPreRunE = refuseEmpty
	root.AddGroup(
		&cobra.Group{ID: "release", Title: "To release:"},
		&cobra.Group{ID: "decide", Title: "To decide:"},
		&cobra.Group{ID: "look", Title: "To look:"},
		&cobra.Group{ID: "run", Title: "To run what releases need:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("release", newStart(e), newPlan(e), newWatch(e), newRollback(e), newUnpin(e))
	add("decide", newApprove(e), newReject(e), newDecide(e), newAbort(e))
	add("look", newStatus(e), newList(e), newShow(e), newLogs(e), newOpen(e), newCheck(e))
	add("run", newDev(e), newWorker(e), newDemo(e), newVersion(e))
	return root
}

func suggestions(cmd *cobra.Command, typed string) string {
	if near := cmd.SuggestionsFor(typed); len(near) > 0 {
		return "; did you mean " + near[0] + "?"
	}
	return ""
}

// An exit is an error with an exit code of its own. One without words has been
// told to people already.
type exit struct {
	code int
	err  error
}

func (x *exit) Error() string {
	if x.err == nil {
		return fmt.Sprintf("exit code %d", x.code)
	}
	return x.err.Error()
}

func (x *exit) Unwrap() error { return x.err }

// usage is the error of a command that was called wrongly.
func usage(format string, args ...any) error {
	return &exit{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// code is the exit code of a release that ended so.
func code(o release.Outcome) int {
	switch o {
	case release.Promoted, release.Unchanged, release.Restored:
		return exitOK
	case release.Stopped:
		return exitFailed
	case release.RolledBack:
		return exitRolledBack
	case release.Superseded:
		return exitSuperseded
	}
	return exitPerson
}

// args wants from least to most words after the command, named so.
func args(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		switch {
		case len(given) < least:
			return usage("%s is missing; write: %s", names, cmd.UseLine())
		case len(given) > most:
			return usage("%q is too much; write: %s", given[most], cmd.UseLine())
		}
		return nil
	}
}
