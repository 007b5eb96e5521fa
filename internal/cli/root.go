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
environments on Fly.io: test, build, staging, verification, approval, production.
If a step fails it restores the environment exactly.

The process is a Temporal workflow. It survives the death of this program, of its
workers and of Temporal itself. Closing a terminal that watches it stops nothing.

FILES
  release.toml                               apps, environments, gates, tests
  infra/fly/<app>/<environment>/fly.toml     what Fly runs, as for flyctl
  "release check" reports every mistake in them.

NAMES OF RELEASES
  ID is the first digits of the revision; HEAD, a branch or a tag;
  rollback-ENVIRONMENT for a rollback; the beginning of an ID in "release list"; or
  a full workflow ID.

CONNECTIONS
  Temporal   TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY and so on, or
             a profile in Temporal's own configuration file; else the Temporal of
             "release dev".
             TEMPORAL_UI_ADDRESS: its Web UI, for links.
  Fly        FLY_API_TOKEN or FLY_ACCESS_TOKEN, as for flyctl; else the Fly of
             "release dev".
  State      RELEASE_STATE_DIR, else $XDG_STATE_HOME/release, else
             ~/.local/state/release.

EXIT CODES
  0  promoted, unchanged, restored         3  rolled back
  1  stopped before the first change,      4  detached; the release continues
     or another error                      5  a person is needed: held, kept
  2  wrong usage; also an option that         as it is, or stranded
     is given and empty                    6  superseded by a newer revision

Results go to standard output, messages to standard error.`

const examples = `  release check                            # are the files valid?
  release start --to staging --wait        # release HEAD to staging
  release start                            # release HEAD to the last environment
  release approve 4f2d1c0b9a8e             # show the plan, and approve it
  release status                           # what runs where
  release rollback production              # restore what ran before`

// Run runs the program and returns its exit code.
func Run(ctx context.Context, w *World, local LocalCommands) int {
	err := newRoot(w, local).ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	err = addRemedy(err)
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

// newRoot returns the root command with all others.
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
				return Usage("no command %q%s; release help lists them", args[0], suggestCommand(cmd, args[0]))
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

// suggestCommand returns a question that names the probable command, or "".
func suggestCommand(root *cobra.Command, typed string) string {
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
