package buildkit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"
)

// Lines are for people. Several may write at a time.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *lines) say(words string) { fmt.Fprintln(l, words) }

// A watch is what was seen of a build.
type watch struct {
	hidden [][]byte // values that nobody is to read
	steps  map[digest.Digest]*client.Vertex
	output map[digest.Digest][]byte // the end of what each step wrote
	failed digest.Digest            // the step that did, if one did
}

// Of a step's output, what an error quotes.
const tailBytes = 8 << 10

func newWatch(secrets map[string][]byte) *watch {
	w := &watch{steps: map[digest.Digest]*client.Vertex{}, output: map[digest.Digest][]byte{}}
	for _, value := range secrets {
		for _, line := range append([][]byte{value}, bytes.Split(value, []byte("\n"))...) { // as steps print them
			if line = bytes.TrimSpace(line); len(line) > 3 { // less is part of any word
				w.hidden = append(w.hidden, line)
			}
		}
	}
	return w
}

// tell writes progress as it comes, without secrets, until in is closed. When
// what it returns is closed, all is written.
func (w *watch) tell(in <-chan *client.SolveStatus, log io.Writer) <-chan struct{} {
	done := make(chan struct{})
	shown := make(chan *client.SolveStatus)
	display, err := progressui.NewDisplay(log, progressui.PlainMode)
	if err != nil {
		panic(err) // there is that mode
	}
	go func() {
		defer close(done)
		// A build that is called off says so until its channel is closed.
		display.UpdateFrom(context.Background(), shown)
	}()
	go func() {
		defer close(shown)
		for status := range in {
			w.see(status)
			shown <- status
		}
	}()
	return done
}

func (w *watch) see(status *client.SolveStatus) {
	for _, v := range status.Vertexes {
		if v.Error != "" && w.failed == "" && !strings.HasSuffix(v.Error, context.Canceled.Error()) {
			w.failed = v.Digest
		}
		if w.isStep(v) {
			w.steps[v.Digest] = v
		}
	}
	for _, l := range status.Logs {
		for _, value := range w.hidden {
			l.Data = bytes.ReplaceAll(l.Data, value, []byte("***"))
		}
		kept := append(w.output[l.Vertex], l.Data...)
		w.output[l.Vertex] = kept[max(0, len(kept)-tailBytes):]
	}
}

// isStep says whether v is an instruction of the Dockerfile.
func (w *watch) isStep(v *client.Vertex) bool {
	for _, other := range []string{"[internal]", "[auth]", "[context "} {
		if strings.HasPrefix(v.Name, other) {
			return false
		}
	}
	return strings.HasPrefix(v.Name, "[")
}

// cached says whether no step had to be carried out.
func (w *watch) cached() bool {
	for _, v := range w.steps {
		if !v.Cached {
			return false
		}
	}
	return len(w.steps) > 0
}
