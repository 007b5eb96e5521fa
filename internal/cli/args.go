package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// WantArgs accepts from least to most arguments. The error contains names.
func WantArgs(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return Usage("missing argument %s (usage: %s)", names, cmd.UseLine())
		case len(args) > most:
			return Usage("unexpected argument %q (usage: %s)", args[most], cmd.UseLine())
		}
		return nil
	}
}

// refuseEmpty returns a usage error if an option or an argument is empty, because an unset
// variable of a script must not select the default.
func refuseEmpty(cmd *cobra.Command, args []string) error {
	if cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd {
		return nil // shells complete empty words
	}
	for _, arg := range args {
		if isBlank(arg) {
			return Usage("an argument is empty: leave it out, or give it a value (is a variable of the script unset?) (usage: %s)", cmd.UseLine())
		}
	}
	var empty string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if empty == "" && isEmpty(f.Value) {
			empty = f.Name
		}
	})
	if empty != "" {
		return Usage("--%s is empty: leave it out, or give it a value (is a variable of the script unset?)", empty)
	}
	return nil
}

// isEmpty reports whether the value of an option is empty, or a value of its list is.
func isEmpty(v pflag.Value) bool {
	if list, ok := v.(pflag.SliceValue); ok {
		values := list.GetSlice()
		return len(values) == 0 || slices.ContainsFunc(values, isBlank)
	}
	return isBlank(strings.Trim(v.String(), "[]"))
}

func isBlank(s string) bool { return strings.TrimSpace(s) == "" }
