package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/enums/v1"

	"github.com/microbima/release/internal/view"
)

const (
	// redraw is how often clocks on a terminal go on. Nobody is asked for it.
	redraw = 200 * time.Millisecond
	// breath is how long news are gathered before the workflow is asked again:
	// each question costs an action.
	breath = 150 * time.Millisecond
	// again is how long to wait before a server that has gone is tried again.
	again = time.Second
	// waitsEvery is how often Temporal is asked what activities wait for: what is
	// tried again leaves no event. It is no action.
	waitsEvery = 3 * time.Second
)

type watch struct {
	*env
	asJSON bool
}

func newWatch(e *env) *cobra.Command {
	c := watch{env: e}
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a release until it is over",
		Long: `Watch follows a release until it is over: on a terminal as a block that
updates in place, elsewhere as a line for everything that happens.

It waits on the workflow's history and asks only when there is news. Ctrl-C
detaches: the release goes on. When the release is held, watch says what a
person may decide, and ends with exit code 5.`,
		Example: `  release watch 4f2d1c0b9a8e
  release watch HEAD
  release watch 4f2d --json > report.json`,
		Args: args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "write the last status to standard output as JSON")
	cmd.ValidArgsFunction = c.releases()
	return cmd
}

func (c watch) run(ctx context.Context, ref string) error {
	s, id, err := c.found(ctx, ref)
	if err != nil {
		return err
	}
	return c.follow(ctx, s, id, "", c.asJSON)
}

// A follower follows one release.
type follower struct {
	*env
	server  *server
	id      string
	run     string
	style   view.Style
	last    sight
	drawn   []string // lines of the block on the terminal
	blind   bool     // and people know
	rollout string
	leave   context.CancelFunc // the rollout
	news    chan struct{}
	away    chan error // Temporal does not answer: nil, it does again
	closed  func()     // the release has ended
	isOver  <-chan struct{}
	// until, if set, ends the watching early.
	until func(sight) bool
}

// follow watches a release until it is over, held, or ctx ends, and reports.
// Its error is an exit with the code that stands for the end.
func (e *env) follow(ctx context.Context, s *server, id, run string, asJSON bool) error {
	return e.followed(ctx, s, newFollower(e, s, id, run), asJSON, sight.code)
}

// followed is follow with a follower that may have enough earlier, and the exit
// code of what it saw last.
func (e *env) followed(ctx context.Context, s *server, f *follower, asJSON bool, code func(sight) int) error {
	err := f.watch(ctx)
	if ctx.Err() != nil {
		e.say("detached: the release goes on; `release watch %[1]s` follows it again, `release abort %[1]s` stops it", view.Ref(f.id))
		return &exit{code: exitDetached}
	}
	if err != nil {
		return err
	}
	if err := e.report(ctx, s, f.last, asJSON, false); err != nil {
		return err
	}
	return exitWith(code(f.last))
}

func newFollower(e *env, s *server, id, run string) *follower {
	over, closed := context.WithCancel(context.Background())
	return &follower{
		env: e, server: s, id: id, run: run, style: e.style(e.stderr),
		news: make(chan struct{}, 1), away: make(chan error, 1), closed: closed, isOver: over.Done(),
	}
}

func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return &exit{code: code}
}

// report writes how a release ended, or where it is.
func (e *env) report(ctx context.Context, s *server, seen sight, asJSON, details bool) error {
	seen.Cost = s.cost(ctx, seen)
	if asJSON {
		return e.json(seen)
	}
	style := e.style(e.stdout)
	style.Whole = details
	fmt.Fprint(e.stdout, view.Report(seen.shown(), seen.Cost.String(), e.now(), style))
	if seen.Page != "" {
		fmt.Fprintf(e.stdout, "\n%s\n", view.Escape(seen.Page))
	}
	e.blindly(seen)
	return nil
}

// watch shows what happens until the release is over or held, or until says so.
// It may be called again, and goes on where it was.
func (f *follower) watch(ctx context.Context) error {
	f.rollout, f.drawn = "", nil
	if err := f.look(ctx); err != nil || f.enough() {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go f.poll(ctx, f.id, f.last.Run, true)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	waits := time.NewTicker(waitsEvery)
	defer waits.Stop()
	for {
		f.chase(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-f.away:
			f.clear()
			if err != nil {
				f.say("%v\nwaiting for it to come back", err)
			} else {
				f.say("Temporal answers again")
			}
		case <-tick.C:
			f.draw()
		case <-waits.C:
			f.lookAtWaits(ctx)
		case <-f.news:
			if err := f.look(ctx); err != nil || f.enough() {
				return err
			}
		}
	}
}

// enough says whether there is nothing more to wait for.
func (f *follower) enough() bool {
	return f.last.over() || f.last.Held != nil || f.until != nil && f.until(f.last)
}

// chase follows the rollout under way too, if there is another one now.
func (f *follower) chase(ctx context.Context) {
	if f.last.Rollout == f.rollout {
		return
	}
	if f.leave != nil {
		f.leave()
	}
	ctx, f.leave = context.WithCancel(ctx)
	if f.rollout = f.last.Rollout; f.rollout != "" {
		go f.poll(ctx, f.rollout, "", false)
	}
}

// poll waits on a workflow's history and tells of news, until it is closed. A
// server that goes away is waited for. One failure is none: a server may no
// longer know what a long poll was about when a worker has died meanwhile.
func (f *follower) poll(ctx context.Context, id, run string, main bool) {
	for away, once := false, false; ctx.Err() == nil; {
		it := f.server.GetWorkflowHistory(ctx, id, run, true, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		var err error
		for it.HasNext() && err == nil {
			if _, err = it.Next(); err == nil {
				once = false
				f.wake()
				if away && main {
					away = false
					f.tell(ctx, nil)
				}
			}
		}
		if err == nil && main {
			f.closed()
		}
		if err == nil {
			f.wake() // it is closed; the parent of a rollout may not know yet
			if main {
				return
			}
		} else if main && !once {
			once = true
		} else if main && !away && ctx.Err() == nil {
			away = true
			f.tell(ctx, f.server.said(ctx, "follow "+view.Ref(id), err))
		}
		pause(ctx, again)
	}
}

func (f *follower) tell(ctx context.Context, err error) {
	select {
	case f.away <- err:
	case <-ctx.Done():
	}
}

// wake gathers news: a second one before the first was read is the same.
func (f *follower) wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// look asks where the release is, and shows it.
func (f *follower) look(ctx context.Context) error {
	if f.last.ID != "" {
		select {
		case <-time.After(breath):
		case <-f.isOver: // there will be no more news
		case <-ctx.Done():
		}
	}
	seen, err := f.server.look(ctx, f.id, f.run)
	if err != nil {
		if f.last.ID != "" && ctx.Err() == nil { // it answered before: it will again
			f.wakeLater(ctx)
			return nil
		}
		return err
	}
	if seen.Blind {
		if !f.blind {
			f.clear()
			f.blindly(seen)
			f.blind = true
		}
		if f.last.ID == "" {
			f.last = seen
		}
		f.wakeLater(ctx)
		return nil
	}
	f.blind = false
	f.print(seen)
	if f.last.ID != "" || !seen.over() {
		f.last = seen
		f.draw()
	}
	f.last = seen
	return nil
}

// lookAtWaits asks Temporal what activities wait for, and shows what is new.
func (f *follower) lookAtWaits(ctx context.Context) {
	if f.blind {
		return // it is looked at every second
	}
	described, err := f.server.DescribeWorkflowExecution(ctx, f.id, f.last.Run)
	if err != nil {
		return // it is asked again, and a long poll tells that Temporal is away
	}
	seen := f.last
	f.server.addWaits(ctx, &seen, described)
	f.print(seen)
	f.last = seen
}

func (f *follower) wakeLater(ctx context.Context) {
	go func() {
		pause(ctx, again)
		f.wake()
	}()
}

// print logs what is new, where there is no terminal to draw on.
func (f *follower) print(seen sight) {
	if f.errTerminal || f.last.ID == "" && seen.over() {
		return // drawn; or all of it is in the report
	}
	before := f.last.Status
	if before.Started.IsZero() || f.last.Blind {
		before.ID = ""
	}
	for _, line := range view.Lines(before, seen.shown()) {
		f.say("%s %s", f.now().Format(time.TimeOnly), line)
	}
}

// draw shows the block on the terminal in place of the one before.
func (f *follower) draw() {
	if !f.errTerminal || f.last.ID == "" || f.last.Blind {
		return
	}
	f.clear()
	f.style = f.env.style(f.stderr) // its size may be another now
	block := view.Live(f.last.shown(), f.now(), f.style)
	fmt.Fprint(f.stderr, block)
	f.drawn = strings.Split(strings.TrimSuffix(block, "\n"), "\n")
}

// clear takes the block off the terminal. On one that has become narrower since,
// its lines take more rows.
func (f *follower) clear() {
	if len(f.drawn) == 0 {
		return
	}
	style := f.env.style(f.stderr)
	rows := style.Rows(f.drawn)
	if style.Height > 0 {
		rows = min(rows, style.Height-1)
	}
	fmt.Fprintf(f.stderr, "\x1b[%dA\x1b[J", max(1, rows))
	f.drawn = nil
}
