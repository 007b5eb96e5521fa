package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// glance is how often what runs is looked at.
const glance = 500 * time.Millisecond

// overlap is how many bytes of what was written are looked for in what was
// recorded in the end.
const overlap = 200

// A tail follows outputs while they grow.
type tail struct {
	logs
	server *server
	meant  func(output) bool
	shown  map[string]int64  // bytes written of each
	recent map[string]string // the last of those
	closed map[string]bool   // its end was told
	last   string            // whose lines were written last
}

// follow writes what has ended, and what runs until nothing does any more. When
// ctx ends it says that the release goes on.
func (t *tail) follow(ctx context.Context, seen sight) error {
	for {
		for _, o := range t.running(ctx, t.server, seen, t.meant) {
			t.show(o)
		}
		for _, o := range t.ended(seen, t.meant) {
			t.end(o)
		}
		if !t.goesOn(seen, t.meant) {
			return nil
		}
		pause(ctx, glance)
		next, err := t.server.look(ctx, seen.ID, seen.Run)
		if ctx.Err() != nil {
			t.say("detached: the release goes on; `release watch %s` follows it", view.Ref(seen.ID))
			return &exit{code: exitDetached}
		}
		if err != nil {
			return err
		}
		if !next.Blind { // while no worker answers, what was seen last stands
			seen = next
		}
	}
}

// show writes what is new of o, in whole lines: others write, too.
func (t *tail) show(o output) {
	shown := t.shown[o.key()]
	if lost := o.size - int64(len(o.Text)) - shown; lost > 0 {
		t.turn(o)
		t.say("… %d bytes are with the worker that runs it", lost)
		shown += lost
	}
	text := o.Text[min(int64(len(o.Text)), max(0, int64(len(o.Text))-(o.size-shown))):]
	if end := strings.LastIndexByte(text, '\n'); o.Running {
		text = text[:end+1]
	}
	if text != "" {
		t.turn(o)
		t.write(text)
		t.recent[o.key()] = text[max(0, len(text)-overlap):]
	}
	t.shown[o.key()] = shown + int64(len(text))
}

// end writes the rest of what has ended, and how.
func (t *tail) end(o output) {
	if t.closed[o.key()] {
		return
	}
	t.closed[o.key()] = true
	if recent := t.recent[o.key()]; !o.Whole && recent != "" {
		// What was recorded is its end, of an output whose length is not known.
		if _, rest, ok := strings.Cut(o.Text, recent); ok {
			o.Text = rest
		}
		t.shown[o.key()], o.size = 0, int64(len(o.Text))
	}
	t.show(o)
	t.head(o)
	t.last = ""
}

// turn says whose lines follow, where they are others' than those before.
func (t *tail) turn(o output) {
	if t.last != o.key() {
		t.last = o.key()
		t.say("== %s", o.key())
	}
}

// told is how far the outputs of a workflow's running activities are, as their
// workers told Temporal last.
func (s *server) told(ctx context.Context, id, run string) (outputs []release.Output) {
	described, err := s.DescribeWorkflowExecution(ctx, id, run)
	if err != nil {
		return nil // it is looked at again
	}
	for _, a := range described.PendingActivities {
		var o release.Output
		if worker.DataConverter().FromPayloads(a.HeartbeatDetails, &o) == nil && strings.HasPrefix(o.Log, "logs/") {
			outputs = append(outputs, o)
		}
	}
	slices.SortFunc(outputs, func(a, b release.Output) int { return strings.Compare(a.Log, b.Log) })
	return outputs
}
