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

// A syncWriter is the build's log. It may be used concurrently.
type syncWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *syncWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *syncWriter) println(text string) { fmt.Fprintln(l, text) }

// A progress collects the steps of a build and their output.
type progress struct {
	secrets [][]byte // masked in output
	steps   map[digest.Digest]*client.Vertex
	output  map[digest.Digest][]byte // the end of each step's output
	failed  digest.Digest            // the first step that failed; "" for none
}

// maxOutput is how many bytes of a step's output are kept for an error.
const maxOutput = 8 << 10

func newProgress(secrets map[string][]byte) *progress {
	p := &progress{steps: map[digest.Digest]*client.Vertex{}, output: map[digest.Digest][]byte{}}
	for _, value := range secrets {
		for _, line := range append([][]byte{value}, bytes.Split(value, []byte("\n"))...) { // a step may print a single line of it
			if line = bytes.TrimSpace(line); len(line) > 3 { // shorter values occur in ordinary words
				p.secrets = append(p.secrets, line)
			}
		}
	}
	return p
}

// display records the statuses from in and writes them to log without secrets. The
// returned channel is closed when in is closed and everything is written.
func (p *progress) display(in <-chan *client.SolveStatus, log io.Writer) <-chan struct{} {
	done := make(chan struct{})
	masked := make(chan *client.SolveStatus)
	ui, err := progressui.NewDisplay(log, progressui.PlainMode)
	if err != nil {
		panic(err) // the mode is valid
	}
	go func() {
		defer close(done)
		// A cancelled build reports its end until its channel is closed.
		ui.UpdateFrom(context.Background(), masked)
	}()
	go func() {
		defer close(masked)
		for status := range in {
			p.record(status)
			masked <- status
		}
	}()
	return done
}

// record stores the steps and their output, and masks secrets in status.
func (p *progress) record(status *client.SolveStatus) {
	for _, v := range status.Vertexes {
		if v.Error != "" && p.failed == "" && !strings.HasSuffix(v.Error, context.Canceled.Error()) {
			p.failed = v.Digest
		}
		if p.isStep(v) {
			p.steps[v.Digest] = v
		}
	}
	for _, l := range status.Logs {
		for _, value := range p.secrets {
			l.Data = bytes.ReplaceAll(l.Data, value, []byte("***"))
		}
		output := append(p.output[l.Vertex], l.Data...)
		p.output[l.Vertex] = output[max(0, len(output)-maxOutput):]
	}
}

// isStep reports whether v is an instruction of the Dockerfile.
func (p *progress) isStep(v *client.Vertex) bool {
	for _, prefix := range []string{"[internal]", "[auth]", "[context "} {
		if strings.HasPrefix(v.Name, prefix) {
			return false
		}
	}
	return strings.HasPrefix(v.Name, "[")
}

// allCached reports whether BuildKit had every step in its cache.
func (p *progress) allCached() bool {
	for _, v := range p.steps {
		if !v.Cached {
			return false
		}
	}
	return len(p.steps) > 0
}
