package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// A NewCommand creates a command.
type NewCommand = func(*World) *cobra.Command

// LocalCommands are the commands that need the local stack. They are nil in slim builds.
type LocalCommands struct{ Dev, Demo NewCommand }

// orUnavailable returns command, or standIn if command is nil.
func orUnavailable(command, standIn NewCommand) NewCommand {
	if command == nil {
		return standIn
	}
	return command
}

func newUnavailableDev(*World) *cobra.Command {
	return newUnavailable("dev", "Run Temporal, a simulated Fly and a worker on this machine (not in this build)")
}

func newUnavailableDemo(*World) *cobra.Command {
	return newUnavailable("demo", "Show one whole release, everything in one process (not in this build)")
}

// newUnavailable returns a command whose error names the build that has it.
func newUnavailable(name, short string) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Long: fmt.Sprintf(`This is a slim build (build tag slim): it has every command but dev and demo. Those
run Temporal, its Web UI, a simulated Fly and an image registry in one process, and
the slim build leaves all of that out.

The full build has release %s: go install ./cmd/release, without -tags slim.`, name),
		Example:            "  release " + name,
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("release %s is not in this slim build; the full build has it: go install ./cmd/release, without -tags slim", name)
		},
	}
}
