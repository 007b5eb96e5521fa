package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/microbima/release/internal/view"
)

// An env is all of the world that a command may touch besides the network.
type env struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer // for scripts, for people
	environ        []string
	self           string // how this program was called: what to type to call it again; "" is release
	dir            string
	now            func() time.Time
	outTerminal    bool // stdout is a terminal
	errTerminal    bool // stderr is one
	asks           bool // somebody can be asked
	size           func(io.Writer) (width, height int)
	patience       time.Duration // with workers; 0 is workerLimit
	logger         *slog.Logger  // of a worker; nil: commands print, they never log
}

// getenv is a variable's value, or "".
func (e *env) getenv(key string) string {
	value, _ := e.LookupEnv(key)
	return value
}

// LookupEnv is what Temporal's envconfig reads. The last of two wins.
func (e *env) LookupEnv(key string) (value string, found bool) {
	for _, entry := range e.environ {
		if rest, ok := strings.CutPrefix(entry, key+"="); ok {
			value, found = rest, true
		}
	}
	return value, found
}

// Environ is what Temporal's envconfig reads.
func (e *env) Environ() []string { return e.environ }

// worker is how long a worker may take to answer before it counts as absent.
func (e *env) worker() time.Duration { return cmp.Or(e.patience, workerLimit) }

// say tells people something. What is not this program's own text is escaped.
func (e *env) say(format string, args ...any) {
	fmt.Fprintln(e.stderr, view.Escape(fmt.Sprintf(format, args...)))
}

// warn tells people what they may not have meant.
func (e *env) warn(format string, args ...any) { e.say("warning: "+format, args...) }

// style is how text for w is drawn.
func (e *env) style(w io.Writer) view.Style {
	terminal := w == e.stdout && e.outTerminal || w == e.stderr && e.errTerminal
	s := view.Style{Zone: time.Local}
	if !terminal {
		return s
	}
	s.Colour = e.getenv("NO_COLOR") == "" && e.getenv("TERM") != "dumb"
	if e.size != nil {
		s.Width, s.Height = e.size(w)
	}
	return s
}

// json writes a value for scripts.
func (e *env) json(v any) error {
	var doc bytes.Buffer
	enc := json.NewEncoder(&doc)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := e.stdout.Write(view.EscapeJSON(doc.Bytes()))
	return err
}

// confirm asks a person. Only yes is yes.
func (e *env) confirm(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(e.stderr, "%s [y/N] ", view.Escape(question))
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(e.stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		e.say("")
		return false, ctx.Err()
	}
}
