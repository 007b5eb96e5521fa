package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/view"
)

// redrawInterval is the interval at which times on a terminal are updated. A redraw
// reads nothing.
const redrawInterval = 200 * time.Millisecond

// A follower shows a release until it has ended or is held.
type follower struct {
	*World
	client  *client.Client
	id, run string
	style   view.Style
	last    client.Snapshot
	changes <-chan client.Change
	drawn   []string // lines of the block on the terminal
	partial bool     // whether sayIfPartial was called for the last snapshots
	missing bool     // whether showMissedEvents was called with an error
	log     view.Log // renders the events if there is no terminal
	// stream prints each event to standard output as one line of JSON.
	stream bool
	// until, if set, ends followChanges early when it returns true.
	until func(client.Snapshot) bool
}

func newFollower(w *World, c *client.Client, id, run string) *follower {
	return &follower{World: w, client: c, id: id, run: run, style: w.Style(w.Stderr)}
}

// followRelease shows a release until it has ended or is held, and prints the report. It returns
// an *ExitError with the exit code of the result.
func followRelease(ctx context.Context, w *World, c *client.Client, id, run string, asJSON bool) error {
	return newFollower(w, c, id, run).followAndReport(ctx, asJSON, CodeOf)
}

// followTo is like follow, but returns when environment is done if the release continues
// further. The exit code is then that of environment.
func followTo(ctx context.Context, w *World, c *client.Client, id, run, environment string, asJSON bool) error {
	f := newFollower(w, c, id, run)
	f.until = func(s client.Snapshot) bool {
		e := s.EnvironmentStatus(environment)
		return e != nil && e.Outcome != "" && e != &s.Environments[len(s.Environments)-1]
	}
	return f.followAndReport(ctx, asJSON, func(s client.Snapshot) int {
		if !s.IsOver() && f.until(s) {
			w.Say("%s is done; the release continues to %s", environment, s.Environments[len(s.Environments)-1].Name)
			return codeOfOutcome(s.EnvironmentStatus(environment).Outcome)
		}
		return CodeOf(s)
	})
}

// followAndReport follows the release and prints the report. It returns an *ExitError with the code
// of the last Snapshot.
func (f *follower) followAndReport(ctx context.Context, asJSON bool, code func(client.Snapshot) int) error {
	err := f.followChanges(ctx)
	if ctx.Err() != nil {
		f.Say("detached: the release continues; `release watch %[1]s` follows it again, `release abort %[1]s` stops it", view.Ref(f.id))
		return ExitWith(ExitDetached)
	}
	if err != nil {
		return err
	}
	if f.stream {
		return ExitWith(code(f.last))
	}
	if err := printReport(ctx, f.World, f.client, f.last, asJSON, false); err != nil {
		return err
	}
	return ExitWith(code(f.last))
}

// followChanges prints the changes of the release until it has ended, it is held, or f.until
// returns true. A further call continues.
func (f *follower) followChanges(ctx context.Context) (err error) {
	f.drawn = nil
	if f.changes == nil {
		o := client.WatchOptions{Events: f.stream || !f.Terminal.Stderr}
		if f.changes, err = f.client.Watch(ctx, f.id, f.run, o); err != nil {
			return err
		}
	}
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case change, open := <-f.changes:
			if !open {
				return ctx.Err()
			}
			if err := f.applyChange(change); err != nil || f.isEnough() {
				return err
			}
		case <-tick.C:
			f.drawBlock()
		}
	}
}

// isEnough reports whether watch can return.
func (f *follower) isEnough() bool {
	return f.last.IsOver() || f.last.Held != nil || f.until != nil && f.until(f.last)
}

func (f *follower) applyChange(change client.Change) error {
	switch {
	case change.Unreachable != nil:
		f.clearBlock()
		f.Say("%v\nwaiting for it to come back", addRemedy(change.Unreachable))
	case change.Reachable:
		f.clearBlock()
		f.Say("Temporal answers again")
	case change.Snapshot.Partial:
		f.showPartial(change.Snapshot)
	default:
		f.partial = false
		f.printLines(change)
		isFirst := f.last.ID == ""
		f.last = change.Snapshot
		if !isFirst || !f.last.IsOver() {
			f.drawBlock()
		}
	}
	if err := f.printEvents(change.Events); err != nil {
		return err
	}
	f.showMissedEvents(change.MissedEvents)
	return nil
}

// showMissedEvents prints once why events are missing.
func (f *follower) showMissedEvents(err error) {
	if err == nil || f.missing {
		return
	}
	f.missing = true
	f.Say("read all events of %s: %v: some are missing; release status %[1]s shows the result", view.Ref(f.id), err)
}

// printEvents prints events as lines of JSON, if f.stream is set.
func (f *follower) printEvents(events []client.RecordedEvent) error {
	if !f.stream {
		return nil
	}
	for _, e := range events {
		if err := f.PrintJSONLine(e); err != nil {
			return err
		}
	}
	return nil
}

// showPartial prints once that no worker responds. f.last keeps the last full Snapshot.
func (f *follower) showPartial(s client.Snapshot) {
	if !f.partial {
		f.clearBlock()
		sayIfPartial(f.World, s)
		f.partial = true
	}
	if f.last.ID == "" {
		f.last = s
	}
}

// printLines prints the lines of each new event and of each new wait, if there is no
// terminal. The time of a line is that of its event.
func (f *follower) printLines(change client.Change) {
	if f.Terminal.Stderr || f.last.ID == "" && change.Snapshot.IsOver() {
		return // the terminal shows it, or the report will
	}
	for _, e := range change.Events {
		for _, line := range f.log.Lines(e.Run, e.Event) {
			f.Say("%s %s", e.At.In(f.Now().Location()).Format(time.TimeOnly), line)
		}
	}
	for _, line := range view.WaitLines(f.last.Status, change.Snapshot.Status) {
		f.Say("%s %s", f.Now().Format(time.TimeOnly), line)
	}
}

// drawBlock replaces the block on the terminal.
func (f *follower) drawBlock() {
	if !f.Terminal.Stderr || f.last.ID == "" || f.last.Partial {
		return
	}
	f.clearBlock()
	f.style = f.Style(f.Stderr) // the terminal may have been resized
	block := view.Live(f.last.Displayed(), f.Now(), f.style)
	fmt.Fprint(f.Stderr, block)
	f.drawn = strings.Split(strings.TrimSuffix(block, "\n"), "\n")
}

// clearBlock removes the block from the terminal. Its lines take more rows if the terminal has
// become narrower.
func (f *follower) clearBlock() {
	if len(f.drawn) == 0 {
		return
	}
	style := f.Style(f.Stderr)
	rows := style.Rows(f.drawn)
	if style.Height > 0 {
		rows = min(rows, style.Height-1)
	}
	fmt.Fprintf(f.Stderr, "\x1b[%dA\x1b[J", max(1, rows))
	f.drawn = nil
}
