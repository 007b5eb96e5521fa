package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// outputKinds are the values of the argument KIND.
var outputKinds = []string{"test", "build", "scan"}

// An output is the output of one test, build or scan.
type output struct {
	Kind    string `json:"kind"` // test, build or scan
	Name    string `json:"name"`
	Running bool   `json:"running,omitempty"`
	Passed  bool   `json:"good"`  // set once it has ended
	Whole   bool   `json:"whole"` // whether Text is the whole output instead of its end
	Text    string `json:"text"`
	size    int64  // of the whole output
}

func (o output) key() string { return o.Kind + " " + o.Name }

// An outputReader reads the outputs of one kind and name of a release; "" matches all.
type outputReader struct {
	client     *client.Client
	dir        string // where a local worker stores outputs
	kind, name string
}

func (r outputReader) isIncluded(o output) bool {
	return (r.kind == "" || r.kind == o.Kind) && (r.name == "" || r.name == o.Name)
}

// endedOutputs returns the outputs of ended jobs.
func (r outputReader) endedOutputs(s client.Snapshot) []output {
	outputs := []output{}
	add := func(kind, name string, passed bool, log, tail string) {
		o := output{Kind: kind, Name: name, Passed: passed, Text: tail}
		if !r.isIncluded(o) {
			return
		}
		if text, err := r.readFile(log); err == nil {
			o.Whole, o.Text = true, text
		}
		o.size = int64(len(o.Text))
		outputs = append(outputs, o)
	}
	for _, t := range s.Tests {
		add("test", t.Name, t.Passed, t.Log, t.Tail)
	}
	for _, b := range s.Builds {
		add("build", b.App, b.Image != "", b.Log, b.Tail)
	}
	for _, scan := range s.Scans {
		add("scan", scan.Name, scan.Passed, scan.Log, scan.Tail)
	}
	return outputs
}

// runningOutputs returns the outputs of running jobs: the file of a local worker, or the end in
// the last heartbeat of a remote worker.
func (r outputReader) runningOutputs(ctx context.Context, s client.Snapshot) (outputs []output) {
	if s.IsOver() {
		return nil
	}
	for _, sent := range r.client.RunningOutputs(ctx, s.ID, s.Run) {
		o := output{Running: true, Text: sent.Tail, size: sent.Size}
		o.Kind, o.Name = parseLogName(s, sent.Log)
		if !r.isIncluded(o) {
			continue
		}
		if text, err := r.readFile(sent.Log); err == nil {
			o.Whole, o.Text, o.size = true, text, int64(len(text))
		}
		outputs = append(outputs, o)
	}
	return outputs
}

// hasMore reports whether a matching job runs or will run.
func (r outputReader) hasMore(s client.Snapshot) bool {
	if s.IsOver() || s.Partial {
		return false
	}
	isEarly := s.Phase == "" || s.Phase == release.Loading || s.Phase == release.Preflight
	return isEarly || slices.ContainsFunc(listJobOutputs(s), r.isIncluded)
}

// listJobOutputs returns the running and waiting jobs. A scan is the second part of the
// build with its name.
func listJobOutputs(s client.Snapshot) (running []output) {
	for _, j := range s.Jobs {
		kind, name, _ := strings.Cut(j.Name, " ")
		running = append(running, output{Kind: kind, Name: name, Running: true})
		if kind == "build" {
			running = append(running, output{Kind: "scan", Name: name, Running: true})
		}
	}
	return running
}

// parseLogName returns the kind and name of an output: logs/<workflow>/<run>/test-unit.log.
func parseLogName(s client.Snapshot, log string) (kind, name string) {
	_, file, _ := strings.Cut(log, "/"+s.Run+"/")
	kind, name, _ = strings.Cut(strings.TrimSuffix(file, ".log"), "-")
	return kind, name
}

// readFile returns an output that a local worker stored.
func (r outputReader) readFile(log string) (string, error) {
	if log == "" {
		return "", os.ErrNotExist
	}
	root, err := os.OpenRoot(r.dir) // prevents log names that lead out of the directory
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

// An outputPrinter prints outputs.
type outputPrinter struct {
	*World
	raw bool
}

// printText prints text, escaped unless raw, and ends its last line.
func (p outputPrinter) printText(text string) {
	if !p.raw {
		text = view.Escape(text)
	}
	fmt.Fprint(p.Stdout, text)
	if text != "" && !strings.HasSuffix(text, "\n") {
		fmt.Fprintln(p.Stdout)
	}
}

// sayState prints the name of an output and its result.
func (p outputPrinter) sayState(o output) {
	state := "failed"
	switch {
	case o.Running:
		state = "running"
	case o.Passed:
		state = "passed"
	}
	if !o.Whole {
		state += "; the end of its output, the rest is with the worker that ran it"
	}
	p.Say("== %s: %s", o.key(), state)
}
