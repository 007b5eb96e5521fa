// Package cli implements the commands of the release program: flags and output. Package
// client implements the operations on releases.
//
// Start with root.go. Each command has its own file.
package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/microbima/release/internal/rawjson"
	"github.com/microbima/release/internal/view"
)

// A World contains all that a command uses besides files and the network.
type World struct {
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer // for scripts; for users
	Env            Environ
	Self           string // command that starts this program again; "" is release
	Dir            string // the current directory
	Now            func() time.Time
	Terminal       Terminal
	WorkerTimeout  time.Duration // 0 for the default of the client
}

// A Terminal describes which streams are a terminal.
type Terminal struct {
	Stdout, Stderr bool
	CanAsk         bool                                // whether a user can be asked
	Size           func(io.Writer) (width, height int) // nil if unknown
}

// An Environ is a list of environment variables, as returned by os.Environ. It implements
// the interface of Temporal's envconfig.
type Environ []string

// Get returns the value of a variable, or "".
func (e Environ) Get(key string) string {
	value, _ := e.LookupEnv(key)
	return value
}

// LookupEnv returns the value of a variable, the last if there are several.
func (e Environ) LookupEnv(key string) (value string, found bool) {
	for _, entry := range e {
		if rest, ok := strings.CutPrefix(entry, key+"="); ok {
			value, found = rest, true
		}
	}
	return value, found
}

// Environ returns all variables.
func (e Environ) Environ() []string { return e }

// Say prints a line for users. It escapes text from other sources.
func (w *World) Say(format string, args ...any) {
	fmt.Fprintln(w.Stderr, view.Escape(fmt.Sprintf(format, args...)))
}

// Warn prints a warning for users.
func (w *World) Warn(format string, args ...any) { w.Say("warning: "+format, args...) }

// Style returns the style for text on a stream.
func (w *World) Style(stream io.Writer) view.Style {
	isTerminal := stream == w.Stdout && w.Terminal.Stdout || stream == w.Stderr && w.Terminal.Stderr
	s := view.Style{Zone: time.Local}
	if !isTerminal {
		return s
	}
	s.Colour = w.Env.Get("NO_COLOR") == "" && w.Env.Get("TERM") != "dumb"
	if w.Terminal.Size != nil {
		s.Width, s.Height = w.Terminal.Size(stream)
	}
	return s
}

// PrintJSON prints v as JSON for scripts.
func (w *World) PrintJSON(v any) error {
	doc, err := rawjson.MarshalIndent(v, "  ")
	if err != nil {
		return err
	}
	_, err = w.Stdout.Write(append(view.EscapeJSON(doc), '\n'))
	return err
}

// PrintJSONLine prints v as JSON on one line.
func (w *World) PrintJSONLine(v any) error {
	doc, err := rawjson.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Stdout.Write(append(view.EscapeJSON(doc), '\n'))
	return err
}

// Confirm asks a question and reports whether the answer is y or yes.
func (w *World) Confirm(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(w.Stderr, "%s [y/N] ", view.Escape(question))
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(w.Stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		w.Say("")
		return false, ctx.Err()
	}
}
