package cli

import (
	"context"
	"strings"
	"time"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/view"
)

const (
	// tailInterval is the interval for reading running outputs.
	tailInterval = 500 * time.Millisecond
	// overlapBytes is the number of last printed bytes to search for in a recorded tail,
	// to continue after them.
	overlapBytes = 200
)

// A tail prints outputs as they grow.
type tail struct {
	outputPrinter
	reader  outputReader
	printed map[string]int64  // printed bytes of each output
	recent  map[string]string // the last printed bytes of each output
	closed  map[string]bool   // whether the end was printed
	current string            // output of the last printed lines
}

func newTail(p outputPrinter, r outputReader) *tail {
	return &tail{outputPrinter: p, reader: r, printed: map[string]int64{}, recent: map[string]string{}, closed: map[string]bool{}}
}

// followOutputs prints the outputs of ended jobs, and those of running jobs until they end.
func (t *tail) followOutputs(ctx context.Context, s client.Snapshot) error {
	tick := time.NewTicker(tailInterval)
	defer tick.Stop()
	for {
		for _, o := range t.reader.runningOutputs(ctx, s) {
			t.printNew(o)
		}
		for _, o := range t.reader.endedOutputs(s) {
			t.printEnd(o)
		}
		if !t.reader.hasMore(s) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		next, err := t.reader.client.Get(ctx, s.ID, s.Run)
		if ctx.Err() != nil {
			t.Say("detached: the release continues; `release watch %s` follows it", view.Ref(s.ID))
			return ExitWith(ExitDetached)
		}
		if err != nil {
			return err
		}
		if !next.Partial { // keep the last full Snapshot
			s = next
		}
	}
}

// printNew prints the new whole lines of o. Whole lines do not mix with other outputs.
func (t *tail) printNew(o output) {
	printed := t.printed[o.key()]
	if lost := o.size - int64(len(o.Text)) - printed; lost > 0 {
		t.switchTo(o)
		t.Say("… %d bytes are with the worker that runs it", lost)
		printed += lost
	}
	text := o.Text[min(int64(len(o.Text)), max(0, int64(len(o.Text))-(o.size-printed))):]
	if end := strings.LastIndexByte(text, '\n'); o.Running {
		text = text[:end+1]
	}
	if text != "" {
		t.switchTo(o)
		t.printText(text)
		t.recent[o.key()] = text[max(0, len(text)-overlapBytes):]
	}
	t.printed[o.key()] = printed + int64(len(text))
}

// printEnd prints the rest of an ended output, and its result.
func (t *tail) printEnd(o output) {
	if t.closed[o.key()] {
		return
	}
	t.closed[o.key()] = true
	if recent := t.recent[o.key()]; !o.Whole && recent != "" {
		// The report has only the tail, without the total length.
		if _, rest, ok := strings.Cut(o.Text, recent); ok {
			o.Text = rest
		}
		t.printed[o.key()], o.size = 0, int64(len(o.Text))
	}
	t.printNew(o)
	t.sayState(o)
	t.current = ""
}

// switchTo prints a heading if the lines before were of another output.
func (t *tail) switchTo(o output) {
	if t.current != o.key() {
		t.current = o.key()
		t.Say("== %s", o.key())
	}
}
