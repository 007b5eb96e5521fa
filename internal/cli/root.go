package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/version"
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

// A NewCommand makes a command.
type NewCommand = func(*World) *cobra.Command

// LocalCommands are the commands that need the local stack. Slim builds have none.
type LocalCommands struct{ Dev, Demo NewCommand }

// Run is the program. It returns the exit code.
func Run(ctx context.Context, w *World, local LocalCommands) int {
	err := newRoot(w, local).ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	err = explain(err)
	var x *ExitError
	switch {
	case errors.As(err, &x):
		if x.Err != nil {
			w.Say("release: %v", x.Err)
		}
		return x.Code
	case ctx.Err() != nil:
		w.Say("release: interrupted")
		return ExitDetached
	}
	w.Say("release: %v", err)
	return ExitFailed
}

// newRoot joins the commands.
func newRoot(w *World, local LocalCommands) *cobra.Command {
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
				return Usage("no command %q%s; release help lists them", args[0], suggest(cmd, args[0]))
			}
			return cmd.Help()
		},
	}
	root.SetArgs(w.Args)
	root.SetIn(w.Stdin)
	root.SetOut(w.Stdout)
	root.SetErr(w.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Usage("%v; see %s --help", err, cmd.CommandPath())
	})
	root.PersistentPreRunE = refuseEmpty
	root.AddGroup(
		&cobra.Group{ID: "inspect", Title: "Inspect:"},
		&cobra.Group{ID: "control", Title: "Approve and control:"},
		&cobra.Group{ID: "run", Title: "Run:"},
	)
	add := func(group string, commands ...NewCommand) {
		for _, newCommand := range commands {
			c := newCommand(w)
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("inspect", newCheck, newPlan, newStatus, newWatch, newList, newShow, newLogs, newOpen)
	add("control", newStart, newApprove, newReject, newResolve, newAbort, newRollback, newUnpin)
	add("run", orUnavailable(local.Demo, newUnavailableDemo), orUnavailable(local.Dev, newUnavailableDev), newWorker, newVersion)
	return root
}

// suggest returns a question after the command that was probably meant, or "".
func suggest(root *cobra.Command, typed string) string {
	nearest, distance := "", 1+min(2, len(typed)/2)
	for _, c := range root.Commands() {
		if d := levenshtein.Distance(strings.ToLower(typed), c.Name(), nil); d < distance && c.IsAvailableCommand() {
			nearest, distance = c.Name(), d
		}
	}
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", nearest)
}
