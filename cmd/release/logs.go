package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/view"
)

type logs struct {
	*env
	asJSON bool
}

func newLogs(e *env) *cobra.Command {
	c := logs{env: e}
	cmd := &cobra.Command{
		Use:   "logs ID [test|build] [NAME]",
		Short: "What tests and builds printed",
		Long: `Logs writes what the tests and builds of a release printed: of all of them, or
of tests or builds only, or of the one with that name. Where the worker ran on
this machine the whole of it is there; elsewhere its end, as the release
recorded it.`,
		Example: `  release logs 4f2d1c0b9a8e test
  release logs 4f2d1c0b9a8e build web-admin`,
		Args: args(1, 3, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args) },
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write them as JSON")
	cmd.ValidArgsFunction = c.releases("test", "build")
	return cmd
}

// An output is what one test or build printed.
type output struct {
	Kind  string `json:"kind"` // test or build
	Name  string `json:"name"`
	Good  bool   `json:"good"`
	Whole bool   `json:"whole"` // else it is the end only
	Text  string `json:"text"`
}

func (c logs) run(ctx context.Context, args []string) error {
	args = append(args, "", "")
	ref, kind, name := args[0], args[1], args[2]
	if kind != "" && kind != "test" && kind != "build" {
		return usage("%q: there are logs of test and build", kind)
	}
	s, err := c.temporal(ctx)
	if err != nil {
		return err
	}
	id, err := s.find(ctx, ref)
	if err != nil {
		return err
	}
	seen, err := s.look(ctx, id, "")
	if err != nil {
		return err
	}
	c.blindly(seen)
	found := c.outputs(seen, kind, name)
	if len(found) == 0 {
		return fmt.Errorf("no output of %s %s in %s yet", strings.TrimSpace("tests or builds "+kind), name, view.Ref(id))
	}
	if c.asJSON {
		return c.json(found)
	}
	for _, o := range found {
		c.head(o)
		fmt.Fprint(c.stdout, o.Text)
		if o.Text != "" && !strings.HasSuffix(o.Text, "\n") {
			fmt.Fprintln(c.stdout)
		}
	}
	return nil
}

func (c logs) head(o output) {
	word := "passed"
	if !o.Good {
		word = "failed"
	}
	if !o.Whole {
		word += "; the end of its output, the rest is with the worker that ran it"
	}
	c.say("== %s %s: %s", o.Kind, o.Name, word)
}

func (c logs) outputs(seen sight, kind, name string) []output {
	found := []output{}
	add := func(k, n string, good bool, log, tail string) {
		if kind != "" && kind != k || name != "" && name != n {
			return
		}
		o := output{Kind: k, Name: n, Good: good, Text: tail}
		if text, err := c.whole(log); err == nil {
			o.Whole, o.Text = true, text
		}
		found = append(found, o)
	}
	for _, t := range seen.Tests {
		add("test", t.Name, t.Passed, t.Log, t.Tail)
	}
	for _, b := range seen.Builds {
		add("build", b.App, b.Image != "", b.Log, b.Tail)
	}
	return found
}

// whole is the file that a worker on this machine has kept.
func (c logs) whole(log string) (string, error) {
	if log == "" {
		return "", os.ErrNotExist
	}
	root, err := os.OpenRoot(c.stateDir()) // a log's name never leads out of it
	if err != nil {
		return "", err
	}
	defer root.Close()
	file, err := root.Open(filepath.FromSlash(log))
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	return string(text), err
}
