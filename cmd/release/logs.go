package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

type logs struct {
	*env
	asJSON, now, raw bool
}

// kinds of output, as they are asked for.
var kinds = []string{"test", "build", "scan"}

func newLogs(e *env) *cobra.Command {
	c := logs{env: e}
	cmd := &cobra.Command{
		Use:   "logs ID [test|build|scan] [NAME]",
		Short: "What tests, builds and scans print",
		Long: `Logs writes what the tests, builds and scans of a release printed: of all of
them, or of one kind only, or of the one with that name. What runs is followed
until it ends.

Control characters in it are written out, so that none acts on a terminal; --raw
writes it byte for byte.

Where the worker ran on this machine the whole of it is there; elsewhere its
end, as the release recorded it. Of what runs elsewhere there is news every few
seconds.`,
		Example: `  release logs 4f2d1c0b9a8e test
  release logs 4f2d1c0b9a8e build web-admin --now`,
		Args: args(1, 3, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args) },
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write what there is now as JSON")
	cmd.Flags().BoolVar(&c.now, "now", false, "write what there is now, and follow nothing")
	cmd.Flags().BoolVar(&c.raw, "raw", false, "write the output byte for byte, control characters too")
	cmd.ValidArgsFunction = c.releases(kinds...)
	return cmd
}

// An output is what one test, build or scan has printed.
type output struct {
	Kind    string `json:"kind"` // test, build or scan
	Name    string `json:"name"`
	Running bool   `json:"running,omitempty"`
	Good    bool   `json:"good"`  // once it does not run any more
	Whole   bool   `json:"whole"` // else it is the end only
	Text    string `json:"text"`
	log     string // name of the kept output
	size    int64  // how long it is, of which Text is the end
}

func (o output) key() string { return o.Kind + " " + o.Name }

func (c logs) run(ctx context.Context, args []string) error {
	args = append(args, "", "")
	ref, kind, name := args[0], args[1], args[2]
	if kind != "" && !slices.Contains(kinds, kind) {
		return usage("%q: there are logs of %s", kind, strings.Join(kinds, ", "))
	}
	s, seen, err := c.see(ctx, ref)
	if err != nil {
		return err
	}
	c.blindly(seen)
	meant := func(o output) bool { return (kind == "" || kind == o.Kind) && (name == "" || name == o.Name) }
	if !c.now && !c.asJSON && c.goesOn(seen, meant) {
		return (&tail{logs: c, server: s, meant: meant, shown: map[string]int64{}, recent: map[string]string{}, closed: map[string]bool{}}).follow(ctx, seen)
	}
	found := append(c.ended(seen, meant), c.running(ctx, s, seen, meant)...)
	if len(found) == 0 {
		return fmt.Errorf("no output of %s %s in %s yet", strings.TrimSpace("tests or builds "+kind), name, view.Ref(seen.ID))
	}
	if c.asJSON {
		return c.json(found)
	}
	for _, o := range found {
		c.head(o)
		c.write(o.Text)
	}
	return nil
}

// write writes text, escaped unless it is wanted raw, and ends its last line.
func (c logs) write(text string) {
	if !c.raw {
		text = view.Escape(text)
	}
	fmt.Fprint(c.stdout, text)
	if text != "" && !strings.HasSuffix(text, "\n") {
		fmt.Fprintln(c.stdout)
	}
}

func (c logs) head(o output) {
	word := "failed"
	switch {
	case o.Running:
		word = "running"
	case o.Good:
		word = "passed"
	}
	if !o.Whole {
		word += "; the end of its output, the rest is with the worker that ran it"
	}
	c.say("== %s: %s", o.key(), word)
}

// ended are the outputs of what does not run any more.
func (c logs) ended(seen sight, meant func(output) bool) []output {
	found := []output{}
	add := func(kind, name string, good bool, log, tail string) {
		o := output{Kind: kind, Name: name, Good: good, Text: tail, log: log}
		if !meant(o) {
			return
		}
		if text, err := c.whole(log); err == nil {
			o.Whole, o.Text = true, text
		}
		o.size = int64(len(o.Text))
		found = append(found, o)
	}
	for _, t := range seen.Tests {
		add("test", t.Name, t.Passed, t.Log, t.Tail)
	}
	for _, b := range seen.Builds {
		add("build", b.App, b.Image != "", b.Log, b.Tail)
	}
	for _, s := range seen.Scans {
		add("scan", s.Name, s.Passed, s.Log, s.Tail)
	}
	return found
}

// goesOn says whether something that is meant runs, or will.
func (c logs) goesOn(seen sight, meant func(output) bool) bool {
	if seen.over() || seen.Blind {
		return false
	}
	early := seen.Phase == "" || seen.Phase == release.Loading || seen.Phase == release.Preflight
	return early || slices.ContainsFunc(jobs(seen), meant)
}

// jobs are what runs, or waits for a worker. A scan is the second part of the
// build with its name.
func jobs(seen sight) (running []output) {
	for _, j := range seen.Jobs {
		kind, name, _ := strings.Cut(j.Name, " ")
		running = append(running, output{Kind: kind, Name: name, Running: true})
		if kind == "build" {
			running = append(running, output{Kind: "scan", Name: name, Running: true})
		}
	}
	return running
}

// running are the outputs of what runs now: as far as the file goes that a
// worker on this machine writes, or the end that a worker elsewhere told
// Temporal last.
func (c logs) running(ctx context.Context, s *server, seen sight, meant func(output) bool) (found []output) {
	if seen.over() {
		return nil
	}
	for _, told := range s.told(ctx, seen.ID, seen.Run) {
		o := output{Running: true, Text: told.Tail, log: told.Log, size: told.Size}
		o.Kind, o.Name = ofLog(seen, told.Log)
		if !meant(o) {
			continue
		}
		if text, err := c.whole(told.Log); err == nil {
			o.Whole, o.Text, o.size = true, text, int64(len(text))
		}
		found = append(found, o)
	}
	return found
}

// ofLog is what a kept output is of: logs/<workflow>/<run>/test-unit.log.
func ofLog(seen sight, log string) (kind, name string) {
	_, file, _ := strings.Cut(log, "/"+seen.Run+"/")
	kind, name, _ = strings.Cut(strings.TrimSuffix(file, ".log"), "-")
	return kind, name
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
