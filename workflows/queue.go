package workflows

import (
	"cmp"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// A waiting release reads the state of the other workflow after firstRecheck, then at
// growing intervals up to lastRecheck: a terminated workflow sends no signal.
const (
	firstRecheck = time.Minute
	lastRecheck  = 15 * time.Minute
)

// A queueState has the releases that wait for one environment, on the release that
// holds it or gets it next. The holder signals the next release when it leaves, and
// sends it the remaining tickets, so no release has to poll.
type queueState struct {
	held     string           // environment that this release holds, or ""
	awaited  string           // environment that this release waits for, or ""
	waiting  []release.Ticket // releases that wait, in the order of their turns
	isMyTurn bool             // another release signaled that it is this one's turn
}

// newTicket returns the ticket of this release for the queue of an environment.
func (r *releaseRun) newTicket(env release.Environment) release.Ticket {
	return release.Ticket{
		Environment: env.Name, Release: r.status().ID, Revision: r.req.Revision, Since: r.status().Started, Rollback: r.req.Rollback != nil,
	}
}

// waitInQueue waits until the release may try to lock the environment. It sends its
// ticket to the release that holds the lock and waits for a signal. If nothing holds
// the lock, it returns at once on the first try and sleeps some seconds on later ones.
// It returns a *supersededError if a newer revision has overtaken this one meanwhile.
func (r *releaseRun) waitInQueue(ctx workflow.Context, env release.Environment, tries int) error {
	r.enterPhase(ctx, release.Queued, env.Name)
	r.queue.awaited, r.queue.isMyTurn = env.Name, false
	defer func() {
		r.queue.awaited = ""
		if r.status().Queue != "" {
			r.record(ctx, release.QueueLeft(env.Name))
		}
	}()
	var holding activities.Holding
	if err := workflow.ExecuteActivity(withCallOptions(ctx, "Read who holds "+env.Name), act.ReadLockHolder, release.RolloutID(r.req.Project, env.Name)).Get(ctx, &holding); err != nil {
		return err
	}
	if r.queue.isMyTurn {
		return r.checkOvertaken(ctx, env)
	}
	if holding.Text == "" && tries == 0 {
		return nil
	}
	if holding.Text == "" { // another release was faster, or the refusal has another cause
		return workflow.Sleep(ctx, time.Second<<min(tries, 4))
	}
	r.record(ctx, release.QueueJoined(env.Name, holding.Text, holding.Release))
	r.showStatus(ctx)
	if holding.Release != "" {
		tickets := append([]release.Ticket{r.newTicket(env)}, r.queue.waiting...)
		err := workflow.SignalExternalWorkflow(ctx, holding.Release, "", release.EnqueueSignal, tickets).Get(ctx, nil)
		if err == nil {
			r.queue.waiting = nil
		} else if ctx.Err() != nil {
			return err
		}
	}
	if err := r.waitForTurn(ctx, env, tries); err != nil || !r.queue.isMyTurn {
		return err
	}
	return r.checkOvertaken(ctx, env)
}

// waitForTurn waits until the release gets its turn or the recheck timer fires.
func (r *releaseRun) waitForTurn(ctx workflow.Context, env release.Environment, tries int) error {
	isTime, stop := startRecheckTimer(ctx, tries, "Recheck who holds "+env.Name)
	defer stop()
	return workflow.Await(ctx, func() bool { return r.queue.isMyTurn || isTime() })
}

// startRecheckTimer starts a timer that grows with the number of rechecks so far.
// isTime reports whether it has fired; stop cancels it.
func startRecheckTimer(ctx workflow.Context, rechecks int, summary string) (isTime func() bool, stop func()) {
	ctx, stop = workflow.WithCancel(ctx)
	timer := workflow.NewTimerWithOptions(ctx, min(firstRecheck<<min(rechecks, 8), lastRecheck), workflow.TimerOptions{Summary: view.Summary(summary)})
	return timer.IsReady, stop
}

// checkOvertaken returns a *supersededError if a descendant of the revision waits
// behind this release and the environment takes only the newest release.
func (r *releaseRun) checkOvertaken(ctx workflow.Context, env release.Environment) error {
	var others []release.Revision
	for _, t := range r.queue.waiting {
		if !t.Rollback {
			others = append(others, t.Revision)
		}
	}
	if env.Queue == release.QueueEach || r.req.Rollback != nil || r.unsettled != nil || len(others) == 0 {
		return nil
	}
	var newer *release.Revision
	err := workflow.ExecuteActivity(withGitOptions(ctx, "Compare the revisions that wait for "+env.Name), act.FindNewerRevision, activities.NewerRevisionInput{
		Source: r.source(), Others: others,
	}).Get(ctx, &newer)
	if err == nil && newer != nil {
		err = &supersededError{environment: env.Name, newer: newer, waits: true}
	}
	return err
}

// leaveQueue signals the next waiting release that the environment is free.
func (r *releaseRun) leaveQueue(ctx workflow.Context) {
	r.queue.held = ""
	waiting := r.queue.waiting
	r.queue.waiting = nil
	r.signalNext(ctx, waiting)
}

// signalNext signals the first release of the tickets that still exists that it is its
// turn, and sends it the remaining tickets.
func (r *releaseRun) signalNext(ctx workflow.Context, tickets []release.Ticket) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	for i, t := range tickets {
		turn := release.Turn{Environment: t.Environment, Behind: tickets[i+1:]}
		err := workflow.SignalExternalWorkflow(ctx, t.Release, "", release.TurnSignal, turn).Get(ctx, nil)
		if err == nil {
			return
		}
		workflow.GetLogger(ctx).Info("a waiting release no longer exists", "environment", t.Environment, "release", t.Release, "error", err)
	}
}

// addTickets adds tickets to the queue and sorts it: rollbacks first, then by the start
// of their releases. Tickets of known releases are ignored.
func (r *releaseRun) addTickets(tickets []release.Ticket) {
	for _, t := range tickets {
		known := slices.ContainsFunc(r.queue.waiting, func(other release.Ticket) bool { return other.Release == t.Release })
		if !known && t.Release != r.status().ID {
			r.queue.waiting = append(r.queue.waiting, t)
		}
	}
	slices.SortStableFunc(r.queue.waiting, func(a, b release.Ticket) int {
		if a.Rollback != b.Rollback {
			if a.Rollback {
				return -1
			}
			return 1
		}
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Release, b.Release))
	})
}

// registerQueueSignals registers the signals that releases send each other while they
// wait for an environment.
func (r *releaseRun) registerQueueSignals(ctx workflow.Context) {
	r.handleSignals(ctx, workflow.GetSignalChannelWithOptions(ctx, release.EnqueueSignal, workflow.SignalChannelOptions{
		Description: "Sent by releases that wait for the environment that this release holds.",
	}), func(ctx workflow.Context, raw []byte) {
		tickets, err := release.ParseTickets(raw)
		switch {
		case err != nil:
			r.noteIgnoredSignal(ctx, release.EnqueueSignal, err)
		case r.queue.held == tickets[0].Environment:
			r.addTickets(tickets)
		default:
			r.signalNext(ctx, tickets) // this release has left the environment
		}
	})
	r.handleSignals(ctx, workflow.GetSignalChannelWithOptions(ctx, release.TurnSignal, workflow.SignalChannelOptions{
		Description: "Sent by the release that held the environment: it is the turn of this release.",
	}), func(ctx workflow.Context, raw []byte) {
		turn, err := release.ParseTurn(raw)
		switch {
		case err != nil:
			r.noteIgnoredSignal(ctx, release.TurnSignal, err)
		case r.queue.held == turn.Environment || r.queue.awaited == turn.Environment:
			r.queue.isMyTurn = true
			r.addTickets(turn.Behind)
		default:
			r.signalNext(ctx, turn.Behind) // this release no longer waits
		}
	})
}

// noteIgnoredSignal adds a note on why a signal was ignored.
func (c *statusLog) noteIgnoredSignal(ctx workflow.Context, signal string, why error) {
	c.addNote(ctx, "a signal %s does not count: %s", signal, why)
	c.showStatus(ctx)
}
