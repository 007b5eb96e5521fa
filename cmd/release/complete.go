package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// completions are what a shell offers for a word.
type completions = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// environments offers those of the project here.
func (e *env) environments() completions {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		if p := e.here(); p != nil {
			return names(p.Environments), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// apps offers those of the project here.
func (e *env) apps() completions {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		if p := e.here(); p != nil {
			return appNames(p), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// releases offers the newest, then words for what comes after.
func (e *env) releases(after ...string) completions {
	return func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(given) == 1 {
			return after, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), dialLimit)
		defer cancel()
		s, err := e.temporal(ctx)
		if err != nil || len(given) > 1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		entries, err := s.entries(ctx, fmt.Sprintf("WorkflowType = '%s'", release.ReleaseWorkflow), 20)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var offers []string
		for _, entry := range entries {
			offers = append(offers, view.Ref(entry.ID)+"\t"+entry.Subject)
		}
		return offers, cobra.ShellCompDirectiveNoFileComp
	}
}

// offer completes a flag's value.
func offer(cmd *cobra.Command, flag string, words completions) {
	if err := cmd.RegisterFlagCompletionFunc(flag, words); err != nil {
		panic(err) // there is no such flag
	}
}
